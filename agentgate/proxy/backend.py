"""HTTPBackend: a plain HTTP upstream. Its host comes from here alone, never from a request."""

import httpx

from ..errors import ConfigurationError
from ..protocols.protocol import Protocol
from ..respond import ASGIApp
from .forward import Forward
from .observed import Observed
from .upstream import PoolTransport
from .websocket import WebSockets, websocket_forward

DEFAULT_TIMEOUT = httpx.Timeout(connect=10, read=300, write=60, pool=10)
"""Seconds: to connect, for the first byte and between two chunks (event streams included), to send a chunk, and to
wait for a connection."""


class HTTPBackend:
    """Forwards to `url`, such as `http://httpbin:8000`; a path in it is put before the request's own.

    The upstream gets its own name as Host, or the client's with `preserve_host`. `transport` is any
    `httpx.AsyncBaseTransport`; the default is a connection pool of this backend's own, with TLS verified. `websockets`:
    what it allows of them; None forwards none.
    """

    protocol: Protocol | None = None
    mounts: bool = False

    def __init__(
        self,
        url: str,
        *,
        preserve_host: bool = False,
        timeout: httpx.Timeout | float = DEFAULT_TIMEOUT,
        transport: httpx.AsyncBaseTransport | None = None,
        websockets: WebSockets | None = None,
    ) -> None:
        base = upstream_url(url)
        self.url = base
        self.name = base.netloc.decode("ascii")
        self.transport = transport if transport is not None else PoolTransport()
        self._websockets = websocket_forward(websockets, self.transport)
        self.app: ASGIApp = Forward(
            base,
            Observed(self.transport),
            httpx.Timeout(timeout),
            preserve_host=preserve_host,
            websockets=self._websockets,
        )

    async def aclose(self) -> None:
        """Close the transport's connections, and every websocket."""
        if self._websockets is not None:
            self._websockets.shut()
        await self.transport.aclose()

    def __repr__(self) -> str:
        return f"HTTPBackend({str(self.url)!r})"


def upstream_url(url: str) -> httpx.URL:
    """The URL of an upstream; a `ConfigurationError` for what is none, or has a user, a query or a fragment."""
    try:
        base = httpx.URL(url)
    except (httpx.InvalidURL, TypeError) as exc:
        raise ConfigurationError(f"an upstream is a URL such as http://httpbin:8000: {exc}") from None
    if base.scheme not in ("http", "https") or not base.host:
        raise ConfigurationError("an upstream is an http or https URL with a host, such as http://httpbin:8000")
    if base.userinfo or base.query or base.fragment:
        raise ConfigurationError("an upstream URL has no user, query or fragment")
    return base
