"""Exact, Prefix, Regex: which paths a route takes. They see the path as it is routed on, percent-decoded once."""

import re
from dataclasses import dataclass

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

    def __post_init__(self) -> None:
        try:
            re.compile(self.path)
        except re.error as exc:
            raise ConfigurationError(f"{self.path!r} is no regular expression: {exc}") from None

    def matches(self, path: str) -> bool:
        return re.fullmatch(self.path, path) is not None  # `re` keeps compiled patterns


Path = Exact | Prefix | Regex
