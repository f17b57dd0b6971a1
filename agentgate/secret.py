"""Secret: a value that cannot be printed by accident. It does not encrypt anything."""

import hmac
import os
from pathlib import Path
from typing import NoReturn

from .errors import ConfigurationError


class Secret:
    """Text that prints as `Secret(...)`. `reveal()` is the only way to read it, so every use can be found."""

    __slots__ = ("__value",)

    def __init__(self, value: str) -> None:
        if not value:
            raise ConfigurationError("a Secret may not be empty")
        self.__value = value

    @classmethod
    def env(cls, name: str) -> "Secret":
        """The environment variable `name`. Unset or empty: `ConfigurationError`."""
        value = os.environ.get(name)
        if not value:
            raise ConfigurationError(f"environment variable {name} is not set")
        return cls(value)

    @classmethod
    def file(cls, path: str | os.PathLike[str]) -> "Secret":
        """The text of a file, as UTF-8, without the line end that editors and `echo` add."""
        try:
            return cls(Path(path).read_text("utf-8").rstrip("\r\n"))
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigurationError(f"{path}: cannot read the secret ({type(exc).__name__})") from None

    def reveal(self) -> str:
        """The value itself."""
        return self.__value

    def __repr__(self) -> str:
        return "Secret(...)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "Secret(...)"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.__value.encode(), other.__value.encode())

    def __hash__(self) -> int:
        return hash(self.__value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled or copied into another process")
