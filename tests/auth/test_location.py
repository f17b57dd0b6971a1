"""Where a credential is read: every value that a reader could take for it, and nothing guessed."""

from typing import Any

import pytest

from agentgate import BEARER, ConfigurationError, Cookie, Header, Query, Request
from agentgate.auth.location import Location
from agentgate.testing import http_scope


def with_headers(*headers: tuple[str, str]) -> Request:
    return Request(http_scope(headers=headers))


@pytest.mark.parametrize(
    ("location", "headers", "found"),
    [
        (BEARER, [], []),
        (BEARER, [("authorization", "Bearer abc")], [b"abc"]),
        (BEARER, [("AUTHORIZATION", "bearer abc")], [b"abc"]),
        (BEARER, [("authorization", "BEARER abc")], [b"abc"]),
        (BEARER, [("authorization", "Bearer")], []),
        (BEARER, [("authorization", "Bearer ")], []),
        (BEARER, [("authorization", "")], []),
        (BEARER, [("authorization", "Basic abc")], []),
        (BEARER, [("authorization", "abc")], []),
        (BEARER, [("authorization", "Bearerabc")], []),
        (BEARER, [("authorization", "Bearer\tabc")], []),
        (BEARER, [("authorization", " Bearer abc")], []),
        (BEARER, [("authorization", "Bearer  abc")], [b" abc"]),
        (BEARER, [("authorization", "Bearer abc ")], [b"abc "]),
        (BEARER, [("authorization", "Bearer abc, Bearer def")], [b"abc, Bearer def"]),
        (BEARER, [("authorization", "Bearer \xe9")], [b"\xe9"]),
        (BEARER, [("authorization", "Bearer a"), ("authorization", "Bearer b")], [b"a", b"b"]),
        (BEARER, [("authorization", "Basic a"), ("authorization", "Bearer b")], [b"b"]),
        (BEARER, [("x", "1"), ("x", "2"), ("authorization", "Bearer b")], [b"b"]),
        (BEARER, [("proxy-authorization", "Bearer abc")], []),
        (Header("X-API-Key"), [("x-api-key", "abc")], [b"abc"]),
        (Header("X-API-Key"), [("x-api-key", "")], []),
        (Header("x-api-key"), [("x_api_key", "abc")], []),
        (Header("x-api-key", "Key "), [("x-api-key", "abc")], []),
        (Header("x-api-key", "Key "), [("x-api-key", "kEY abc")], [b"abc"]),
        (Cookie("sid"), [], []),
        (Cookie("sid"), [("cookie", "sid=abc")], [b"abc"]),
        (Cookie("sid"), [("cookie", "a=1; sid=abc;b=2")], [b"abc"]),
        (Cookie("sid"), [("cookie", "sid=a=b")], [b"a=b"]),
        (Cookie("sid"), [("cookie", "SID=abc")], []),
        (Cookie("sid"), [("cookie", "xsid=abc")], []),
        (Cookie("sid"), [("cookie", "sid")], []),
        (Cookie("sid"), [("cookie", "sid=")], []),
        (Cookie("sid"), [("cookie", 'sid="abc"')], [b'"abc"']),
        (Cookie("sid"), [("cookie", "sid=a; sid=b")], [b"a", b"b"]),
        (Cookie("sid"), [("cookie", "sid=a"), ("cookie", "sid=b")], [b"a", b"b"]),
        (Cookie("sid"), [("cookie", "\tsid=a")], []),
    ],
)
def test_in_headers(location: Location, headers: list[tuple[str, str]], found: list[bytes]) -> None:
    """Header and Cookie find every value, compare a prefix without regard to case, and trim nothing."""
    assert location.find(with_headers(*headers)) == found


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", []),
        ("key=abc", [b"abc"]),
        ("a=1&key=abc&b=2", [b"abc"]),
        ("key=a%62c", [b"abc"]),
        ("%6bey=abc", [b"abc"]),
        ("key=a+b", [b"a b"]),
        ("key=a%2Bb", [b"a+b"]),
        ("key=a=b", [b"a=b"]),
        ("key=", []),
        ("key", []),
        ("KEY=abc", []),
        ("key =abc", []),
        ("mykey=abc", []),
        ("key=a&key=b", [b"a", b"b"]),
        ("key=a&%6Bey=b", [b"a", b"b"]),
        ("a=1;key=abc", []),
        ("key=%ff", [b"\xff"]),
    ],
)
def test_in_the_query(query: str, found: list[bytes]) -> None:
    """Query finds a parameter however its name is encoded, and all of them."""
    assert Query("key").find(Request.http("GET", f"/?{query}")) == found


@pytest.mark.parametrize(
    ("location", "headers", "query", "left", "left_query"),
    [
        (BEARER, [(b"a", b"1"), (b"authorization", b"Bearer x")], b"q", [(b"a", b"1")], b"q"),
        (BEARER, [(b"authorization", b"Bearer x"), (b"authorization", b"Basic y")], b"", [], b""),
        (Header("x-key"), [(b"x-key", b"x"), (b"authorization", b"y")], b"", [(b"authorization", b"y")], b""),
        (Query("key"), [(b"key", b"x")], b"a=1&key=x&b=%20+", [(b"key", b"x")], b"a=1&b=%20+"),
        (Query("key"), [], b"key=x", [], b""),
        (Query("key"), [], b"%6bey=x&key&key=&KEY=y&&", [], b"KEY=y&&"),
        (Cookie("sid"), [(b"cookie", b"a=1; sid=x; b=2")], b"", [(b"cookie", b"a=1; b=2")], b""),
        (Cookie("sid"), [(b"cookie", b"sid=x")], b"", [], b""),
        (Cookie("sid"), [(b"cookie", b"sid=x; sid=y;sid")], b"", [], b""),
        (Cookie("sid"), [(b"cookie", b"a=1"), (b"x", b"sid=x")], b"", [(b"cookie", b"a=1"), (b"x", b"sid=x")], b""),
    ],
)
def test_removal(
    location: Location,
    headers: list[tuple[bytes, bytes]],
    query: bytes,
    left: list[tuple[bytes, bytes]],
    left_query: bytes,
) -> None:
    """Removing a credential leaves no spelling of it, and everything else byte for byte."""
    assert location.remove(tuple(headers), query) == (left, left_query)


@pytest.mark.parametrize(
    ("kind", "arguments", "fault"),
    [
        (Header, ("",), "no header name"),
        (Header, ("x key",), "no header name"),
        (Header, ("x:key",), "no header name"),
        (Header, ("schl\xfcssel",), "no header name"),
        (Header, ("x-key", "Schl\xfcssel "), "ASCII"),
        (Query, ("",), "has a name"),
        (Cookie, ("",), "no cookie name"),
        (Cookie, ("a b",), "no cookie name"),
        (Cookie, ("a=b",), "no cookie name"),
        (Cookie, ("a;b",), "no cookie name"),
    ],
)
def test_places_that_cannot_be(kind: Any, arguments: tuple[str, ...], fault: str) -> None:
    """A location that no request could have is refused when it is written."""
    with pytest.raises(ConfigurationError, match=fault):
        kind(*arguments)


def test_locations_are_values() -> None:
    """Locations compare by what they say, and their repr says it."""
    assert Header("Authorization", "Bearer ") == BEARER
    assert hash(Header("Authorization", "Bearer ")) == hash(BEARER)
    assert len({Header("x-key"), Cookie("x-key"), Query("x-key")}) == 3
    assert repr(Cookie("Sid_1")) == "Cookie(name='Sid_1')"
    assert repr(Header("X-Key")) == "Header(name='x-key', prefix='')"
