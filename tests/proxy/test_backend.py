"""HTTPBackend: what an upstream may be, and what it is when nothing more is said."""

from dataclasses import fields

import httpx
import pytest

from agentgate import ConfigurationError, HTTPBackend
from agentgate.proxy.timeouts import DEFAULT_TIMEOUTS
from agentgate.proxy.upstream import PoolTransport

pytestmark = pytest.mark.anyio

URL_WANTED = "an upstream is an http or https URL with a host, such as http://httpbin:8000"
NOTHING_MORE = "an upstream URL has no user, query or fragment"

BAD = {
    "no scheme": ("httpbin:8000", URL_WANTED),
    "a host alone": ("httpbin", URL_WANTED),
    "a path": ("/headers", URL_WANTED),
    "nothing": ("", URL_WANTED),
    "another scheme": ("ftp://httpbin", URL_WANTED),
    "no host": ("http://", URL_WANTED),
    "no host but a path": ("http:///headers", URL_WANTED),
    "a user": ("http://user:hunter2@httpbin", NOTHING_MORE),
    "a query": ("http://httpbin/?a=b", NOTHING_MORE),
    "a fragment": ("http://httpbin/#a", NOTHING_MORE),
    "a port that is no number": ("http://httpbin:http", "an upstream is a URL such as http://httpbin:8000: "),
    "a control character": ("http://httpbin/\n", "an upstream is a URL such as http://httpbin:8000: "),
    "a number": (8000, "an upstream is a URL such as http://httpbin:8000: "),
}


@pytest.mark.parametrize(("url", "fault"), BAD.values(), ids=BAD)
def test_what_is_no_upstream(url: str, fault: str) -> None:
    """It is a ConfigurationError that shows what one looks like, and no password."""
    with pytest.raises(ConfigurationError) as caught:
        HTTPBackend(url)
    assert str(caught.value).startswith(fault)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://httpbin:8000", "https://httpbin/anything", "http://[::1]:80", "HTTP://a"])
async def test_what_is_one(url: str) -> None:
    """With a connection pool of its own, unless it is given a transport."""
    backend = HTTPBackend(url)
    assert backend.protocol is None
    assert isinstance(backend.transport, PoolTransport)
    assert repr(backend) == f"HTTPBackend({str(httpx.URL(url))!r})"
    await backend.aclose()


async def test_its_transport_is_closed_with_it() -> None:
    """Also one that it was given."""
    closed = []

    class Transport(httpx.AsyncBaseTransport):
        async def aclose(self) -> None:
            closed.append(self)

    transport = Transport()
    backend = HTTPBackend("http://httpbin", transport=transport)
    assert backend.transport is transport
    await backend.aclose()
    assert closed == [transport]


def test_no_wait_is_for_ever() -> None:
    """Every timeout has a default, but for the whole: nobody knows how long an answer is."""
    assert [field.name for field in fields(DEFAULT_TIMEOUTS) if getattr(DEFAULT_TIMEOUTS, field.name) is None] == [
        "total"
    ]
