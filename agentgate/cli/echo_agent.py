"""A small A2A agent to try the gateway with: it sends every message back, and keeps nothing.

It speaks JSON-RPC in A2A 1.0, has one method, SendMessage, and reads no more of a body than it needs.
"""

import uuid
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from ..protocols.json_rpc import INVALID_PARAMS, METHOD_NOT_FOUND, RPCFault, id_of, read_message
from ..strict_json import StrictJSONError, loads
from .bounded import body_of

MAX_BODY: Final = 64 * 1024


def echo_agent(url: str) -> Starlette:
    """The app of an agent that is at `url`, the root of its host."""
    card = {
        "name": "Echo",
        "description": "Says it again.",
        "version": "1.0.0",
        "supportedInterfaces": [{"url": url, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}],
        "capabilities": {},
        "defaultInputModes": ["text/plain"],
        "defaultOutputModes": ["text/plain"],
        "skills": [{"id": "echo", "name": "Echo", "description": "Says it again.", "tags": ["echo"]}],
    }

    async def show(request: Request) -> JSONResponse:
        return JSONResponse(card)

    return Starlette(routes=[Route("/.well-known/agent-card.json", show), Route("/", _answer, methods=["POST"])])


async def _answer(request: Request) -> JSONResponse:
    body = await body_of(request, MAX_BODY)
    if body is None:
        return JSONResponse({"error": "too large"}, 413)
    value = None
    try:
        value = loads(body)
        message = read_message(value)
        if message.method != "SendMessage":
            raise RPCFault(METHOD_NOT_FOUND, "Method not found")
        said = message.params.get("message")
        if not isinstance(said, dict) or not isinstance(said.get("parts"), list):
            raise RPCFault(INVALID_PARAMS, "a message has parts")
    except StrictJSONError:
        return _response(None, error={"code": -32700, "message": "Invalid JSON payload"})
    except RPCFault as fault:
        return _response(id_of(value), error={"code": fault.code, "message": str(fault)})
    answer = {
        "messageId": str(uuid.uuid4()),
        "contextId": said.get("contextId") or str(uuid.uuid4()),
        "role": "ROLE_AGENT",
        "parts": said["parts"],
    }
    return _response(message.id, result={"message": answer})


def _response(id: Any, **members: Any) -> JSONResponse:
    return JSONResponse({"jsonrpc": "2.0", "id": id, **members})
