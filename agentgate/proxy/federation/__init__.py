"""Several MCP servers behind one endpoint. `app` and what it is made of want the `mcp` SDK; the rest does not."""

from .target import MCPTarget

__all__ = ["MCPTarget"]
