"""The demo's tool server: what it says, and its bounds."""

from typing import Any

import httpx
import pytest

from agentgate.cli.tool_server import MAX_BODY, tool_server

pytestmark = pytest.mark.anyio


async def ask(body: Any = None, content: bytes | None = None) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(tool_server()), base_url="http://tools") as client:
        return await client.post("/mcp", json=body, content=content)


def call(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


@pytest.mark.parametrize(
    ("wanted", "version"), [("2025-03-26", "2025-03-26"), ("2026-07-28", "2025-11-25"), (None, "2025-11-25")]
)
async def test_it_says_what_it_speaks(wanted: str | None, version: str) -> None:
    answer = (await ask(call("initialize", protocolVersion=wanted))).json()
    assert answer["result"]["protocolVersion"] == version


async def test_its_tools() -> None:
    names = [tool["name"] for tool in (await ask(call("tools/list"))).json()["result"]["tools"]]
    assert names == ["get_weather", "get_user", "drop_table"]
    for name in names:
        assert (await ask(call("tools/call", name=name))).json()["result"]["content"][0]["text"] == f"{name} was called"
    assert (await ask(call("ping"))).json()["result"] == {}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (call("tools/call", name="x"), -32602),
        (call("prompts/list"), -32601),
        ([], -32600),
        (call("tools/call"), -32602),
    ],
)
async def test_what_it_has_not(body: Any, code: int) -> None:
    assert (await ask(body)).json()["error"]["code"] == code


async def test_its_bounds() -> None:
    assert (await ask({"jsonrpc": "2.0", "method": "notifications/initialized"})).status_code == 202
    assert (await ask(content=b"{")).json()["error"]["code"] == -32700
    assert (await ask(content=b" " * (MAX_BODY + 1))).status_code == 413
