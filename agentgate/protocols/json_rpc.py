"""JSON-RPC 2.0 as MCP and A2A use it: one message read so that no server can read another, and errors as bytes.

What is read here has been parsed as strict JSON. Servers differ in what they make of `Method`, of a list of messages,
of an id that is null; so whatever is not plainly one request, notification or response is a fault.
"""

import json
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, NamedTuple

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603

Id = str | int | None

MAX_NAME: Final = 1024  # characters of a method or of anything else that a rule compares

_MEMBERS: Final = ("jsonrpc", "id", "method", "params", "result", "error")


class RPCFault(ValueError):
    """The message cannot be judged. `code` is the JSON-RPC error, the text says why and quotes nothing."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class RPCMessage(NamedTuple):
    """One message. `id` is None for a notification; `params` are empty where there are none."""

    kind: Literal["request", "notification", "response"]
    id: Id
    method: str
    params: Mapping[str, Any]


def read_message(value: Any) -> RPCMessage:
    """The one message that a body holds. Raises `RPCFault`."""
    if isinstance(value, list):
        raise RPCFault(INVALID_REQUEST, "batches are not supported")
    if not isinstance(value, dict):
        raise RPCFault(INVALID_REQUEST, "a message is an object")
    refuse_twins(value, _MEMBERS)
    if value.get("jsonrpc") != "2.0":
        raise RPCFault(INVALID_REQUEST, "jsonrpc is not 2.0")
    id = id_of(value)
    if "id" in value and id is None:
        raise RPCFault(INVALID_REQUEST, "an id is a string or an integer")
    if "method" not in value:
        if id is None or ("result" in value) == ("error" in value) or "params" in value:
            raise RPCFault(INVALID_REQUEST, "neither a request nor a response")
        return RPCMessage("response", id, "", {})
    if "result" in value or "error" in value:
        raise RPCFault(INVALID_REQUEST, "both a request and a response")
    method = name_of(value, "method", INVALID_REQUEST)
    params = value.get("params", {})
    if not isinstance(params, dict):
        raise RPCFault(INVALID_PARAMS, "params is not an object")
    return RPCMessage("notification" if id is None else "request", id, method, params)


def id_of(value: Any) -> Id:
    """The id of a message, as far as it has one that an error can be sent to."""
    id = value.get("id") if isinstance(value, dict) else None
    return id if isinstance(id, str | int) and not isinstance(id, bool) else None


def name_of(members: Mapping[str, Any], member: str, code: int = INVALID_PARAMS) -> str:
    """A member that rules compare: text that cannot be taken for another, of visible characters and inner blanks."""
    name = members.get(member)
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not name.isprintable() or name != name.strip():
        raise RPCFault(code, f"{member} is not a name")
    return name


def refuse_twins(members: Mapping[str, Any], names: Iterable[str]) -> None:
    """Refuse members that a careless parser takes for one of `names`, or for each other: `Method`, `param\u017f`."""
    known = frozenset(names)
    if known.issuperset(members):
        return
    folded = {_fold(name): name for name in known}
    for member in members:
        if folded.setdefault(_fold(member), member) != member:
            raise RPCFault(INVALID_REQUEST, "a member is spelt in two ways")


def _fold(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()


def error_bytes(id: Id, code: int, message: str, data: Any = None) -> bytes:
    """A JSON-RPC error response."""
    error: dict[str, Any] = {"code": code, "message": message}
    if data is not None:
        error["data"] = data
    return json.dumps({"jsonrpc": "2.0", "id": id, "error": error}).encode()
