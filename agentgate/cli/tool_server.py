"""A small MCP server to try the gateway with: three tools that do nothing but say so, and nothing is kept.

It speaks Streamable HTTP of 2025-11-25 without sessions, which clients of every revision fall back to.
"""

from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..protocols.json_rpc import INVALID_PARAMS, METHOD_NOT_FOUND, RPCFault, RPCMessage, id_of, read_message
from ..strict_json import StrictJSONError, loads
from .bounded import body_of

MAX_BODY: Final = 64 * 1024
VERSIONS: Final = ("2025-03-26", "2025-06-18", "2025-11-25")

_TEXT: Final = {"type": "object", "properties": {"name": {"type": "string"}}}
TOOLS: Final = [
    {"name": name, "description": description, "inputSchema": _TEXT}
    for name, description in (
        ("get_weather", "Says how the weather is."),
        ("get_user", "Says who somebody is."),
        ("drop_table", "Says that a table is gone."),
    )
]


def tool_server() -> Starlette:
    """The app: MCP at `/mcp`."""
    return Starlette(routes=[Route("/mcp", _serve, methods=["POST"])])


async def _serve(request: Request) -> Response:
    body = await body_of(request, MAX_BODY)
    if body is None:
        return JSONResponse({"error": "too large"}, 413)
    value = None
    try:
        value = loads(body)
        message = read_message(value)
        if message.kind != "request":
            return Response(status_code=202)
        result = _answer(message)
    except StrictJSONError:
        return _response(None, error={"code": -32700, "message": "Parse error"})
    except RPCFault as fault:
        return _response(id_of(value), error={"code": fault.code, "message": str(fault)})
    return _response(message.id, result=result)


def _answer(message: RPCMessage) -> dict[str, Any]:
    params = message.params
    if message.method == "initialize":
        wanted = params.get("protocolVersion")
        version = wanted if wanted in VERSIONS else VERSIONS[-1]
        server = {"name": "demo", "version": "1.0.0"}
        return {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": server}
    if message.method == "ping":
        return {}
    if message.method == "tools/list":
        return {"tools": TOOLS}
    if message.method != "tools/call":
        raise RPCFault(METHOD_NOT_FOUND, "Method not found")
    name = params.get("name")
    if name not in [tool["name"] for tool in TOOLS]:
        raise RPCFault(INVALID_PARAMS, f"Unknown tool: {name}")
    return {"content": [{"type": "text", "text": f"{name} was called"}], "isError": False}


def _response(id: Any, **outcome: Any) -> JSONResponse:
    return JSONResponse({"jsonrpc": "2.0", "id": id, **outcome})
