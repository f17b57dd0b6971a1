"""A server of the `mcp` SDK whose tool has a span of its own, behind Starlette's middleware for OpenTelemetry."""

from mcp.server import MCPServer
from opentelemetry import trace
from starlette.middleware.opentelemetry import OpenTelemetryMiddleware

server = MCPServer("tools")


@server.tool()
def add(a: int, b: int) -> str:
    """Add."""
    with trace.get_tracer("tools").start_as_current_span("adding"):
        return str(a + b)


app = OpenTelemetryMiddleware(server.streamable_http_app())
