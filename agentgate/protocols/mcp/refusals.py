"""How MCP says no, so that a client neither loses its session over it nor learns what there is.

What a policy forbids looks like what does not exist; the log tells the two apart. Clients up to 2025-11-25 take a 4xx
for the end of their connection, and get a JSON-RPC error with 200; those of 2026-07-28 get the status that the error
has there. A challenge (401, and 403 that asks for more scope) stays what it is: clients act on it.
"""

from dataclasses import replace
from typing import Final

from ...call import Call
from ...decision import Decision, Reason, deny
from ...headers import RawHeaders
from ..json_rpc import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    Id,
    RPCFault,
    RPCMessage,
    error_bytes,
)
from .eras import UnsupportedVersion

POLICY: Final = "mcp"
ALLOWED: Final = "GET, POST, DELETE"

_JSON: Final[RawHeaders] = ((b"content-type", b"application/json"),)


class Unfit(Exception):
    """The request is refused for what it is, whatever it asks for."""

    def __init__(self, status: int, text: str, headers: RawHeaders = ()) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers


def unfit(fault: Unfit, id: Id) -> Decision:
    """The refusal of a request that is no MCP request of this caller's."""
    text = str(fault)
    denial = deny(
        f"mcp: {text}", status=fault.status, code="invalid_request", reason=Reason.MCP, policy=POLICY,
        headers=(*fault.headers, *_JSON),
    )  # fmt: skip
    return replace(denial, body=error_bytes(id, INVALID_REQUEST, text))


def misread(fault: RPCFault, id: Id, *, modern: bool) -> Decision:
    """The refusal of a message that cannot be judged. Bad params are the error of one call; the rest is not."""
    text = str(fault)
    data = fault.data if isinstance(fault, UnsupportedVersion) else None
    survives = fault.code == INVALID_PARAMS and id is not None and not modern
    denial = deny(f"mcp: {text}", status=400, code="invalid_request", reason=Reason.MCP, policy=POLICY, headers=_JSON)
    return replace(denial, status=200 if survives else 400, body=error_bytes(id, fault.code, text, data))


def unread(decision: Decision) -> Decision:
    """The refusal of a body that is no JSON with one reading."""
    code = PARSE_ERROR if decision.status == 400 else INVALID_REQUEST
    return replace(decision, headers=(*decision.headers, *_JSON), body=error_bytes(None, code, decision.message))


def unanswered(decision: Decision, id: Id) -> Decision:
    """What a backend says of a server that did not answer."""
    return replace(
        decision, headers=(*decision.headers, *_JSON), body=error_bytes(id, INTERNAL_ERROR, decision.message)
    )


def denied(decision: Decision, call: Call, message: RPCMessage | None, *, modern: bool) -> Decision:
    """A policy's denial of a call; `message` is None for one that was made without any (GET, DELETE)."""
    if message is None or is_challenge(decision):
        return decision
    hidden = decision.status == 403 and decision.code == "forbidden"
    status, code, text = decision.status, INVALID_REQUEST, decision.message
    if status >= 500:
        code = INTERNAL_ERROR
    elif hidden and (unknown := _unknown(call)) is not None:
        status, code, text = unknown
        decision = replace(decision, message=f"mcp: {text}", reason=Reason.MCP)
    if not modern:
        if message.kind != "request":
            return replace(decision, status=202, body=b"")  # nobody waits for an answer
        status = 200
    headers = (*(pair for pair in decision.headers if pair[0].lower() != b"content-type"), *_JSON)
    return replace(decision, status=status, headers=headers, body=error_bytes(message.id, code, text))


def is_challenge(decision: Decision) -> bool:
    """Whether the client is asked to come back with another credential."""
    return (
        decision.status == 401
        or decision.code == "insufficient_scope"
        or any(name.lower() == b"www-authenticate" for name, _ in decision.headers)
    )


def _unknown(call: Call) -> tuple[int, int, str] | None:
    """What a server says of something that it does not have; None for a method that every server has."""
    for kind in ("tool", "prompt", "resource", "task"):
        name = getattr(call, kind)
        if name is not None:
            return 400, INVALID_PARAMS, f"Unknown {kind}: {name}"
    return None if call.provisional else (404, METHOD_NOT_FOUND, "Method not found")
