"""Refusals in the words of A2A: JSON-RPC errors, and `google.rpc.Status` as JSON for the REST binding.

A task that a caller may not touch is not there, whatever it is: codes, messages and details are those with which the
Python SDK answers about a task that does not exist. What the operator is told stays as it was.
"""

import json
from dataclasses import replace
from typing import Any, Final, NamedTuple

from ...decision import Decision, Reason, deny
from ..json_rpc import INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR, Id, error_bytes

_JSON: Final = ((b"content-type", b"application/json"),)

_REST_STATUS: Final = {  # google.rpc.Code, by HTTP status
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    413: "INVALID_ARGUMENT",
    414: "INVALID_ARGUMENT",
    415: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    431: "INVALID_ARGUMENT",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}


class Known(NamedTuple):
    """An error that A2A names: its JSON-RPC code, the HTTP status and `google.rpc` code of REST, and its reason."""

    code: int
    status: int
    rpc_status: str
    reason: str


TASK_NOT_FOUND: Final = Known(-32001, 404, "NOT_FOUND", "TASK_NOT_FOUND")
PUSH_NOT_SUPPORTED: Final = Known(-32003, 400, "FAILED_PRECONDITION", "PUSH_NOTIFICATION_NOT_SUPPORTED")
UNSUPPORTED: Final = Known(-32004, 403, "PERMISSION_DENIED", "UNSUPPORTED_OPERATION")
VERSION_NOT_SUPPORTED: Final = Known(-32009, 400, "FAILED_PRECONDITION", "VERSION_NOT_SUPPORTED")
NO_METHOD: Final = Known(METHOD_NOT_FOUND, 404, "NOT_FOUND", "METHOD_NOT_FOUND")
BAD_PARAMS: Final = Known(INVALID_PARAMS, 400, "INVALID_ARGUMENT", "INVALID_PARAMS")
BAD_REQUEST: Final = Known(INVALID_REQUEST, 400, "INVALID_ARGUMENT", "INVALID_REQUEST")
BAD_JSON: Final = Known(PARSE_ERROR, 400, "INVALID_ARGUMENT", "INVALID_REQUEST")

BY_CODE: Final = {known.code: known for known in (NO_METHOD, BAD_PARAMS, BAD_REQUEST, BAD_JSON)}


class Speech(NamedTuple):
    """How one request's client is spoken to: over REST, or by JSON-RPC about the request with this id. Errors of 0.3
    have no details."""

    rest: bool = False
    legacy: bool = False
    id: Id = None

    def say(self, decision: Decision, error: Known, message: str) -> Decision:
        """The denial as this error, with this text. What it was is kept for the log."""
        details = None if self.legacy else _details(error.reason)
        if self.rest:
            status, body = error.status, _status(error.status, error.rpc_status, message, details)
        else:
            status, body = 200, error_bytes(self.id, error.code, message, details)
        detail = decision.detail or (decision.message if decision.message != message else "")
        headers = (*decision.headers, *_JSON)
        return replace(decision, status=status, message=message, detail=detail, headers=headers, body=body)

    def refuse(self, error: Known, message: str) -> Decision:
        """A request that cannot be judged, or is not served."""
        return self.say(
            deny(code=error.reason.lower(), reason=Reason.INVALID_REQUEST, message=message, policy="a2a"),
            error,
            message,
        )

    def keep(self, decision: Decision) -> Decision:
        """The denial with its own status, which HTTP clients act upon: a challenge, a limit, a fault of the gateway. A
        limit is about one call, and so it is also that call's error."""
        if not self.rest and decision.status == 429:
            body = error_bytes(self.id, INVALID_REQUEST, decision.message)
            return replace(decision, headers=(*decision.headers, *_JSON), body=body)
        if not self.rest:
            return decision
        rpc_status = _REST_STATUS.get(decision.status, "UNKNOWN")
        body = _status(decision.status, rpc_status, decision.message, None)
        return replace(decision, headers=(*decision.headers, *_JSON), body=body)


def _details(reason: str) -> list[dict[str, Any]]:
    return [
        {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": reason,
            "domain": "a2a-protocol.org",
            "metadata": {},
        }
    ]


def _status(code: int, status: str, message: str, details: list[dict[str, Any]] | None) -> bytes:
    error: dict[str, Any] = {"code": code, "status": status, "message": message}
    if details is not None:
        error["details"] = details
    return json.dumps({"error": error}).encode()
