"""Route and RouteTable: which traffic goes where, by the precedence of the Kubernetes Gateway API.

Routes are matched on what the edge has found to have one reading; nothing is normalised here. A request that no route
matches goes nowhere: there is no default backend.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from typing import Protocol as Structure
from urllib.parse import unquote

from ..auth.resource import ProtectedResource, below, host_of
from ..errors import ConfigurationError
from ..gate import checked_mode, slot
from ..policy import Authenticator, Authorizer
from ..posture import Mode
from ..protocols.protocol import Protocol
from ..request import Request
from ..respond import ASGIApp

Pattern = str | re.Pattern[str]

_HOST: Final = re.compile(r"(?:\*\.)?[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9])?|\[[0-9a-f:.]+\]").fullmatch


class Backend(Structure):
    """Where traffic goes: an ASGI app for requests that were let through, with something to close."""

    protocol: Protocol | None
    """What it speaks, so that rules can be about its calls; None for plain HTTP."""
    name: str
    """What rules call it: `backend.name`."""
    app: ASGIApp
    mounts: bool
    """Whether what comes below a route's path is for what is below the backend's URL, and not the whole path."""

    async def aclose(self) -> None:
        """Let go of its connections."""


@dataclass(frozen=True, slots=True)
class Exact:
    """The path, percent-decoded, is this one; a trailing slash makes it another."""

    path: str

    def matches(self, path: str) -> bool:
        return path == self.path


@dataclass(frozen=True, slots=True)
class Prefix:
    """The path begins with these segments: `/foo` matches `/foo`, `/foo/` and `/foo/x`, not `/foobar`."""

    path: str

    def matches(self, path: str) -> bool:
        prefix = self.path.rstrip("/")
        return path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in ("", "/")


@dataclass(frozen=True, slots=True)
class Regex:
    """The whole path matches this regular expression, which the operator answers for: it is Python's, not RE2."""

    path: str

    def __post_init__(self) -> None:
        try:
            re.compile(self.path)
        except re.error as exc:
            raise ConfigurationError(f"{self.path!r} is no regular expression: {exc}") from None

    def matches(self, path: str) -> bool:
        return re.fullmatch(self.path, path) is not None  # `re` keeps compiled patterns


_KINDS: Final = (Exact, Prefix, Regex)  # the more specific kind first


class Route:
    """Sends matching requests to a backend.

    `path`: text is a segment prefix; or `Exact(...)`, `Prefix(...)`, `Regex(...)`. `hosts`: names, or `*.example.com`;
    none for any host. `methods`, `headers` and `query` narrow it further: a value is compared as a whole, a compiled
    pattern must match all of it. `authenticate` and `mode` replace the gateway's (an empty list makes the route
    public), `authorize` is added to the gateway's. `name` is what the log calls it.
    """

    def __init__(
        self,
        path: str | Exact | Prefix | Regex,
        backend: Backend,
        *,
        hosts: Sequence[str] = (),
        methods: Sequence[str] = (),
        headers: Mapping[str, Pattern] | None = None,
        query: Mapping[str, Pattern] | None = None,
        name: str | None = None,
        authenticate: Sequence[Authenticator] | None = None,
        authorize: Sequence[Authorizer] = (),
        mode: Mode | None = None,
    ) -> None:
        self.path = Prefix(path) if isinstance(path, str) else path
        self.backend = backend
        self.hosts = tuple(host.lower().removesuffix(".") for host in hosts)
        self.methods = frozenset(methods)
        self.headers = {name.lower(): value for name, value in (headers or {}).items()}
        self.query = dict(query or {})
        self.name = name or self.path.path
        self.authenticate = None if authenticate is None else slot("authenticate", authenticate, Authenticator)
        self.authorize = slot("authorize", authorize, Authorizer)
        self.mode = None if mode is None else checked_mode(mode)
        faults = [f"route {self.name}: {host!r} is no host name" for host in self.hosts if _HOST(host) is None]
        faults += [f"route {self.name}: {method!r} is no method" for method in methods if not method.isupper()]
        if isinstance(hosts, str) or isinstance(methods, str):
            raise TypeError("hosts and methods are lists")
        if not isinstance(self.path, Regex) and not self.path.path.startswith("/"):
            faults.append(f"route {self.name}: a path begins with a slash")
        if faults:
            raise ConfigurationError(faults)

    def matches(self, path: str, request: Request) -> bool:
        """Whether the route takes a request with this path (below where the gateway is mounted); hosts aside."""
        return (
            self.path.matches(path)
            and (not self.methods or request.method in self.methods)
            and all(_equal(request.headers.get(name), value) for name, value in self.headers.items())
            # Repeated parameters: the Gateway API leaves it open; all of them must match, so none is looked past.
            and all(_all_equal(request.query.get(name), value) for name, value in self.query.items())
        )

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


def route_url(public_url: str, path: Exact | Prefix | Regex, hosts: Sequence[str]) -> str | None:
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
        super().__init__(Exact(unquote(resource.path.decode())), route.backend, hosts=hosts, name=route.name)
        self._resource = resource

    def matches(self, path: str, request: Request) -> bool:
        return self._resource.is_asked(request)


class RouteTable:
    """Routes in the order in which the Gateway API wants them tried.

    Host: an exact name, then the longest wildcard, then routes for any host; a less specific level is looked at only
    when a more specific one has no match. Within a level: kind of path, its length, a method, more headers, more
    query parameters, and then the order in which the routes were given.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self._exact: dict[str, list[Route]] = {}
        self._wildcard: dict[str, list[Route]] = {}
        self._any: list[Route] = []
        for route in sorted(routes, key=_precedence):  # sorting keeps the given order of equals
            for host in route.hosts:
                levels, name = (self._wildcard, host[1:]) if host.startswith("*.") else (self._exact, host)
                levels.setdefault(name, []).append(route)
            if not route.hosts:
                self._any.append(route)

    def match(self, path: str, request: Request) -> Route | None:
        """The route for this request, or None."""
        for level in self._levels(request.host):
            for route in level:
                if route.matches(path, request):
                    return route
        return None

    def _levels(self, host: str) -> Iterable[list[Route]]:
        if host in self._exact:
            yield self._exact[host]
        if self._wildcard:
            dot = host.find(".")
            while dot > 0:  # `*.example.com` matches any number of labels in front, at least one
                if host[dot:] in self._wildcard:
                    yield self._wildcard[host[dot:]]
                dot = host.find(".", dot + 1)
        yield self._any


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
