"""What tests with real servers and clients share."""

import sys

import pytest

from .mcp_versions import SDK, python_with


@pytest.fixture(scope="session")
def mcp_1(tmp_path_factory: pytest.TempPathFactory) -> SDK:
    """The MCP SDK 1.x, in an environment of its own."""
    return SDK(python_with("mcp>=1.30,<2", tmp_path_factory.mktemp("mcp-1")), "mcp")


@pytest.fixture(scope="session")
def mcp_2() -> SDK:
    """The MCP SDK 2.x."""
    pytest.importorskip("mcp", reason="mcp is not installed: it comes with the extra e2e")
    return SDK(sys.executable, "mcp")


@pytest.fixture(scope="session")
def fastmcp() -> SDK:
    """FastMCP."""
    pytest.importorskip("fastmcp", reason="fastmcp is not installed: it comes with the extra e2e")
    return SDK(sys.executable, "fastmcp")
