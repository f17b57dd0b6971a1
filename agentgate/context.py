"""The variables of a rule, under agentgateway's names: lazy views over one Request.

What is not there is left out, so that reading it is an error: `jwt` and `apiKey` of a caller without them, `source` of
a request without a peer, and `mcp`, `llm` and `a2a` while nobody has read which protocol a request speaks. Where one
is spoken, the others are there and empty: `has(mcp.tool)` is false for a chat completion.
"""

from collections.abc import Iterator, Mapping
from ipaddress import IPv6Address
from typing import Any, Final, TypeVar

from agentgate import cel

from .request import Call, Request

T = TypeVar("T")

_NAMED: Final = "struct{name: string, target?: string}"

PARAMS: Final[Mapping[str, str]] = {
    "temperature": "dyn",  # a number: 1 and 1.0 are both in use
    "top_p": "dyn",
    "frequency_penalty": "dyn",
    "presence_penalty": "dyn",
    "seed": "int",
    "max_tokens": "int",
    "encoding_format": "string",
    "dimensions": "int",
}
"""Members of `llm.params`, by agentgateway's names."""

VARIABLES: Final[Mapping[str, cel.TypeLike]] = {
    "request": {
        "method": "string",
        "uri": "string",
        "host": "string",
        "scheme": "string",
        "path": "string",
        "pathAndQuery": "string",
        "version": "string",
        "headers": "map(string, dyn)",
        "query": "map(string, list(string))",
        "startTime": "timestamp",
        "body": "bytes",
    },
    "source": "struct{address: string, port: int}",
    "apiKey": "map(string, dyn)",
    "jwt": "map(string, dyn)",
    "mcp": {
        "methodName?": "string",
        "sessionId?": "string",
        "tool?": "struct{name: string, target?: string, arguments?: dyn}",
        "prompt?": _NAMED,
        "resource?": _NAMED,
        "task?": _NAMED,
    },
    "llm": {
        "requestModel?": "string",
        "provider?": "string",
        "streaming?": "bool",
        "params?": f"struct{{{', '.join(f'{name}?: {kind}' for name, kind in PARAMS.items())}}}",
    },
    "a2a": "struct{method?: string, taskId?: string, contextId?: string, metadata?: map(string, dyn)}",
}
"""What rules may read, and of which type: anything else is refused when they are compiled."""


class Variables(dict[str, Any]):
    """The variables of one request, for `Expression.evaluate`: each is made when a rule first reads it, and kept."""

    __slots__ = ("_request",)

    def __init__(self, request: Request) -> None:
        super().__init__()
        self._request = request

    def __missing__(self, name: str) -> Any:
        value = _MAKERS[name](self._request)
        if value is None:
            raise KeyError(name)
        self[name] = value
        return value

    def __repr__(self) -> str:
        return f"Variables({self._request!r})"  # never the values: some are claims


class _RequestView:
    __slots__ = ("_request",)

    def __init__(self, request: Request) -> None:
        self._request = request

    @property
    def method(self) -> str:
        return self._request.method

    @property
    def uri(self) -> str:
        return f"{self.scheme}://{self.host}{self.pathAndQuery}"

    @property
    def host(self) -> str:
        return self._request.authority.lower()  # no rule is passed by another spelling

    @property
    def scheme(self) -> str:
        return self._request.scheme

    @property
    def path(self) -> str:
        return self._request.path

    @property
    def pathAndQuery(self) -> str:
        return self._request.target.decode("latin-1")

    @property
    def version(self) -> str:
        version = self._request.http_version
        return f"HTTP/{version}" if "." in version else f"HTTP/{version}.0"  # ASGI has "2", agentgateway HTTP/2.0

    @property
    def headers(self) -> Mapping[str, Any]:
        return _HeadersView(self._request)

    @property
    def query(self) -> Mapping[str, tuple[str, ...]]:
        return self._request.query

    @property
    def body(self) -> bytes:
        return _present(self._request.body)

    @property
    def startTime(self) -> cel.Timestamp:
        return cel.Timestamp(round(self._request.now * 1_000_000) * 1000)  # a float holds no nanoseconds


class _HeadersView(Mapping[str, Any]):
    """By name, whatever its case: a string, or the list of all values where there are several."""

    __slots__ = ("_headers",)

    def __init__(self, request: Request) -> None:
        self._headers = request.headers

    def __getitem__(self, name: str) -> str | list[str]:
        values = self._headers.getlist(name)
        if not values:
            raise KeyError(name)
        return values[0] if len(values) == 1 else values

    def __iter__(self) -> Iterator[str]:
        return iter(self._headers)

    def __len__(self) -> int:
        return len(self._headers)


def _source(request: Request) -> dict[str, Any] | None:
    if request.peer is None:
        return None
    address, port = request.peer
    return {"address": _unmapped(address), "port": port}


def _unmapped(address: str) -> str:
    """`1.2.3.4` for `::ffff:1.2.3.4`, which is how a socket of both families tells an IPv4 peer."""
    if ":" not in address:
        return address
    try:
        mapped = IPv6Address(address).ipv4_mapped
    except ValueError:
        return address
    return address if mapped is None else str(mapped)


def _api_key(request: Request) -> Any:
    return None if request.api_key is None else cel.to_cel(request.api_key)


def _jwt(request: Request) -> Any:
    return None if request.jwt is None else cel.to_cel(request.jwt)


class _CallView:
    """One protocol's view of a call. Of a call in another protocol, every field is absent."""

    __slots__ = ("_call",)
    protocol = ""

    def __init__(self, call: Call) -> None:
        self._call = call if call.protocol == self.protocol else Call("", "")

    def _method(self) -> str:
        return _present(self._call.method or None)

    def _attribute(self, name: str) -> Any:
        return cel.to_cel(_present(self._call.attributes.get(name)))


class _MCPView(_CallView):
    """A provisional call that names nothing is about something that is not known yet."""

    __slots__ = ()
    protocol = "mcp"

    @property
    def methodName(self) -> str:
        return self._method()

    @property
    def sessionId(self) -> Any:
        return self._attribute("sessionId")

    @property
    def tool(self) -> Any:
        return _ToolView(self._call) if self._call.tool is not None else self._absent()

    @property
    def prompt(self) -> Any:
        return self._named(self._call.prompt)

    @property
    def resource(self) -> Any:
        return self._named(self._call.resource)

    @property
    def task(self) -> Any:
        return self._named(self._call.task)

    def _named(self, name: str | None) -> Any:
        if name is None:
            return self._absent()
        named = {"name": name}
        return named if self._call.target is None else {**named, "target": self._call.target}

    def _absent(self) -> Any:
        call = self._call
        if call.provisional and not (call.tool or call.prompt or call.resource or call.task):
            return cel.UNKNOWN
        raise AttributeError


class _ToolView:
    """Its arguments are the client's, and converted only for a rule that reads them. Ahead of the call, nobody knows
    them."""

    __slots__ = ("_call",)

    def __init__(self, call: Call) -> None:
        self._call = call

    @property
    def name(self) -> str:
        return _present(self._call.tool)

    @property
    def target(self) -> str:
        return _present(self._call.target)

    @property
    def arguments(self) -> Any:
        return cel.UNKNOWN if self._call.provisional else cel.to_cel(self._call.arguments)


class _LLMView(_CallView):
    __slots__ = ()
    protocol = "llm"

    @property
    def requestModel(self) -> Any:
        if self._call.model is None and self._call.provisional:
            return cel.UNKNOWN
        return _present(self._call.model)

    @property
    def provider(self) -> Any:
        return self._attribute("provider")

    @property
    def streaming(self) -> Any:
        return self._known("streaming")

    @property
    def params(self) -> Any:
        return self._known("params")

    def _known(self, name: str) -> Any:
        if self._call.provisional and name not in self._call.attributes:
            return cel.UNKNOWN
        return self._attribute(name)


class _A2AView(_CallView):
    __slots__ = ()
    protocol = "a2a"

    @property
    def method(self) -> str:
        return self._method()

    @property
    def taskId(self) -> str:
        return _present(self._call.task)

    @property
    def contextId(self) -> Any:
        return self._attribute("contextId")

    @property
    def metadata(self) -> Any:
        return self._attribute("metadata")


def _present(value: T | None) -> T:
    """The value of a field; AttributeError, which is how the engine is told of an absent one, for None."""
    if value is None:
        raise AttributeError
    return value


def _of_call(view: type[_CallView]) -> Any:
    return lambda request: None if request.call is None else view(request.call)


_MAKERS: Final[Mapping[str, Any]] = {
    "request": _RequestView,
    "source": _source,
    "apiKey": _api_key,
    "jwt": _jwt,
    "mcp": _of_call(_MCPView),
    "llm": _of_call(_LLMView),
    "a2a": _of_call(_A2AView),
}
