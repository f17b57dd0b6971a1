"""MCPBackend: one MCP server behind the gateway, byte for byte and with no SDK, or several of them as one.

What its clients may call and see is for rules to say; the protocol reads that, this only carries it. The server sees
neither the caller's credentials nor the browser that a request came from.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import httpx

from ..decision import Reason, deny
from ..errors import ConfigurationError, needs_extra
from ..protocols.mcp import MCP
from ..protocols.protocol import Protocol
from ..respond import ASGIApp
from ..secret import Secret
from .backend import sender, shown
from .endpoint import DEFAULT_HEALTH, Endpoint, Health, endpoints_at
from .failover import Failover
from .federation import MCPTarget
from .forward import Forward, Refused
from .observed import Observed
from .retry import Retry
from .timeouts import Timeouts
from .upstream import PoolTransport

if TYPE_CHECKING:
    from .federation.app import Federation

MCP_TIMEOUTS: Final = Timeouts(first_byte=None, idle=None, events=None)
"""Reading has no end of its own: tools take long, and streams are silent; the client's leaving ends it."""

MAX_CONNECTIONS: Final = 1000  # every client of 2025-11-25 keeps a stream open for as long as its session lasts

TAG: Final = 8  # hex digits that tell an endpoint from the others of its backend

_SESSION: Final = "mcp-session-id"
_NO_SESSION: Final = deny(
    "session not found", status=404, code="session_not_found", reason=Reason.NOT_FOUND, policy="forward"
)
_AUTHORIZATION: Final = b"authorization"
# The gateway has judged by it, and the server's own judgement would be about a Host that it was not sent.
_ORIGIN: Final = b"origin"


class MCPBackend:
    """Forwards to the MCP server at `url`, such as `http://tools:9000/mcp`: that very URL, whatever the route's path.

    Several servers by name, `{"docs": "http://docs:9000/mcp", "tickets": MCPTarget(...)}`, are served as one: clients
    see the tool `docs_search` and the resource `docs+file:///a`; rules have the name without the target in front, and
    `mcp.tool.target`. It wants the extra `mcp`.

    A client's `Authorization` never goes on, unless `forward_authorization` says so: a token that was issued for the
    gateway is nobody else's business. `origins` and `session_key` are those of `MCP`. The rest is as in `HTTPBackend`,
    but that reading takes as long as it takes, and not for several servers by name. A list of URLs is one server that
    runs several times: each session stays where it was opened.
    """

    mounts = False

    def __init__(
        self,
        url: str | Sequence[str | Endpoint] | Mapping[str, str | MCPTarget],
        *,
        origins: Sequence[str] = (),
        session_key: Secret | None = None,
        forward_authorization: bool = False,
        timeouts: Timeouts = MCP_TIMEOUTS,
        retry: Retry | None = None,
        health: Health = DEFAULT_HEALTH,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        if not isinstance(url, Mapping):
            self.endpoints = endpoints_at(url)
            self.url = self.endpoints[0].url
            self.name = self.url.netloc.decode("ascii")
            self.protocol: Protocol | None = MCP(origins=origins, session_key=session_key)
            self.transport = transport if transport is not None else PoolTransport(max_connections=MAX_CONNECTIONS)
            withheld = frozenset({_ORIGIN} if forward_authorization else {_ORIGIN, _AUTHORIZATION})
            sending = (
                sender(self.endpoints, Observed(self.transport), retry, health)
                if len(self.endpoints) == 1
                else _Replicas(self.endpoints, Observed(self.transport), retry=retry, health=health)
            )
            self.app: ASGIApp = Forward(
                self.url, sending, timeouts, endpoint=True, withheld=withheld, protocol=self.protocol
            )
            self._close = self.transport.aclose
            self._shown = shown(self.endpoints)
        else:
            alone = (timeouts, retry, health, transport) == (MCP_TIMEOUTS, None, DEFAULT_HEALTH, None)
            if forward_authorization or not alone:
                raise ConfigurationError(
                    "forward_authorization, timeouts, retry, health and transport are for one MCP server alone"
                )
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


class _Replicas(Failover):
    """Endpoints that each know only the sessions that they have opened: an id tells whose it is."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        transport: httpx.AsyncBaseTransport,
        *,
        retry: Retry | None,
        health: Health,
    ) -> None:
        super().__init__(endpoints, transport, retry=retry, health=health)
        # Of the URL, not of the place in the list: the same on every replica of the gateway, and after a change.
        self._tags = {endpoint: sha256(str(endpoint.url).encode()).hexdigest()[:TAG] for endpoint in endpoints}

    def candidates(self, request: httpx.Request) -> Sequence[Endpoint]:
        session = request.headers.get(_SESSION)
        if session is None:
            return super().candidates(request)
        owners = [endpoint for endpoint, tag in self._tags.items() if session.startswith(tag + ".")]
        if not owners:
            raise Refused(_NO_SESSION)  # its endpoint is one no longer; clients then begin anew
        return owners

    async def addressed(self, request: httpx.Request, endpoint: Endpoint) -> httpx.Request:
        sent = await super().addressed(request, endpoint)
        if _SESSION in sent.headers:
            sent.headers[_SESSION] = sent.headers[_SESSION][TAG + 1 :]
        return sent

    async def answer(self, response: httpx.Response, endpoint: Endpoint) -> httpx.Response:
        ids = response.headers.get_list(_SESSION)
        if len(ids) == 1:  # else the protocol refuses it
            response.headers[_SESSION] = f"{self._tags[endpoint]}.{ids[0]}"
        return response


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
    except ImportError:
        raise ConfigurationError(needs_extra("MCPBackend with several servers", "mcp")) from None
    return Federation(targets)
