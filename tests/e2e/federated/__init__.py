"""MCP servers and clients of several makes, on both sides of a federating gateway."""
