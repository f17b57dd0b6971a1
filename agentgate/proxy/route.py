"""Route and RouteTable: which traffic goes where, by the precedence of the Kubernetes Gateway API.

Routes are matched on what the edge has found to have one reading; nothing is normalised here. A request that no route
matches goes nowhere: there is no default backend.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, Generic, TypeVar
from urllib.parse import unquote

from ..auth.resource import ProtectedResource, below, host_of
from ..decision import Decision
from ..errors import ConfigurationError
from ..gate import checked_mode, slot
from ..policy import Authenticator, Authorizer
from ..posture import Mode
from ..request import Request
from .cors import CORS
from .destination import Backend, NoBackend
from .filters import Filter, answered, filter_faults, served
from .path_index import PathIndex
from .paths import Exact, Path, Prefix, Regex
from .targets import Redirect
from .time_limit import is_limit

Pattern = str | re.Pattern[str]
_T = TypeVar("_T")

_HOST: Final = re.compile(r"(?:\*\.)?[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9])?|\[[0-9a-f:.]+\]").fullmatch


_KINDS: Final = (Exact, Prefix, Regex)  # the more specific kind first


class Route:
    """Sends matching requests to a backend.

    `path`: text is a segment prefix; or `Exact(...)`, `Prefix(...)`, `Regex(...)`. `hosts`: names, or `*.example.com`;
    none for any host. `methods`, `headers` and `query` narrow it further: a value is compared as a whole, a compiled
    pattern must match all of it. `authenticate` and `mode` replace the gateway's (an empty list makes the route
    public), `authorize` is added to the gateway's. `name` is what the log calls it.

    `filters` change what was let through, and the answer; with a `Redirect` among them there is no backend. `timeout`
    is for a request and all of its answer, `backend_timeout` for the backend's part in it, in seconds. `listener` is
    the host name of the Gateway API's listener that it is attached to, whose requests then see its routes alone.
    """

    def __init__(
        self,
        path: str | Path,
        backend: Backend | None = None,
        *,
        hosts: Sequence[str] = (),
        methods: Sequence[str] = (),
        headers: Mapping[str, Pattern] | None = None,
        query: Mapping[str, Pattern] | None = None,
        name: str | None = None,
        authenticate: Sequence[Authenticator] | None = None,
        authorize: Sequence[Authorizer] = (),
        mode: Mode | None = None,
        filters: Sequence[Filter] = (),
        timeout: float | None = None,
        backend_timeout: float | None = None,
        listener: str | None = None,
    ) -> None:
        self.path = Prefix(path) if isinstance(path, str) else path
        self.backend: Backend = NoBackend() if backend is None else backend
        self.hosts = tuple(host.lower().removesuffix(".") for host in hosts)
        self.methods = frozenset(methods)
        self.headers = {name.lower(): value for name, value in (headers or {}).items()}
        self.query = dict(query or {})
        self.name = name or self.path.path
        self.authenticate = None if authenticate is None else slot("authenticate", authenticate, Authenticator)
        self.authorize = slot("authorize", authorize, Authorizer)
        self.mode = None if mode is None else checked_mode(mode)
        self.filters = tuple(filters)
        self.cors = next((one for one in filters if isinstance(one, CORS)), None)
        self.listener = listener
        faults = [f"route {self.name}: {host!r} is no host name" for host in self.hosts if _HOST(host) is None]
        faults += [f"route {self.name}: {method!r} is no method" for method in methods if not method.isupper()]
        if isinstance(hosts, str) or isinstance(methods, str):
            raise TypeError("hosts and methods are lists")
        if not isinstance(self.path, Regex) and not self.path.path.startswith("/"):
            faults.append(f"route {self.name}: a path begins with a slash")
        faults += [f"route {self.name}: {fault}" for fault in filter_faults(filters, self.backend.protocol, self.path)]
        redirects = any(isinstance(one, Redirect) for one in filters)
        if redirects != (backend is None):
            problem = "a Redirect answers in place of a backend" if redirects else "a backend, or a Redirect"
            faults.append(f"route {self.name}: {problem}")
        for limit, seconds in (("timeout", timeout), ("backend_timeout", backend_timeout)):
            if not is_limit(seconds):
                faults.append(f"route {self.name}: {limit} is a number of seconds, more than 0")
        if faults:
            raise ConfigurationError(faults)
        self.app = served(self.backend, filters, self.path, timeout, backend_timeout)

    def matches(self, path: str, request: Request) -> bool:
        """Whether the route takes a request with this path (below where the gateway is mounted); hosts aside."""
        return (
            self.path.matches(path)
            and (not self.methods or request.method in self.methods or self._is_asked_about(request))
            and all(_equal(request.headers.get(name), value) for name, value in self.headers.items())
            # Repeated parameters: the Gateway API leaves it open; all of them must match, so none is looked past.
            and all(_all_equal(request.query.get(name), value) for name, value in self.query.items())
        )

    def _is_asked_about(self, request: Request) -> bool:
        """Whether this is the preflight of a request that the route would take; its `CORS` answers."""
        if self.cors is None or self.cors.preflight(request) is None:
            return False
        return request.by_name[b"access-control-request-method"].decode("latin-1") in self.methods

    def answer(self, request: Request) -> Decision | None:
        """What the route itself answers to a request that was let through; None where a backend does."""
        return answered(self.filters, self.path, self.backend, request)

    @property
    def mount(self) -> str | None:
        """The path at which the route mounts what is behind it, which may have well-known documents: for one of those
        it is what comes before. None where the path is no one path."""
        if isinstance(self.path, Regex):
            return None
        return self.path.path.partition("/.well-known/")[0].rstrip("/")

    def url(self, public_url: str) -> str | None:
        """See `route_url`."""
        return route_url(public_url, self.path, self.hosts)

    def mounted_below(self, public_url: str) -> str | None:
        """The URL of what the route mounts; None where the gateway's is not its own."""
        url = self.url(public_url)
        return None if url is None else url.partition("/.well-known/")[0]

    def __repr__(self) -> str:
        return f"Route({self.path!r}, {self.backend!r}, hosts={list(self.hosts)}, name={self.name!r})"


def route_url(public_url: str, path: Path, hosts: Sequence[str]) -> str | None:
    """A route's own URL where the gateway is reached at `public_url`; None where the route is not reached there: it is
    for other hosts, or its path is no one path."""
    host = host_of(public_url)
    if isinstance(path, Regex) or (hosts and not any(_admits(name, host) for name in hosts)):
        return None
    return below(public_url, path.path.rstrip("/") if isinstance(path, Prefix) else path.path)


class DocumentRoute(Route):
    """Leads the metadata about a protected route to that route's Gate, which answers. Any other spelling of its path
    is for whoever would have had it."""

    def __init__(self, route: Route, resource: ProtectedResource) -> None:
        hosts = [name for name in route.hosts if _admits(name, resource.host)]
        super().__init__(
            Exact(unquote(resource.path.decode())),
            route.backend,
            hosts=hosts,
            name=route.name,
            listener=route.listener,
        )
        self._resource = resource

    def matches(self, path: str, request: Request) -> bool:
        return self._resource.is_asked(request)


class RouteTable:
    """Routes in the order in which the Gateway API wants them tried.

    Host: an exact name, then the longest wildcard, then routes for any host; a less specific level is looked at only
    when a more specific one has no match. Within a level: kind of path, its length, a method, more headers, more
    query parameters, and then the order in which the routes were given. Where there are `listeners`, the most specific
    one for the host is alone in having the request, be it without any route.
    """

    def __init__(self, routes: Iterable[Route], listeners: Iterable[str | None] = ()) -> None:
        tables: dict[str | None, _ByHost[PathIndex[Route]]] = {name: _ByHost() for name in listeners}
        for route in sorted(routes, key=_precedence):  # sorting keeps the given order of equals
            table = tables.setdefault(route.listener, _ByHost())
            for host in route.hosts or (None,):
                table.at(host, PathIndex[Route]).append(route.path, route)
        self._listeners: _ByHost[_ByHost[PathIndex[Route]]] = _ByHost()
        for name, table in tables.items():
            self._listeners.at(name, lambda table=table: table)  # type: ignore[misc]
        self._only = tables[None] if tables.keys() == {None} else None

    def match(self, path: str, request: Request) -> Route | None:
        """The route for this request, or None."""
        host = request.host
        table = self._only or next(iter(self._listeners.levels(host)), None)
        if table is not None:
            for level in table.levels(host):
                for route in level.candidates(path, request.path):
                    if route.matches(path, request):
                        return route
        return None


class _ByHost(Generic[_T]):
    """Something for each of several host names, wildcards, or for any host (None)."""

    def __init__(self) -> None:
        self._exact: dict[str, _T] = {}
        self._wildcard: dict[str, _T] = {}
        self._any: list[_T] = []

    def at(self, host: str | None, make: Callable[[], _T]) -> _T:
        """What is there for this name, made if there is nothing yet."""
        if host is None:
            if not self._any:
                self._any.append(make())
            return self._any[0]
        found, name = (self._wildcard, host[1:]) if host.startswith("*.") else (self._exact, host)
        if name not in found:
            found[name] = make()
        return found[name]

    def levels(self, host: str) -> Iterator[_T]:
        """What there is for a host, the most specific first."""
        if host in self._exact:
            yield self._exact[host]
        if self._wildcard:
            dot = host.find(".")
            while dot > 0:  # `*.example.com` matches any number of labels in front, at least one
                if host[dot:] in self._wildcard:
                    yield self._wildcard[host[dot:]]
                dot = host.find(".", dot + 1)
        yield from self._any


def _admits(name: str, host: str) -> bool:
    return host.endswith(name[1:]) and len(host) >= len(name) if name.startswith("*.") else host == name


def _precedence(route: Route) -> tuple[int, int, bool, int, int]:
    kind = _KINDS.index(type(route.path))
    return kind, -len(route.path.path), not route.methods, -len(route.headers), -len(route.query)


def _equal(given: str | None, wanted: Pattern) -> bool:
    if given is None:
        return False
    return given == wanted if isinstance(wanted, str) else wanted.fullmatch(given) is not None


def _all_equal(given: tuple[str, ...] | None, wanted: Pattern) -> bool:
    return given is not None and all(_equal(value, wanted) for value in given)
