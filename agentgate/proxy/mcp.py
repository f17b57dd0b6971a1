"""MCPBackend: one MCP server behind the gateway, spoken to over Streamable HTTP, byte for byte and with no SDK.

What its clients may call and see is for rules to say; the protocol reads that, this only carries it. The server sees
neither the caller's credentials nor the browser that a request came from.
"""

from collections.abc import Sequence
from typing import Final

import httpx

from ..protocols.mcp import MCP
from ..protocols.protocol import Protocol
from ..respond import ASGIApp
from ..secret import Secret
from .backend import upstream_url
from .forward import Forward
from .upstream import PoolTransport

MCP_TIMEOUT: Final = httpx.Timeout(connect=10, read=None, write=60, pool=10)
"""Seconds. Reading has no end of its own: tools take long, and streams are silent; the client's leaving ends it."""

MAX_CONNECTIONS: Final = 1000  # every client of 2025-11-25 keeps a stream open for as long as its session lasts

_AUTHORIZATION: Final = b"authorization"
# The gateway has judged by it, and the server's own judgement would be about a Host that it was not sent.
_ORIGIN: Final = b"origin"


class MCPBackend:
    """Forwards to the MCP server at `url`, such as `http://tools:9000/mcp`: that very URL, whatever the route's path.

    A client's `Authorization` never goes on, unless `forward_authorization` says so: a token that was issued for the
    gateway is nobody else's business. `origins` and `session_key` are those of `MCP`; `timeout` and `transport` are as
    in `HTTPBackend`, but that reading takes as long as it takes.
    """

    mounts = False

    def __init__(
        self,
        url: str,
        *,
        origins: Sequence[str] = (),
        session_key: Secret | None = None,
        forward_authorization: bool = False,
        timeout: httpx.Timeout | float = MCP_TIMEOUT,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = upstream_url(url)
        self.name = self.url.netloc.decode("ascii")
        self.protocol: Protocol | None = MCP(origins=origins, session_key=session_key)
        self.transport = transport if transport is not None else PoolTransport(max_connections=MAX_CONNECTIONS)
        withheld = frozenset({_ORIGIN} if forward_authorization else {_ORIGIN, _AUTHORIZATION})
        self.app: ASGIApp = Forward(
            self.url,
            self.transport,
            httpx.Timeout(timeout),
            endpoint=True,
            withheld=withheld,
            protocol=self.protocol,
        )

    async def aclose(self) -> None:
        """Close the transport's connections."""
        await self.transport.aclose()

    def __repr__(self) -> str:
        return f"MCPBackend({str(self.url)!r})"
