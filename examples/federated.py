"""Two MCP servers as one: `docs` and `tickets`, of which everybody may search and nobody may delete.

In this folder, with `pip install 'agentgate-asgi[mcp]' uvicorn`:

    uvicorn federated:servers --port 9000 &
    uvicorn federated:app --port 8080 &
    v=2026-07-28 p=io.modelcontextprotocol
    meta='{"'$p'/protocolVersion": "'$v'", "'$p'/clientCapabilities": {}}'
    curl -s localhost:8080/mcp -H "mcp-protocol-version: $v" -H "mcp-method: tools/list" \
        -H "content-type: application/json" \
        -d '{"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": '"$meta"'}}' \
        | grep -o '[a-z]*_search'

Any MCP client finds the same at http://localhost:8080/mcp.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mcp.server import MCPServer
from starlette.applications import Starlette
from starlette.routing import Mount

from agentgate import AccessLog, CELRules, MCPBackend, Route, create_gateway

docs, tickets = MCPServer("docs"), MCPServer("tickets")


@docs.tool(name="search")
@tickets.tool(name="search")
def search(query: str) -> str:
    return f"nothing is known about {query}"


@tickets.tool(name="delete")
def delete(ticket: int) -> str:
    return "it is gone"


@asynccontextmanager
async def sessions(_: Starlette) -> AsyncIterator[None]:
    async with docs.session_manager.run(), tickets.session_manager.run():
        yield


servers = Starlette(
    routes=[Mount("/docs", docs.streamable_http_app()), Mount("/tickets", tickets.streamable_http_app())],
    lifespan=sessions,
)

UPSTREAM = os.environ.get("UPSTREAM", "http://127.0.0.1:9000")
app = create_gateway(
    Route("/mcp", MCPBackend({name: f"{UPSTREAM}/{name}/mcp" for name in ("docs", "tickets")})),
    authorize=[CELRules(allow={"search": 'mcp.tool.name == "search"'})],
    observe=[AccessLog()],
)
