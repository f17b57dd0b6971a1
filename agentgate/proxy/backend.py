"""HTTPBackend: a plain HTTP upstream, one server or several. Its host comes from here alone, never from a request."""

from collections.abc import Sequence

import httpx

from ..protocols.protocol import Protocol
from ..respond import ASGIApp
from .endpoint import DEFAULT_HEALTH, Endpoint, Health, endpoints_at
from .failover import Failover
from .forward import Forward
from .observed import Observed
from .retry import Retry
from .timeouts import DEFAULT_TIMEOUTS, Timeouts
from .upstream import PoolTransport
from .websocket import WebSockets, websocket_forward


class HTTPBackend:
    """Forwards to `url`, such as `http://httpbin:8000`; a path in it is put before the request's own. Several servers,
    `["http://a:8000", Endpoint("http://b:8000", weight=0)]`, share the requests and stand in for one another.

    The upstream gets its own name as Host, or the client's with `preserve_host`. `retry`: when a request is sent again;
    None: only elsewhere, when it could not be sent. `health`: when one of several servers is asked last. `transport` is
    any `httpx.AsyncBaseTransport`; the default is a connection pool of this backend's own, with TLS verified.
    `websockets`: what it allows of them; None forwards none.
    """

    protocol: Protocol | None = None
    mounts: bool = False

    def __init__(
        self,
        url: str | Sequence[str | Endpoint],
        *,
        preserve_host: bool = False,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        retry: Retry | None = None,
        health: Health = DEFAULT_HEALTH,
        transport: httpx.AsyncBaseTransport | None = None,
        websockets: WebSockets | None = None,
    ) -> None:
        self.endpoints = endpoints_at(url)
        self.url = self.endpoints[0].url
        self.name = self.url.netloc.decode("ascii")
        self.transport = transport if transport is not None else PoolTransport()

        def sending(transport: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
            return sender(self.endpoints, transport, retry, health, preserve_host=preserve_host)

        self._websockets = websocket_forward(websockets, self.transport, sending)
        self.app: ASGIApp = Forward(
            self.url,
            sending(Observed(self.transport)),
            timeouts,
            preserve_host=preserve_host,
            websockets=self._websockets,
        )

    async def aclose(self) -> None:
        """Close the transport's connections, and every websocket."""
        if self._websockets is not None:
            self._websockets.shut()
        await self.transport.aclose()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({shown(self.endpoints)})"


def sender(
    endpoints: Sequence[Endpoint],
    transport: httpx.AsyncBaseTransport,
    retry: Retry | None,
    health: Health,
    *,
    preserve_host: bool = False,
) -> httpx.AsyncBaseTransport:
    """What sends requests to these endpoints by an `Observed` transport: that alone, for one of them and no retry."""
    if len(endpoints) == 1 and retry is None:
        return transport
    return Failover(endpoints, transport, retry=retry, health=health, preserve_host=preserve_host)


def shown(endpoints: Sequence[Endpoint]) -> str:
    """As in code."""
    return repr(str(endpoints[0].url)) if len(endpoints) == 1 else repr([*endpoints])
