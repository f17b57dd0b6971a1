"""An MCP client with spans of its own: `python -m tests.e2e.traced.mcp_client RECEIVER GATEWAY` calls a tool by both
routes in both eras, and prints what came back."""

import asyncio
import sys

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from opentelemetry import trace

from .otel import set_up

RECEIVER, GATEWAY = sys.argv[1:]


async def main() -> None:
    set_up("agent", RECEIVER)
    for path, tool in (("one", "add"), ("many", "tools_add")):
        for mode in ("legacy", "2026-07-28"):
            async with (
                httpx2.AsyncClient(timeout=20) as http,
                Client(streamable_http_client(f"{GATEWAY}/{path}", http_client=http), mode=mode) as client,
            ):
                with trace.get_tracer("agent").start_as_current_span(f"{path}, {mode}"):
                    answer = await client.call_tool(tool, {"a": 2, "b": 3})
            sys.stdout.write(f"{answer.content}\n")


asyncio.run(main())
