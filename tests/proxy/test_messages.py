"""Requests and responses that are httpx's as far as anybody looks."""

import httpx
import pytest

from agentgate.attempt import Attempt
from agentgate.proxy.messages import UpstreamRequest, UpstreamResponse, origin_of, raw_headers

pytestmark = pytest.mark.anyio

BASE = httpx.URL("http://tools:9000/base")
HEADERS = [(b"host", b"tools:9000"), (b"x-a", b"1")]


def request() -> UpstreamRequest:
    """A request as `Forward` makes one."""
    stream = httpx.ByteStream(b"body")
    return UpstreamRequest("POST", BASE, origin_of(BASE), b"/base/x?y=%7E", HEADERS, stream, {"timeout": {}})


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://tools:9000/x", ("http", b"tools", 9000)),
        ("http://tools", ("http", b"tools", 80)),
        ("https://tools", ("https", b"tools", 443)),
        ("http://[::1]:8000", ("http", b"::1", 8000)),
        ("gopher://tools", ("gopher", b"tools", 0)),
    ],
)
def test_the_origin_of(url: str, origin: tuple[str, bytes, int]) -> None:
    """Scheme, host and port, the port even where the URL leaves it out."""
    assert origin_of(httpx.URL(url)) == origin


async def test_a_request_is_one_of_httpx() -> None:
    """With URL, headers and body for whoever asks, and the target as it is to be sent."""
    made = request()
    assert isinstance(made, httpx.Request)
    assert str(made.url) == "http://tools:9000/base/x?y=%7E"
    assert made.extensions == {"timeout": {}, "target": b"/base/x?y=%7E"}
    assert await made.aread() == b"body"
    assert repr(made) == "<UpstreamRequest('POST', 'http://tools:9000/base/x?y=%7E')>"


def test_headers_can_be_changed() -> None:
    """What is sent is what somebody has changed, or the very list that was given."""
    made = request()
    assert raw_headers(made) is HEADERS
    made.headers["x-a"] = "2"
    assert raw_headers(made) == [(b"host", b"tools:9000"), (b"x-a", b"2")]
    made.headers = httpx.Headers({"x-b": "3"})
    assert raw_headers(made) == [(b"x-b", b"3")]
    assert raw_headers(httpx.Request("GET", BASE, headers={"x-c": "4"}))[-1] == (b"x-c", b"4")


async def test_a_client_of_httpx_can_read_a_response() -> None:
    """Everything that `httpx.AsyncClient` does with a response works."""

    class Answer(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            stream = httpx.ByteStream(b'{"a": 1}')
            return UpstreamResponse(
                200, [(b"Content-Type", b"application/json")], stream, {"http_version": b"HTTP/1.1"}
            )

    async with httpx.AsyncClient(transport=Answer()) as client:
        response = await client.get("http://tools/")
    assert (response.status_code, response.json(), response.http_version) == (200, {"a": 1}, "HTTP/1.1")
    assert response.headers["content-type"] == "application/json"
    assert response.is_closed
    assert response.history == []
    assert response.request.url.host == "tools"
    response.raise_for_status()


def test_headers_are_taken_away_and_put_in_at_once() -> None:
    """Whether or not somebody has looked at them before, and of a request of httpx's own as well."""
    plain = httpx.Request("GET", BASE, headers=[(b"host", b"tools:9000"), (b"X-A", b"1")])
    looked_at = request()
    assert looked_at.headers["x-a"] == "1"
    for made in (request(), looked_at, plain):
        Attempt(made, 0).change_headers(frozenset({b"x-a"}), [(b"x-b", b"2")])
        assert raw_headers(made) == [(b"host", b"tools:9000"), (b"x-b", b"2")]
        assert made.headers.multi_items() == [("host", "tools:9000"), ("x-b", "2")]
    assert HEADERS == [(b"host", b"tools:9000"), (b"x-a", b"1")]


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://tools:9000/x", ("http", "tools", 9000)),
        ("https://tools", ("https", "tools", 443)),
        ("gopher://tools", ("gopher", "tools", None)),
    ],
)
def test_whom_an_attempt_asks(url: str, origin: tuple[str, str, int | None]) -> None:
    """Told by the request's origin, or by its URL."""
    base = httpx.URL(url)
    made = UpstreamRequest("GET", base, origin_of(base), b"/", [], httpx.ByteStream(b""), {})
    assert Attempt(made, 0).origin == origin
    assert Attempt(httpx.Request("GET", base), 0).origin == origin
