"""A server of fastmcp, kept to the revisions that have sessions: `uvicorn tests.e2e.federated.tickets:app`."""

from typing import Any

from fastmcp import Context, FastMCP
from pydantic import BaseModel

server = FastMCP("tickets", instructions="Ask for tickets.")


class Name(BaseModel):
    name: str


@server.tool
def search(query: str) -> str:
    """Find tickets."""
    return f"tickets found {query}"


@server.tool
async def remember(text: str, ctx: Context) -> str:
    """What was remembered before, in this session."""
    before = await ctx.get_state("text")
    await ctx.set_state("text", text)
    return f"{before}"


@server.tool
async def greet(ctx: Context) -> str:
    """Asks the user for a name."""
    told: Any = await ctx.elicit("Your name?", Name)
    return f"Hello, {told.data.name if told.action == 'accept' else 'nobody'}!"


@server.resource("tickets://open")
def open_tickets() -> str:
    """The open tickets."""
    return "none"


_app = server.http_app(path="/mcp")


async def app(scope: Any, receive: Any, send: Any) -> None:
    """The server, which does not know of 2026-07-28."""
    if scope["type"] == "http" and dict(scope["headers"]).get(b"mcp-protocol-version") == b"2026-07-28":
        await send({"type": "http.response.start", "status": 400, "headers": []})
        await send({"type": "http.response.body", "body": b"Bad Request: unsupported protocol version"})
    else:
        await _app(scope, receive, send)
