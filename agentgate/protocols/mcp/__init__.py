"""MCP: the Model Context Protocol, of both eras, under one policy."""

from .protocol import MCP

__all__ = ["MCP"]
