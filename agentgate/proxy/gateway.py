"""create_gateway: routes, backends and policies as one ASGI app.

Every request passes the edge, finds its route, and then faces that route's Gate; observers stand outside of all that
and see the request that no route matches, too.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from ..auth.identity import IdentityHeaders, identity_headers
from ..auth.resource import public_url as checked_public_url
from ..decision import Decision, Reason, deny
from ..edge import Edge
from ..errors import ConfigurationError
from ..gate import Gate, checked_mode, gate_behind, slot
from ..names import Names
from ..policy import Authenticator, Authorizer, Observer
from ..posture import Mode, Posture
from ..protocols.protocol import Protocol
from ..record import Record, record_of
from ..request import Request, Scope, below_mount, mounted, routed
from ..respond import ASGIApp, Receive, Send, respond
from .destination import Backend
from .filters import Filter
from .header_changes import RequestHeaders
from .mirror import Mirror
from .paths import Exact, Prefix
from .route import DocumentRoute, Route, RouteTable
from .weighted import Filtered, Weighted

if TYPE_CHECKING:
    from ..observe.metrics import Metrics

_NO_ROUTE: Final = deny(
    "route not found", status=404, code="route_not_found", reason=Reason.NOT_FOUND, policy="gateway"
)


# What agentgateway calls a kind of backend, by its protocol.
_TYPES: Final = {"http": "static", "a2a": "static", "mcp": "mcp", "llm": "ai"}


class Gateway:
    """What `create_gateway` makes: an ASGI app."""

    def __init__(
        self,
        routes: Sequence[Route],
        *,
        authenticate: Sequence[Authenticator] = (),
        authorize: Sequence[Authorizer] = (),
        observe: Sequence[Observer] = (),
        mode: Mode = "strict",
        edge: Edge | None = None,
        public_url: str | None = None,
        metrics: str | None = None,
        listeners: Sequence[str | None] = (),
    ) -> None:
        self.routes = tuple(routes)
        authenticate = slot("authenticate", authenticate, Authenticator)
        authorize = slot("authorize", authorize, Authorizer)
        observe = slot("observe", observe, Observer)
        checked_mode(mode)
        self._metrics: Route | None = None
        if metrics is not None:
            observe, self._metrics = _measured(observe, metrics, self.routes)
        self._policies: list[Authenticator | Authorizer] = [*authenticate, *authorize]
        for route in self.routes:
            self._policies.extend(route.authenticate or ())
            self._policies.extend(route.authorize)
        if not self.routes:
            raise ConfigurationError("a gateway has at least one route")
        if public_url is not None:
            public_url = checked_public_url(public_url)
        self._apps: dict[Route, ASGIApp] = {}
        self._gates: dict[Route, Gate] = {}
        self._backends = {id(route.backend): _told(route.backend) for route in self.routes}
        if self._metrics is not None:
            self._apps[self._metrics] = self._metrics.backend.app
            self._backends[id(self._metrics.backend)] = _told(self._metrics.backend)
        documents: list[DocumentRoute] = []
        faults: list[str] = []
        callers: dict[int, list[Authenticator]] = {}  # by backend: who recognises them, on whatever route
        for route in self.routes:
            known = authenticate if route.authenticate is None else route.authenticate
            callers.setdefault(id(_unfiltered(route.backend)), []).extend(known)
        for route in self.routes:
            recognise = authenticate if route.authenticate is None else route.authenticate
            decide = (*authorize, *route.authorize)
            app = route.app
            own = gate_behind(app)
            if own is not None:  # the backend's
                self._gates[route] = own
            protocol = route.backend.protocol
            if protocol is not None:
                url = None if public_url is None else route.mounted_below(public_url)
                if route.backend.mounts and route.mount is None:
                    faults.append(f"route {route.name}: its path is no one path that the backend can be mounted at")
                try:
                    protocol = protocol.at(url, callers[id(_unfiltered(route.backend))])
                except ConfigurationError as exc:
                    faults += [f"route {route.name}: {fault}" for fault in exc.faults]
                    continue
            if recognise or decide or protocol is not None:
                app = self._gates[route] = Gate(
                    app,
                    authenticate=recognise,
                    authorize=decide,
                    observe=() if recognise or decide else (_Nobody(),),  # who is told stands further out
                    mode=route.mode or mode,
                    edge=edge,
                    protocol=protocol,
                    public_url=None if public_url is None else route.url(public_url),
                )
                if app.resource is not None:
                    documents.append(DocumentRoute(route, app.resource))
                    self._apps[documents[-1]] = self._gates[documents[-1]] = app
            self._apps[route] = app if route.cors is None else route.cors.before(app)
        if faults:
            raise ConfigurationError(faults)
        if not observe and not any(gate.decides for gate in self._gates.values()):
            raise ConfigurationError("a gateway with no policy and no observer would let everything pass unseen")
        self._table = RouteTable([*self.routes, *documents], listeners)
        self._entry = Gate(self._dispatch, observe=observe or (_Nobody(),), edge=edge)
        self._entry.innermost = False
        named = self.routes if self._metrics is None else (*self.routes, self._metrics)
        self._entry.attach(_names(named, self._gates.values()))
        # What one route tells its upstream, no client tells it by way of another route, a public one for example.
        everybody = {id(policy): policy for policy in authenticate}
        everybody |= {id(policy): policy for route in self.routes for policy in route.authenticate or ()}
        self._entry.identity = identity_headers([*everybody.values()])
        if self._entry.identity is not None:
            _check_changes(self.routes, self._entry.identity)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._entry(scope, receive, send)

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        record = record_of(scope)
        assert record is not None  # the entry Gate has seen to it
        route = self.match(record.view)
        if route is None:
            record.protocol = None
            record.refuse(_NO_ROUTE)
            await respond(_NO_ROUTE, scope, send)
            return
        record.route = route.name
        routed(record.view, self._backends[id(route.backend)], route.name)
        if route.backend.mounts and route.mount:
            record.view = _below(route, record.view)
            scope = record.app_scope = {**scope, "root_path": record.view.root_path}
        app = self._apps[route]
        told = () if route in self._gates else record.judged()
        try:
            await app(scope, receive, send)
        finally:
            if told:
                record.returned(told)

    def match(self, request: Request) -> Route | None:
        """The route that a request takes, if the edge lets it in."""
        path, _ = below_mount(request)
        if self._metrics is not None and self._metrics.matches(path, request):
            return self._metrics
        return self._table.match(path, request)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self.aclose()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def aclose(self) -> None:
        """Close the connections of backends and policies. The lifespan does it; call it where the gateway is mounted
        without one."""
        found = {id(part): part for route in self.routes for part in _parts(route.backend, route.filters)}.values()
        # Mirrors first: what they have under way is in the way of their backends' end.
        await asyncio.gather(*(one.aclose() for one in found if isinstance(one, Mirror)))
        closing = [one.aclose() for one in found if not isinstance(one, Filter)]
        results = await asyncio.gather(*closing, self._close_policies(), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result  # when all have been asked

    async def _close_policies(self) -> None:
        """One after the other: several may share a store."""
        for policy in self._policies:
            await policy.aclose()

    def with_posture(self, change: Callable[[Posture], Posture]) -> "Gateway":
        """The same Gateway with other policies behind its routes, to `explain`. Requests do not meet it."""
        gateway = copy(self)
        gateway._gates = {route: gate.with_posture(change) for route, gate in self._gates.items()}
        return gateway

    def explain(self, request: Request, *, every: bool = False) -> list[Decision]:
        """The decisions that a request would meet, in order, the last one being the one that stands; nothing is
        forwarded. `every` is as in `Gate.explain`."""
        request = self._entry.cleaned(request)
        first = self._entry.explain(request, every=every)
        if first[-1].effect != "allow":
            return first
        route = self.match(request)
        if route is None:
            return [_NO_ROUTE, _NO_ROUTE] if every else [_NO_ROUTE]
        if route.cors is not None:
            preflight = route.cors.preflight(request)
            if preflight is not None:
                return [preflight, preflight] if every else [preflight]
        gate = self._gates.get(route)
        request = _below(route, copy(request))
        routed(request, self._backends[id(route.backend)], route.name)
        answers = first if gate is None else gate.explain(request, every=every)
        answer = route.answer(request) if answers[-1].effect == "allow" else None
        return answers if answer is None else [*answers[:-1], *([answer] if every else [answers[-1]]), answer]

    def __repr__(self) -> str:
        return f"Gateway({', '.join(map(repr, self.routes))})"


def spoken(backend: Backend) -> str:
    """The name of the protocol that a backend speaks: `mcp`, `llm`, `a2a`, or `http`."""
    protocol = backend.protocol
    if protocol is None and isinstance(backend.app, Gate):  # a Gate of the backend's own reads what it speaks
        protocol = backend.app.protocol
    return "http" if protocol is None else protocol.name


def _unfiltered(backend: Backend) -> Backend:
    while isinstance(backend, Filtered):
        backend = backend.backend
    return backend


def _parts(backend: Backend, filters: Sequence[Filter] = ()) -> Iterator[Backend | Filter]:
    """The backends that a backend is made of, and the filters before each of them, with the backends of mirrors."""
    yield from filters
    for one in filters:
        if isinstance(one, Mirror):
            yield from _parts(one.backend)
    if isinstance(backend, Filtered):
        yield from _parts(backend.backend, backend.filters)
    elif isinstance(backend, Weighted):
        for part in backend.parts:
            yield from _parts(part)
    else:
        yield backend


def _check_changes(routes: Sequence[Route], identity: IdentityHeaders) -> None:
    """Identity headers are the gateway's alone to set."""
    faults = [
        f"route {route.name}: RequestHeaders: {name}: this header tells who is asking, and is the gateway's to set"
        for route in routes
        for one in _parts(route.backend, route.filters)
        if isinstance(one, RequestHeaders)
        for name in sorted(name.decode() for name in one.names if identity.owns(name))
    ]
    if faults:
        raise ConfigurationError(faults)


def _told(backend: Backend) -> Mapping[str, str]:
    """What rules may know of a backend."""
    protocol = spoken(backend)
    return MappingProxyType({"name": backend.name, "type": _TYPES.get(protocol, "unknown"), "protocol": protocol})


def _below(route: Route, request: Request) -> Request:
    """The request as what is behind the route sees it."""
    if not (route.backend.mounts and route.mount):
        return request
    return mounted(request, request.root_path.rstrip("/") + route.mount)


def _names(routes: Sequence[Route], gates: Iterable[Gate]) -> Names:
    """What can be told apart behind these routes."""
    return Names.union([*(gate.names for gate in gates), Names(routes=frozenset(route.name for route in routes))])


def _measured(observe: tuple[Observer, ...], path: str, routes: Sequence[Route]) -> tuple[tuple[Observer, ...], Route]:
    """The observers with the Metrics among them, and the route by which those are read: it has no policy."""
    from ..observe.metrics import Metrics  # optional, and only where it is asked for

    counting = [observer for observer in observe if isinstance(observer, Metrics)]
    faults = [f"route {route.name}: it takes {path}, where the metrics are" for route in routes if _takes(route, path)]
    if len(counting) > 1:
        faults.append("metrics: there are several Metrics to be read")
    if faults:
        raise ConfigurationError(faults)
    if not counting:
        counting = [Metrics()]
        observe = (*observe, *counting)
    return observe, Route(Exact(path), _Exposed(counting[0]), name=path)


def _takes(route: Route, path: str) -> bool:
    """Whether the route is for this path, rather than for all that nobody else takes."""
    return route.path != Prefix("/") and route.path.matches(path)


class _Exposed:
    """The metrics as a backend: it forwards nothing."""

    protocol: Protocol | None = None
    name = "metrics"
    mounts = False

    def __init__(self, metrics: "Metrics") -> None:
        self.app: ASGIApp = metrics.app

    async def aclose(self) -> None:
        """There is nothing to close."""


class _Nobody(Observer):
    """Stands in where nobody observes: the entry Gate refuses what the edge refuses all the same."""

    def end(self, token: Any, record: Record) -> None:
        pass


def create_gateway(
    *routes: Route,
    authenticate: Sequence[Authenticator] = (),
    authorize: Sequence[Authorizer] = (),
    observe: Sequence[Observer] = (),
    mode: Mode = "strict",
    edge: Edge | None = None,
    public_url: str | None = None,
    metrics: str | None = None,
) -> Gateway:
    """An ASGI app that forwards what these routes and policies let through: `uvicorn mygateway:app`.

    A request that matches no route is 404 `route not found`. The gateway's `authenticate` holds for every route that
    has none of its own, its `authorize` for all of them. It can be mounted in a Starlette or FastAPI app. `public_url`:
    where clients reach it; with it, OAuth clients are told where to log in (RFC 9728). `metrics`: the path, such as
    `/metrics`, at which anybody who reaches the gateway may read its Metrics: those in `observe`, or new ones.
    """
    return Gateway(
        routes,
        authenticate=authenticate,
        authorize=authorize,
        observe=observe,
        mode=mode,
        edge=edge,
        public_url=public_url,
        metrics=metrics,
    )
