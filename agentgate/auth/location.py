"""Where a credential is read from a request, and how it is removed once it was accepted.

Each location finds *every* value that a reader could take for the credential: more than one is for the authenticator
to refuse. Nothing is trimmed, unquoted or guessed.
"""

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote_to_bytes

from ..errors import ConfigurationError
from ..headers import RawHeaders
from ..request import Request

RawHeaderList = list[tuple[bytes, bytes]]

_TOKEN: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-!#$%&'*+.^`|~_")


@dataclass(frozen=True, slots=True)
class Header:
    """A header's value after `prefix`, which is compared without regard to case. Without the prefix there is no
    credential."""

    name: str = "authorization"
    prefix: str = ""
    _raw: tuple[bytes, bytes] = field(init=False, repr=False, compare=False)  # both of them, as headers spell them

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name.lower())
        if not self.name or not _TOKEN.issuperset(self.name):
            raise ConfigurationError(f"{self.name!r} is no header name")
        if not self.prefix.isascii():
            raise ConfigurationError("a header prefix is ASCII text")
        object.__setattr__(self, "_raw", (self.name.encode(), self.prefix.lower().encode()))

    def find(self, request: Request) -> list[bytes]:
        """The credentials found, empty ones left out."""
        name, prefix = self._raw
        size = len(prefix)
        if len(request.by_name) == len(request.raw_headers):  # no header is repeated
            value = request.by_name.get(name, b"")
            return [value[size:]] if len(value) > size and value[:size].lower() == prefix else []
        return [
            value[size:]
            for key, value in request.raw_headers
            if key == name and len(value) > size and value[:size].lower() == prefix
        ]

    def remove(self, headers: RawHeaders, query: bytes) -> tuple[RawHeaderList, bytes]:
        """Headers and query string without the credential."""
        name = self._raw[0]
        return [pair for pair in headers if pair[0] != name], query


@dataclass(frozen=True, slots=True)
class Query:
    """A query parameter. It ends up in other people's logs: prefer a header."""

    name: str

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigurationError("a query parameter has a name")

    def find(self, request: Request) -> list[bytes]:
        """The credentials found, empty ones left out."""
        if not request.query_string:
            return []
        values = [_decode(part.partition(b"=")[2]) for part in request.query_string.split(b"&") if self._is(part)]
        return [value for value in values if value]

    def remove(self, headers: RawHeaders, query: bytes) -> tuple[RawHeaderList, bytes]:
        """Headers and query string without the credential; the other parameters byte for byte."""
        return list(headers), b"&".join(part for part in query.split(b"&") if not self._is(part))

    def _is(self, part: bytes) -> bool:
        return _decode(part.partition(b"=")[0]) == self.name.encode()


@dataclass(frozen=True, slots=True)
class Cookie:
    """One cookie."""

    name: str

    def __post_init__(self) -> None:
        if not self.name or not _TOKEN.issuperset(self.name.lower()):
            raise ConfigurationError(f"{self.name!r} is no cookie name")

    def find(self, request: Request) -> list[bytes]:
        """The credentials found, empty ones left out."""
        name = self.name.encode()
        cookies = [
            crumb.partition(b"=") for key, value in request.raw_headers if key == b"cookie" for crumb in _crumbs(value)
        ]
        return [value for key, _, value in cookies if key == name and value]

    def remove(self, headers: RawHeaders, query: bytes) -> tuple[RawHeaderList, bytes]:
        """Headers and query string without the credential; the other cookies stay."""
        name = self.name.encode()
        kept: RawHeaderList = []
        for key, value in headers:
            if key == b"cookie":
                value = b"; ".join(crumb for crumb in _crumbs(value) if crumb.partition(b"=")[0] != name)
                if not value:
                    continue
            kept.append((key, value))
        return kept, query


Place = Header | Query | Cookie


@dataclass(frozen=True, init=False)
class AnyLocation:
    """Any of several places, for clients that do not agree on one: `AnyLocation(BEARER, Header("x-api-key"))`.

    The same credential in two of them is one; two different ones are several, and for the authenticator to refuse.
    """

    places: tuple[Place, ...]

    def __init__(self, *places: Place) -> None:
        if not places or any(not isinstance(place, Place) for place in places):
            raise ConfigurationError("AnyLocation takes Headers, Queries and Cookies, at least one")
        object.__setattr__(self, "places", places)

    def find(self, request: Request) -> list[bytes]:
        """The different credentials found, in all places."""
        return list(dict.fromkeys([value for place in self.places for value in place.find(request)]))

    def remove(self, headers: RawHeaders, query: bytes) -> tuple[RawHeaderList, bytes]:
        """Headers and query string without what any of the places holds."""
        left = list(headers)
        for place in self.places:
            left, query = place.remove(tuple(left), query)
        return left, query


Location = Place | AnyLocation

BEARER: Final = Header("authorization", "Bearer ")
"""`Authorization: Bearer <credential>`, where credentials are read unless something else is written."""

SDK_LOCATIONS: Final = AnyLocation(BEARER, Header("x-api-key"), Header("api-key"), Header("x-goog-api-key"))
"""Where the SDKs of OpenAI, Anthropic, Azure and Google send their key."""


def places(location: Location | None) -> tuple[Place, ...]:
    """Every place that a location is."""
    if location is None:
        return ()
    return location.places if isinstance(location, AnyLocation) else (location,)


def _decode(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" "))


def _crumbs(value: bytes) -> list[bytes]:
    return [crumb for crumb in (part.strip(b" ") for part in value.split(b";")) if crumb]
