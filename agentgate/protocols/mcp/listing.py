"""What the caller may not know of is taken out of messages from the server.

A message is judged by its shape, not by the request it answers: a server may send a list again on another stream.
Each item is judged as the call that it invites to, its arguments unknown, so a list shows what may be called. All
else in a message, and the order of what is left, stays.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeGuard

from ...call import Call
from ..json_rpc import INTERNAL_ERROR, RPCFault, name_of
from ..protocol import May
from .methods import Kind, call_named
from .targets import Targets
from .uris import is_template, is_uri


class _Items(NamedTuple):
    method: str
    kind: Kind
    member: str


_LISTS: Final[Mapping[str, _Items]] = {
    "tools": _Items("tools/call", "tool", "name"),
    "prompts": _Items("prompts/get", "prompt", "name"),
    "resources": _Items("resources/read", "resource", "uri"),
    "resourceTemplates": _Items("resources/read", "resource", "uriTemplate"),
    "tasks": _Items("tasks/get", "task", "taskId"),
}
_NEWS: Final[Mapping[str, _Items]] = {
    "notifications/resources/updated": _Items("resources/read", "resource", "uri"),
    "notifications/tasks/status": _Items("tasks/get", "task", "taskId"),
    "notifications/tasks": _Items("tasks/get", "task", "taskId"),
}
_REFUSED: Final = {"code": INTERNAL_ERROR, "message": "the server asked for something that is not allowed"}


class Listing:
    """Filters the messages of one answer."""

    def __init__(self, may: May, call: Call, targets: Targets) -> None:
        self._may = may
        self._targets = targets
        self._common: dict[str, Any] = {"target": call.target, "attributes": call.attributes, "provisional": True}

    def filtered(self, message: Any) -> Any:
        """The message as the caller may see it: the very object if nothing has to change, None if nothing is left."""
        if isinstance(message, list):  # a batch, of 2025-03-26
            left = [one for one in map(self.filtered, message) if one is not None]
            return message if _same(left, message) else left or None
        if not isinstance(message, dict):
            return message
        result = message.get("result")
        if isinstance(result, dict):
            return self._answered(message, result)
        method = message.get("method")
        if not isinstance(method, str):
            return message
        if "id" in message:  # the server asks the client
            return message if self._may_ask(method) else None
        items = _NEWS.get(method)
        return message if items is None or self._shows(items, message.get("params")) else None

    def _answered(self, message: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
        wanted = result.get("inputRequests")
        if isinstance(wanted, dict) and not all(map(self._may_be_wanted, wanted.values())):
            return {**{name: value for name, value in message.items() if name != "result"}, "error": _REFUSED}
        changed: dict[str, Any] = {}
        for member, items in _LISTS.items():
            listed = result.get(member)
            if isinstance(listed, list):
                left = [item for item in listed if self._shows(items, item)]
                if len(left) != len(listed):
                    changed[member] = left
        if result.get("cacheScope", "private") != "private":
            changed["cacheScope"] = "private"  # what rules decide is no answer for the next caller
        return {**message, "result": {**result, **changed}} if changed else message

    def _shows(self, items: _Items, item: Any) -> bool:
        """Whether an item may be asked for. One that names nothing that could be asked for may not be."""
        name = item.get(items.member) if isinstance(item, dict) else None
        if not _is_name(name, items):
            return False
        try:
            call = self._targets.judged(call_named(items.method, items.kind, name, **self._common))
        except RPCFault:
            return False
        return self._may(call)

    def _may_ask(self, method: str) -> bool:
        return self._may(Call("mcp", method, **self._common))

    def _may_be_wanted(self, request: Any) -> bool:
        method = request.get("method") if isinstance(request, dict) else None
        return isinstance(method, str) and self._may_ask(method)


def _is_name(name: Any, items: _Items) -> TypeGuard[str]:
    if items.kind == "resource":
        return is_template(name) if items.member == "uriTemplate" else is_uri(name)
    try:
        name_of({"name": name}, "name")
    except RPCFault:
        return False
    return True


def _same(some: list[Any], others: list[Any]) -> bool:
    return len(some) == len(others) and all(one is other for one, other in zip(some, others, strict=True))
