"""The variables of a rule, under agentgateway's names: one table of what may be read, of which type, and how.

Nothing is made of a request that no rule reads. What is not there is left out, so that reading it is an error: `jwt`
and `apiKey` of a caller without them, `source` of a request without a peer, `backend` where no gateway has found a
route, and `mcp`, `llm` and `a2a` while nobody has read which protocol a request speaks. Where one is spoken, the others
are there and empty: `has(mcp.tool)` is false for a chat completion.
"""

import os
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, Final, NoReturn

from agentgate import cel

from .call import Call
from .errors import ConfigurationError
from .headers_view import HeadersView
from .principal import API_KEY, JWT
from .request import Request

Reader = Callable[..., Any]

REDACTED: Final = "<redacted>"
_SECRETS: Final = {JWT: "rawToken", API_KEY: "key"}  # agentgateway's names for the credential itself


def _uri(request: Request) -> str:
    return f"{request.scheme}://{_host(request)}{_target(request)}"


def _host(request: Request) -> str:
    return request.authority.lower()  # no rule is passed by another spelling


def _target(request: Request) -> str:
    return request.target.decode("latin-1")


def _version(request: Request) -> str:
    version = request.http_version
    return f"HTTP/{version}" if "." in version else f"HTTP/{version}.0"  # ASGI has "2", agentgateway HTTP/2.0


def _header(request: Request, name: str) -> Any:
    by_name = request.by_name
    key = name.encode()
    value = by_name.get(key)
    if value is None:
        value = by_name[key.lower()]
    if len(by_name) == len(request.raw_headers):  # no header is repeated
        return value.decode("latin-1")
    return HeadersView(request.headers)[name]


def _start_time(request: Request) -> cel.Timestamp:
    return cel.Timestamp(round(request.now * 1_000_000) * 1000)  # a float holds no nanoseconds


def _source(position: int) -> Reader:
    def read(request: Request) -> str | int:
        source = request.source
        if source is None:
            raise cel.Missing("source")
        value = source[position]
        if value is None:
            raise cel.Missing("source.port")
        return value

    return read


def _peer(position: int) -> Reader:
    def read(request: Request) -> str | int:
        if request.peer is None:
            raise cel.Missing("source")
        return request.peer[position]

    return read


def _backend(field: str) -> Reader:
    def read(request: Request) -> str:
        if request.backend is None:
            raise cel.Missing("backend")
        return request.backend[field]

    return read


def _attributes(source: str) -> Reader:
    """All claims of a token or all metadata of a key, the credential itself shown as `<redacted>`."""

    def read(request: Request) -> dict[str, Any]:
        for principal in reversed(request.principals):
            if principal.source == source:
                return {**cel.to_cel(principal.attributes), _SECRETS[source]: REDACTED}
        raise cel.Missing(source)

    return read


def _converted(value: Any) -> Any:
    """`cel.to_cel`, with the common values first."""
    cls = value.__class__
    if (cls is str and value.isascii()) or (cls is int and -1 < value < 1 << 63):
        return value
    if cls is list and len(value) < 64:
        for element in value:
            if element.__class__ is not str or not element.isascii():
                return cel.to_cel(value)
        return value  # nothing in an expression changes a list
    return cel.to_cel(value)


def _attribute(source: str) -> Reader:
    """One of them, which is all that is converted."""
    secret = _SECRETS[source]

    def read(request: Request, name: str) -> Any:
        for principal in reversed(request.principals):
            if principal.source == source:
                if name == secret:
                    return REDACTED
                return _converted(principal.attributes[name])
        raise cel.Missing(source)

    return read


def _body(request: Request) -> bytes:
    if request.body is None:
        raise cel.Missing("request.body")
    return request.body


def _absent(request: Request, path: str) -> NoReturn:
    """There is no such field in the call, or no call, or one in another protocol, of which every field is absent."""
    raise cel.Missing(path.partition(".")[0] if request.call is None else path)


def _field(path: str, get: Callable[[Call], Any]) -> Reader:
    """A field of a call."""
    protocol = path.partition(".")[0]

    def read(request: Request) -> Any:
        call = request.call
        if call is not None and call.protocol == protocol and (value := get(call)) is not None:
            return value
        _absent(request, path)

    return read


def _told(path: str, *, ahead: bool = True) -> Reader:
    """What else a protocol says of a call. `ahead`: a provisional call has it already, if it has one at all."""
    name = path.partition(".")[2]

    def get(call: Call) -> Any:
        value = call.attributes.get(name)
        if value is None:
            return cel.UNKNOWN if call.provisional and not ahead else None
        return cel.to_cel(value)

    return _field(path, get)


def _model(call: Call) -> Any:
    return cel.UNKNOWN if call.model is None and call.provisional else call.model


def _item(field: str, part: str, get: Callable[[Call], Any]) -> tuple[str, Reader]:
    """A part of what a call names: `mcp.tool.name`. A provisional call that names nothing is about something that is
    not known yet."""
    item, path = f"mcp.{field}", f"mcp.{field}.{part}"
    named: Callable[[Call], Any] = attrgetter(field)

    def read(request: Request) -> Any:
        call = request.call
        if call is None or call.protocol != "mcp":
            _absent(request, item)
        if named(call) is not None:
            value = get(call)
            if value is not None:
                return value
            raise cel.Missing(path)
        if call.provisional and not (call.tool or call.prompt or call.resource or call.task):
            return cel.UNKNOWN
        raise cel.Missing(item)

    return path, read


def _arguments(call: Call) -> Any:
    return cel.UNKNOWN if call.provisional else cel.to_cel(call.arguments)  # ahead of the call, nobody knows them


_raw_arguments: Final = _item("tool", "arguments", lambda call: cel.UNKNOWN if call.provisional else call.arguments)[1]


def _argument(request: Request, name: str) -> Any:
    """One argument of a tool, which is all that is converted."""
    return _converted(_raw_arguments(request)[name])


class Whole:
    """A variable or a field that is named as a whole, to be bound to a name: `mcp.tool.with(t, t.name == "add")`."""

    __slots__ = ("_given", "_path", "_readers")

    def __init__(self, path: str, given: Any, readers: Mapping[str, Reader]) -> None:
        self._path = path
        self._given = given
        self._readers = readers

    def __getattr__(self, field: str) -> Any:
        try:
            return self._readers[f"{self._path}.{field}"](self._given)
        except cel.Missing:
            raise AttributeError from None  # which is how the engine is told of an absent field


def _whole(path: str, first: str = "") -> Reader:
    """`first`: the field to read first, because it is there whenever the whole is."""

    def read(request: Request) -> Any:
        if first:
            if READERS[f"{path}.{first}"](request) is cel.UNKNOWN:
                return cel.UNKNOWN
        elif request.call is None and path != "request":
            raise cel.Missing(path)
        return Whole(path, request, READERS)

    return read


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
    "source": "struct{address: string, port?: int, rawAddress: string, rawPort: int}",
    "backend": "struct{name: string, type: string, protocol: string}",
    "env": "struct{podName?: string, namespace?: string, gateway?: string}",
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
    "a2a": "struct{method?: string, taskId?: string, contextId?: string, tenant?: string, metadata?: map(string, dyn)}",
}
"""What rules may read, and of which type: anything else is refused when they are compiled."""

READERS: Final[Mapping[str, Reader]] = {
    "request": _whole("request"),
    "request.method": attrgetter("method"),
    "request.uri": _uri,
    "request.host": _host,
    "request.scheme": attrgetter("scheme"),
    "request.path": attrgetter("path"),
    "request.pathAndQuery": _target,
    "request.version": _version,
    "request.headers": lambda request: HeadersView(request.headers),
    "request.headers[]": _header,
    "request.query": attrgetter("query"),
    "request.startTime": _start_time,
    "request.body": _body,
    "source": _whole("source", "rawPort"),
    "source.address": _source(0),
    "source.port": _source(1),
    "source.rawAddress": _peer(0),
    "source.rawPort": _peer(1),
    "backend": _whole("backend", "name"),
    "backend.name": _backend("name"),
    "backend.type": _backend("type"),
    "backend.protocol": _backend("protocol"),
    "apiKey": _attributes(API_KEY),
    "apiKey[]": _attribute(API_KEY),
    "jwt": _attributes(JWT),
    "jwt[]": _attribute(JWT),
    "mcp": _whole("mcp"),
    "mcp.methodName": _field("mcp.methodName", lambda call: call.method or None),
    "mcp.sessionId": _told("mcp.sessionId"),
    **{f"mcp.{field}": _whole(f"mcp.{field}", "name") for field in ("tool", "prompt", "resource", "task")},
    **dict(_item(field, "name", attrgetter(field)) for field in ("tool", "prompt", "resource", "task")),
    **dict(_item(field, "target", attrgetter("target")) for field in ("tool", "prompt", "resource", "task")),
    **dict([_item("tool", "arguments", _arguments)]),
    "mcp.tool.arguments[]": _argument,
    "llm": _whole("llm"),
    "llm.requestModel": _field("llm.requestModel", _model),
    "llm.provider": _told("llm.provider"),
    "llm.streaming": _told("llm.streaming", ahead=False),
    "llm.params": _told("llm.params", ahead=False),
    "a2a": _whole("a2a"),
    "a2a.method": _field("a2a.method", lambda call: call.method or None),
    "a2a.taskId": _field("a2a.taskId", attrgetter("task")),
    "a2a.contextId": _told("a2a.contextId"),
    "a2a.tenant": _told("a2a.tenant"),
    "a2a.metadata": _told("a2a.metadata"),
}
"""How each of them is read from a Request. Some have a reader for one key, which makes no map of the others."""

_DOWNWARD: Final = {"podName": "POD_NAME", "namespace": "NAMESPACE", "gateway": "GATEWAY"}


def env_readers(env: Mapping[str, str] | None) -> dict[str, Reader]:
    """Readers of `env.*`: of these values, or of what Kubernetes' downward API has put into POD_NAME, NAMESPACE and
    GATEWAY, read now. No other environment variable is looked at."""
    if env is None:
        env = {field: os.environ[name] for field, name in _DOWNWARD.items() if os.environ.get(name)}
    faults = [f"env: {name!r} is none of {', '.join(_DOWNWARD)}" for name in env if name not in _DOWNWARD]
    faults += [
        f"env: {name} is text, not {type(value).__name__}" for name, value in env.items() if type(value) is not str
    ]
    if faults:
        raise ConfigurationError(faults)
    known = dict(env)
    return {"env": lambda request: known, **{f"env.{field}": _known(known, field) for field in _DOWNWARD}}


def _known(known: Mapping[str, str], field: str) -> Reader:
    def read(request: Request) -> str:
        if field not in known:
            raise cel.Missing(f"env.{field}")
        return known[field]

    return read
