"""MCPBackend: one MCP server behind the gateway, byte for byte and with no SDK, or several of them as one.

What its clients may call and see is for rules to say; the protocol reads that, this only carries it. The server sees
neither the caller's credentials nor the browser that a request came from.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import httpx

from ..errors import ConfigurationError
from ..protocols.mcp import MCP
from ..protocols.protocol import Protocol
from ..respond import ASGIApp
from ..secret import Secret
from .backend import upstream_url
from .federation import MCPTarget
from .forward import Forward
from .observed import Observed
from .upstream import PoolTransport

if TYPE_CHECKING:
    from .federation.app import Federation

MCP_TIMEOUT: Final = httpx.Timeout(connect=10, read=None, write=60, pool=10)
"""Seconds. Reading has no end of its own: tools take long, and streams are silent; the client's leaving ends it."""

MAX_CONNECTIONS: Final = 1000  # every client of 2025-11-25 keeps a stream open for as long as its session lasts

_AUTHORIZATION: Final = b"authorization"
# The gateway has judged by it, and the server's own judgement would be about a Host that it was not sent.
_ORIGIN: Final = b"origin"


class MCPBackend:
    """Forwards to the MCP server at `url`, such as `http://tools:9000/mcp`: that very URL, whatever the route's path.

    Several servers by name, `{"docs": "http://docs:9000/mcp", "tickets": MCPTarget(...)}`, are served as one: clients
    see the tool `docs_search` and the resource `docs+file:///a`; rules have the name without the target in front, and
    `mcp.tool.target`. It wants the extra `mcp`.

    A client's `Authorization` never goes on, unless `forward_authorization` says so: a token that was issued for the
    gateway is nobody else's business. `origins` and `session_key` are those of `MCP`; `timeout` and `transport` are as
    in `HTTPBackend`, but that reading takes as long as it takes. Those three are for one server alone.
    """

    mounts = False

    def __init__(
        self,
        url: str | Mapping[str, str | MCPTarget],
        *,
        origins: Sequence[str] = (),
        session_key: Secret | None = None,
        forward_authorization: bool = False,
        timeout: httpx.Timeout | float | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        if not isinstance(url, Mapping):
            self.url = upstream_url(url)
            self.name = self.url.netloc.decode("ascii")
            self.protocol: Protocol | None = MCP(origins=origins, session_key=session_key)
            self.transport = transport if transport is not None else PoolTransport(max_connections=MAX_CONNECTIONS)
            withheld = frozenset({_ORIGIN} if forward_authorization else {_ORIGIN, _AUTHORIZATION})
            seconds = httpx.Timeout(MCP_TIMEOUT if timeout is None else timeout)
            self.app: ASGIApp = Forward(
                self.url, Observed(self.transport), seconds, endpoint=True, withheld=withheld, protocol=self.protocol
            )
            self._close = self.transport.aclose
            self._shown = repr(str(self.url))
        else:
            if forward_authorization or timeout is not None or transport is not None:
                raise ConfigurationError("forward_authorization, timeout and transport are for one MCP server alone")
            targets = _targets(url)
            self.name = ",".join(targets)
            self.protocol = MCP(origins=origins, session_key=session_key, targets=[*targets])
            federation = _federation(targets)
            self.app, self._close = federation, federation.aclose
            self._shown = repr(targets)

    async def aclose(self) -> None:
        """End the sessions of a federation, and close the connections."""
        await self._close()

    def __repr__(self) -> str:
        return f"MCPBackend({self._shown})"


def _targets(urls: Mapping[str, str | MCPTarget]) -> dict[str, MCPTarget]:
    """The targets by name; one `ConfigurationError` for all that is wrong with them."""
    if not urls:
        raise ConfigurationError("a federation has at least one target")
    targets: dict[str, MCPTarget] = {}
    faults: list[str] = []
    for name, target in urls.items():
        try:
            targets[name] = target if isinstance(target, MCPTarget) else MCPTarget(target)
        except ConfigurationError as exc:
            faults += [f"target {name}: {fault}" for fault in exc.faults]
    if faults:
        raise ConfigurationError(faults)
    return targets


def _federation(targets: Mapping[str, MCPTarget]) -> "Federation":
    try:
        from .federation.app import Federation
    except ImportError as exc:
        raise ConfigurationError(
            f"several MCP servers want the extra `mcp`: agentgate-asgi[mcp] ({exc.name})"
        ) from None
    return Federation(targets)
