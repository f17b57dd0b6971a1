"""Methods of MCP, and what a message names: the tool, prompt, resource or task that a rule can be about.

What names nothing, such as `tools/list`, is a provisional Call: rules about names leave it undecided and so let it
pass, as whatever it leads to will be judged. A method that is not in these tables is not provisional.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

from ...call import Call
from ..json_rpc import INVALID_PARAMS, RPCFault, RPCMessage, name_of, refuse_twins
from .uris import is_template, is_uri

Kind = Literal["tool", "prompt", "resource", "task"]

VERSION_KEY: Final = "io.modelcontextprotocol/protocolVersion"
MAX_SUBSCRIPTIONS: Final = 256  # of one subscriptions/listen: each of them is judged


class Naming(NamedTuple):
    """Which member of the params names what; `header`: whether `Mcp-Name` has to say it, too."""

    kind: Kind
    member: str
    header: bool = False


_BOTH: Final[Mapping[str, Naming]] = {
    "tools/call": Naming("tool", "name", True),
    "prompts/get": Naming("prompt", "name", True),
    "resources/read": Naming("resource", "uri", True),
    "tasks/get": Naming("task", "taskId", True),
    "tasks/cancel": Naming("task", "taskId", True),
}
LEGACY_NAMING: Final[Mapping[str, Naming]] = {
    **_BOTH,
    "resources/subscribe": Naming("resource", "uri"),
    "resources/unsubscribe": Naming("resource", "uri"),
    "tasks/result": Naming("task", "taskId"),
}
MODERN_NAMING: Final[Mapping[str, Naming]] = {**_BOTH, "tasks/update": Naming("task", "taskId", True)}

_LISTS: Final = {"tools/list", "prompts/list", "resources/list", "resources/templates/list"}
LEGACY_UNNAMED: Final = frozenset({*_LISTS, "tasks/list", "initialize", "ping", "logging/setLevel"})
MODERN_UNNAMED: Final = frozenset({*_LISTS, "server/discover"})
NOTIFICATIONS: Final = "notifications/"

RESOURCE_TYPES: Final[Mapping[str, str]] = {
    "tools/list": "tool",
    "prompts/list": "prompt",
    "resources/list": "resource",
    "resources/templates/list": "templates",
    "tasks/list": "task",
}
"""What the log calls the things that a list is of."""

_PARAMS: Final = ("name", "arguments", "uri", "ref", "taskId", "notifications", "_meta")
_REF: Final = ("type", "name", "uri")
_FILTER: Final = ("resourceSubscriptions", "taskIds")


def calls_of(message: RPCMessage, modern: bool, attributes: Mapping[str, Any]) -> list[Call]:
    """What a message asks for; at least one Call. Raises `RPCFault`."""
    method, params = message.method, message.params
    refuse_twins(params, _PARAMS)
    naming = (MODERN_NAMING if modern else LEGACY_NAMING).get(method)
    if naming is not None:
        return [_named(method, naming, params, attributes)]
    if method == "completion/complete":
        return [_completed(params, attributes)]
    found: list[Call] = []
    unnamed = method in (MODERN_UNNAMED if modern else LEGACY_UNNAMED)
    if method == "subscriptions/listen" and modern:
        found, unnamed = _listened(params, attributes), True
    elif message.kind == "notification" and method.startswith(NOTIFICATIONS):
        unnamed = True
    return found or [Call("mcp", method, provisional=unnamed, attributes=attributes)]


def call_named(method: str, kind: Kind, name: str, **more: Any) -> Call:
    """The Call of a method that names one thing."""
    named: dict[str, Any] = {kind: name}
    return Call("mcp", method, **named, **more)


def _named(method: str, naming: Naming, params: Mapping[str, Any], attributes: Mapping[str, Any]) -> Call:
    if naming.kind == "resource":
        return call_named(method, "resource", _uri(params, naming.member), attributes=attributes)
    name = name_of(params, naming.member)
    if naming.kind == "task":
        return call_named(method, "task", name, attributes=attributes)
    return call_named(method, naming.kind, name, arguments=_arguments(params), attributes=attributes)


def _arguments(params: Mapping[str, Any]) -> Mapping[str, Any]:
    arguments = params.get("arguments")
    if arguments is None:
        return {}
    if not isinstance(arguments, dict):
        raise RPCFault(INVALID_PARAMS, "arguments is not an object")
    _refuse_inner_twins(arguments)
    return arguments


def _refuse_inner_twins(value: Any) -> None:
    """At any depth: rules may be about any of the arguments. How deep they go, the strict reading has bounded."""
    if isinstance(value, dict):
        refuse_twins(value, ())
        for inner in value.values():
            _refuse_inner_twins(inner)
    elif isinstance(value, list):
        for inner in value:
            _refuse_inner_twins(inner)


def _completed(params: Mapping[str, Any], attributes: Mapping[str, Any]) -> Call:
    ref = params.get("ref")
    if not isinstance(ref, dict):
        raise RPCFault(INVALID_PARAMS, "ref is not an object")
    refuse_twins(ref, _REF)
    if ref.get("type") == "ref/prompt":
        return call_named("completion/complete", "prompt", name_of(ref, "name"), attributes=attributes)
    if ref.get("type") == "ref/resource" and is_template(ref.get("uri")):
        return call_named("completion/complete", "resource", ref["uri"], attributes=attributes)
    raise RPCFault(INVALID_PARAMS, "ref is neither a prompt nor a resource")


def _listened(params: Mapping[str, Any], attributes: Mapping[str, Any]) -> list[Call]:
    """Each resource and each task of which the client wants to hear is judged."""
    wanted = params.get("notifications", {})
    if not isinstance(wanted, dict):
        raise RPCFault(INVALID_PARAMS, "notifications is not an object")
    refuse_twins(wanted, _FILTER)
    lists = [wanted.get(member) or [] for member in _FILTER]
    if not all(isinstance(names, list) for names in lists) or sum(map(len, lists)) > MAX_SUBSCRIPTIONS:
        raise RPCFault(INVALID_PARAMS, f"subscriptions are lists of at most {MAX_SUBSCRIPTIONS} names")
    uris, tasks = lists
    method = "subscriptions/listen"
    return [
        *(call_named(method, "resource", _uri({"uri": uri}, "uri"), attributes=attributes) for uri in uris),
        *(call_named(method, "task", name_of({"taskId": id}, "taskId"), attributes=attributes) for id in tasks),
    ]


def _uri(params: Mapping[str, Any], member: str) -> str:
    uri = params.get(member)
    if not is_uri(uri):
        raise RPCFault(INVALID_PARAMS, f"{member} is not a URI in its one spelling")
    return uri
