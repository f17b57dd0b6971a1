"""Request: what a policy may ask about one request.

A Request is a view over one ASGI scope. It is cheap to make, decodes nothing before it is asked, and never reads the
body: the Gate hands it one that a policy needs. It trusts nothing that the client says about itself: the peer is the
socket's, the host is only a name.
"""

import time
from collections.abc import Callable, Mapping, MutableMapping
from copy import copy
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, quote, unquote_to_bytes

from . import strict_json
from .address import Source, unmapped
from .call import Call
from .headers import Headers, HeadersInit, RawHeaders
from .nothing import NOTHING
from .principal import API_KEY, JWT, Principal

if TYPE_CHECKING:
    from .record import Record

Scope = MutableMapping[str, Any]

_UNREAD: Final = object()
_PATH_SAFE: Final = "/-._~!$&'()*+,;=:@%"


class Request:
    """One request, http or websocket, as policies see it. Build one for a test with `Request.http(...)`,
    `Request.tool(...)` and the other builders."""

    # What is worked out when somebody asks, or told later on.
    _json: Any = _UNREAD
    _path: str | None = None
    _by_name: dict[bytes, bytes] | None = None
    _host: str | None = None
    _headers: Headers | None = None
    _query: Mapping[str, tuple[str, ...]] | None = None
    _source: Source | None = None
    _backend: Mapping[str, str] | None = None
    _route: str | None = None
    prepared: dict[object, Any] | None = None
    """What policies have waited for in `prepare`, each under itself, for their `check`. None of a request that nobody
    serves, as in `Gate.explain`. All views of one request share it."""
    afterwards: "list[Callable[[Record], None]] | None" = None
    """Called with the Record when the response is over, before observers are told of it. None as above."""

    def __init__(
        self,
        scope: Scope,
        *,
        now: float | None = None,
        principals: tuple[Principal, ...] = (),
        call: Call | None = None,
        body: bytes | None = None,
    ) -> None:
        get = scope.get
        self.type: str = get("type", "http")
        self.method: str = get("method") or "GET"  # a websocket scope has none: its handshake is a GET
        self.scheme: str = get("scheme") or "http"
        self.http_version: str = get("http_version") or "1.1"
        self.scope_path: str = get("path") or ""
        self.root_path: str = get("root_path") or ""
        raw_path = get("raw_path")
        if raw_path is None:  # ASGI makes it optional
            raw_path = quote(self.scope_path, safe=_PATH_SAFE, errors="replace").encode()
        elif b"?" in raw_path:  # some test clients leave the query in it
            raw_path = raw_path.partition(b"?")[0]
        self.raw_path: bytes = raw_path
        self.query_string: bytes = get("query_string") or b""
        # An immutable copy: uvicorn with httptools appends request trailers to the list it handed out.
        self.raw_headers: RawHeaders = tuple(get("headers") or ())
        self.peer: tuple[str, int] | None = get("client")
        self.now: float = time.time() if now is None else now
        self._principals = principals
        self._call = call
        self._body = body

    def __copy__(self) -> "Request":
        copied = object.__new__(Request)
        copied.__dict__.update(self.__dict__)
        return copied

    # -- what was asked ------------------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        """The full path as the client sent it, percent-decoded once, with no query: what an ASGI app routes on."""
        if self._path is None:
            raw = self.raw_path
            self._path = (unquote_to_bytes(raw) if b"%" in raw else raw).decode("utf-8", "replace")
        return self._path

    @property
    def target(self) -> bytes:
        """Path and query, byte for byte as they came."""
        return self.raw_path + b"?" + self.query_string if self.query_string else self.raw_path

    @property
    def authority(self) -> str:
        """The Host header as sent, port included; empty when there is none."""
        return self.by_name.get(b"host", b"").decode("latin-1")

    @property
    def by_name(self) -> dict[bytes, bytes]:
        """The headers as a dictionary: of a repeated one, the last value, so compare its length with `raw_headers`."""
        if self._by_name is None:
            self._by_name = dict(self.raw_headers)
        return self._by_name

    @property
    def host(self) -> str:
        """The host name asked for: lower case, without port and without a trailing dot."""
        if self._host is None:
            name = self.authority.lower()
            if not name.endswith("]"):  # an IPv6 literal without port ends in its bracket
                name = name.rpartition(":")[0] if ":" in name else name
            self._host = name.removesuffix(".")
        return self._host

    @property
    def headers(self) -> Headers:
        """The request's headers, by name."""
        if self._headers is None:
            self._headers = Headers(self.raw_headers)
        return self._headers

    @property
    def query(self) -> Mapping[str, tuple[str, ...]]:
        """Query parameters, decoded: every value of each name, in order."""
        if self._query is None:
            query: dict[str, tuple[str, ...]] = {}
            for name, value in parse_qsl(self.query_string.decode("latin-1"), keep_blank_values=True):
                query[name] = (*query.get(name, ()), value)
            self._query = MappingProxyType(query)
        return self._query

    @property
    def source(self) -> Source | None:
        """Where the request comes from, address and port: the peer, an IPv4 address as one; or whom trusted proxies
        name (`Edge(trusted_proxies=...)`), with a port if they tell it. None without a peer."""
        if self._source is None and self.peer is not None:
            self._source = unmapped(self.peer[0]), self.peer[1]
        return self._source

    @property
    def backend(self) -> Mapping[str, str] | None:
        """Where the request is going (`name`, `type`, `protocol`), once a gateway has found its route."""
        return self._backend

    @property
    def route(self) -> str | None:
        """The name of the route that a gateway has found for it."""
        return self._route

    @property
    def call(self) -> Call | None:
        """The agent-level action inside the request, where its protocol is known."""
        return self._call

    @property
    def provisional(self) -> bool:
        """Whether what is not known leaves a rule open, rather than failing it: see `Call.provisional`."""
        return self._call is not None and self._call.provisional

    @property
    def body(self) -> bytes | None:
        """The whole body, for a policy that says it reads it (`Authorizer.reads_body`); None when nobody did."""
        return self._body

    def json(self) -> Any:
        """The body as strict JSON, parsed once. Raises `StrictJSONError`; a Gate has refused such a body before."""
        if self._json is _UNREAD:
            if self._body is None:
                raise strict_json.StrictJSONError("the body was not read")
            self._json = strict_json.loads(self._body)
        return self._json

    # -- who is asking -------------------------------------------------------------------------------------------

    @property
    def principal(self) -> Principal | None:
        """Who is asking, as proved by the innermost authenticator so far; None for an anonymous caller."""
        return self._principals[-1] if self._principals else None

    @property
    def principals(self) -> tuple[Principal, ...]:
        """Everybody that nested Gates have authenticated, outermost first."""
        return self._principals

    @property
    def api_key(self) -> Mapping[str, Any] | None:
        """The metadata of the accepted API key; None when there was none."""
        return self._attributes(API_KEY)

    @property
    def jwt(self) -> Mapping[str, Any] | None:
        """The claims of the verified token; None when there was none."""
        return self._attributes(JWT)

    def _attributes(self, source: str) -> Mapping[str, Any] | None:
        for principal in reversed(self._principals):
            if principal.source == source:
                return principal.attributes
        return None

    def __repr__(self) -> str:
        what = f"{self.method} {self.path}" if self._call is None else f"{self._call.protocol} {self._call.method}"
        return f"<Request {what}>"

    # -- builders: one request for a test or for `explain` -------------------------------------------------------

    @classmethod
    def http(
        cls,
        method: str = "GET",
        target: str = "/",
        *,
        headers: HeadersInit = (),
        host: str = "localhost",
        client: tuple[str, int] | None = ("127.0.0.1", 50000),
        api_key: Mapping[str, Any] | None = None,
        jwt: Mapping[str, Any] | None = None,
        now: float | None = None,
        call: Call | None = None,
        body: bytes = b"",
        type: str = "http",
    ) -> "Request":
        """A request as a client would send it: `target` is path and query. `api_key` (metadata) and `jwt` (claims)
        say that the caller has been authenticated already."""
        path, _, query = target.partition("?")
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in pairs]
        if not any(name == b"host" for name, _ in raw):
            raw.insert(0, (b"host", host.encode()))
        principals = []
        if api_key is not None:
            principals.append(Principal(str(api_key.get("name", "test")), API_KEY, MappingProxyType(dict(api_key))))
        if jwt is not None:
            principals.append(Principal(str(jwt.get("sub", "test")), JWT, MappingProxyType(dict(jwt))))
        scope = {
            "type": type,
            "method": method,
            "path": unquote_to_bytes(path).decode("utf-8", "replace"),
            "raw_path": path.encode("utf-8"),
            "query_string": query.encode("utf-8"),
            "headers": raw,
            "client": client,
        }
        return cls(scope, now=now, principals=tuple(principals), call=call, body=body)

    @classmethod
    def websocket(cls, target: str = "/", **options: Any) -> "Request":
        """A websocket handshake; options as for `http`."""
        return cls.http("GET", target, type="websocket", **options)

    @classmethod
    def tool(
        cls, name: str, arguments: Mapping[str, Any] = NOTHING, *, server: str | None = None, **options: Any
    ) -> "Request":
        """An MCP `tools/call`; `server` is the federated target. Other options as for `http`."""
        return cls._mcp(Call("mcp", "tools/call", tool=name, arguments=arguments, target=server), options)

    @classmethod
    def prompt(
        cls, name: str, arguments: Mapping[str, Any] = NOTHING, *, server: str | None = None, **options: Any
    ) -> "Request":
        """An MCP `prompts/get`."""
        return cls._mcp(Call("mcp", "prompts/get", prompt=name, arguments=arguments, target=server), options)

    @classmethod
    def resource(cls, uri: str, *, server: str | None = None, **options: Any) -> "Request":
        """An MCP `resources/read`."""
        return cls._mcp(Call("mcp", "resources/read", resource=uri, target=server), options)

    @classmethod
    def model(
        cls,
        name: str,
        *,
        provider: str = "openai",
        streaming: bool = False,
        params: Mapping[str, Any] = NOTHING,
        **options: Any,
    ) -> "Request":
        """A chat completion asked of the model `name`."""
        attributes = {"provider": provider, "streaming": streaming, "params": params}
        call = Call("llm", "chat", model=name, attributes=attributes)
        return cls.http("POST", options.pop("target", "/v1/chat/completions"), call=call, **options)

    @classmethod
    def message(
        cls,
        *,
        task: str | None = None,
        context: str | None = None,
        tenant: str | None = None,
        metadata: Mapping[str, Any] = NOTHING,
        **options: Any,
    ) -> "Request":
        """An A2A `SendMessage`, to `task` when one goes on."""
        named = {"contextId": context, "tenant": tenant}
        attributes = {"metadata": metadata, **{name: value for name, value in named.items() if value is not None}}
        call = Call("a2a", "SendMessage", task=task, attributes=attributes)
        return cls.http("POST", options.pop("target", "/"), call=call, **options)

    @classmethod
    def _mcp(cls, call: Call, options: dict[str, Any]) -> "Request":
        return cls.http("POST", options.pop("target", "/mcp"), call=call, **options)


def authenticated(request: Request, principal: Principal) -> None:
    """Note on the view that `principal` has been proved. The Gate's alone to call."""
    request._principals = (*request._principals, principal)


def forwarded_for(request: Request, source: Source) -> None:
    """Note on the view whom it comes from, as trusted proxies tell. The edge's alone to call."""
    request._source = source


def routed(request: Request, backend: Mapping[str, str] | None, route: str | None = None) -> None:
    """Note on the view where it is going. A gateway's alone to call."""
    request._backend = backend
    request._route = route


def with_body(request: Request, body: bytes) -> None:
    """Note the body on the view. The Gate's alone to call."""
    if request._body != body:
        request._body, request._json = body, _UNREAD


def called(request: Request, call: Call | None) -> None:
    """Note on the view what it asks for. The Gate's alone to call."""
    request._call = call


def calling(request: Request, call: Call) -> Request:
    """The same request, seen as this call."""
    view = copy(request)
    view._call = call
    return view


def with_headers(request: Request, headers: RawHeaders, query: bytes | None = None) -> Request:
    """The same request with other headers, and another query. The Gate's alone to call."""
    changed = copy(request)
    changed.raw_headers = headers
    changed._by_name = changed._headers = changed._host = None
    if query is not None:
        changed.query_string, changed._query = query, None
    return changed


def mounted(request: Request, root_path: str) -> Request:
    """The same request, as an app sees it that is mounted at `root_path`."""
    view = copy(request)
    view.root_path = root_path
    return view


def below_mount(request: Request) -> tuple[str, bytes]:
    """Decoded and raw path without the prefix that the app is mounted at, which is cut once, at a slash."""
    root = request.root_path.rstrip("/")
    if root:
        segments = request.raw_path.split(b"/")
        depth = root.count("/") + 1
        if unquote_to_bytes(b"/".join(segments[:depth])) == root.encode():  # no encoded slash stands for one of its own
            return request.path[len(root) :] or "/", b"/" + b"/".join(segments[depth:])
    return request.path, request.raw_path
