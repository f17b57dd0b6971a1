"""Exact, Prefix, Regex: which paths a route takes. They see the path as it is routed on, percent-decoded once."""

import re
from dataclasses import dataclass, field

from ..errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Exact:
    """The path, percent-decoded, is this one; a trailing slash makes it another."""

    path: str

    def matches(self, path: str) -> bool:
        return path == self.path


@dataclass(frozen=True, slots=True)
class Prefix:
    """The path begins with these segments: `/foo` matches `/foo`, `/foo/` and `/foo/x`, not `/foobar`."""

    path: str

    def matches(self, path: str) -> bool:
        prefix = self.path.rstrip("/")
        return path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in ("", "/")


@dataclass(frozen=True, slots=True)
class Regex:
    """The whole path matches this regular expression, which the operator answers for: it is Python's, not RE2."""

    path: str
    _compiled: re.Pattern[str] = field(init=False, repr=False, compare=False)  # `re` itself keeps no more than 512

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "_compiled", re.compile(self.path))
        except re.error as exc:
            raise ConfigurationError(f"{self.path!r} is no regular expression: {exc}") from None

    def matches(self, path: str) -> bool:
        return self._compiled.fullmatch(path) is not None


Path = Exact | Prefix | Regex
