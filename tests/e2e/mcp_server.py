# mypy: ignore-errors
# It runs with mcp 1.x, mcp 2.x and fastmcp, which no type checker can follow at once.
"""An MCP server, made with `mcp` of either version or with `fastmcp`: `python mcp_server.py SDK PORT`."""

import asyncio
import sys
from importlib.metadata import version

import uvicorn

SDK, PORT = sys.argv[1:]
TWO = version("mcp").startswith("2.")

if SDK == "fastmcp":
    from fastmcp import Context, FastMCP

    server = FastMCP("tools")
elif TWO:
    from mcp.server import MCPServer
    from mcp.server.mcpserver import Context

    server = MCPServer("tools")
else:
    from mcp.server.fastmcp import Context, FastMCP

    server = FastMCP("tools")


@server.tool()
def add(a: int, b: int) -> str:
    return str(a + b)


@server.tool()
def drop_table(name: str) -> str:
    return f"dropped {name}"


@server.tool()
async def count(ctx: Context) -> str:
    """Tells how far it is."""
    for step in range(3):
        await ctx.report_progress(step, 3)
        await asyncio.sleep(0.01)
    return "counted"


@server.resource("file:///public/a")
def public() -> str:
    return "public"


@server.resource("file:///secret")
def secret() -> str:
    return "secret"


@server.resource("file:///public/{name}")
def any_public(name: str) -> str:
    return f"public {name}"


@server.resource("file:///secret/{name}")
def any_secret(name: str) -> str:
    return f"secret {name}"


@server.prompt()
def hello() -> str:
    return "hi"


@server.prompt()
def hidden() -> str:
    return "hidden"


def app():
    if SDK == "fastmcp":
        return server.http_app(path="/mcp")
    if not TWO:
        return server.streamable_http_app()
    from mcp.server.streamable_http import EventMessage, EventStore

    class Memory(EventStore):
        """Remembers every event, so that a stream can be resumed."""

        def __init__(self):
            self.events = []

        async def store_event(self, stream_id, message):
            self.events.append((stream_id, message))
            return str(len(self.events))

        async def replay_events_after(self, last_event_id, send):
            stream_id, _ = self.events[int(last_event_id) - 1]
            for number, (stream, message) in enumerate(self.events[int(last_event_id) :], int(last_event_id) + 1):
                if stream == stream_id and message is not None:
                    await send(EventMessage(message, str(number)))
            return stream_id

    return server.streamable_http_app(event_store=Memory())


uvicorn.run(app(), port=int(PORT), log_level="warning")
