"""MCP messages as clients send them, and an app that answers as it is told."""

import base64
import json
from collections.abc import Iterable
from typing import Any

from agentgate import MCP, Gate
from agentgate.testing import Exchange, drive, http_scope

MODERN = "2026-07-28"
LEGACY = "2025-11-25"
VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
META = {VERSION_KEY: MODERN, "io.modelcontextprotocol/clientCapabilities": {}}

NAMES = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
NAMES |= dict.fromkeys(["tasks/get", "tasks/update", "tasks/cancel"], "taskId")


def message(method: str, params: Any = None, *, id: Any = 1, **more: Any) -> dict[str, Any]:
    """A request; with `id=...`, a notification."""
    found: dict[str, Any] = {"jsonrpc": "2.0", "method": method, **more}
    if id is not ...:
        found["id"] = id
    if params is not None:
        found["params"] = params
    return found


def modern(method: str, params: dict[str, Any] | None = None, **more: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """A request of 2026-07-28, and its headers."""
    params = {**(params or {}), "_meta": META}
    headers = {"mcp-protocol-version": MODERN, "mcp-method": method}
    name = params.get(NAMES.get(method, ""))
    if isinstance(name, str):
        headers["mcp-name"] = encoded(name)
    return message(method, params, **more), headers


def encoded(name: str) -> str:
    if name.isascii() and name.isprintable():
        return name
    return f"=?base64?{base64.b64encode(name.encode()).decode()}?="


async def send(
    gate: Any,
    body: Any = b"",
    headers: dict[str, str] | Iterable[tuple[str, str]] = (),
    *,
    method: str = "POST",
    target: str = "/mcp",
    **more: Any,
) -> Exchange:
    """Send a message (or any bytes) to the gate."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    pairs = [*(headers.items() if isinstance(headers, dict) else headers)]
    if method == "POST" and "content-type" not in dict(pairs):
        pairs.insert(0, ("content-type", "application/json"))
    return await drive(gate, http_scope(method, target, headers=pairs, **more), body=data)


class Server:
    """An app that answers every request the same, and remembers what it was asked. `body`: bytes, a list of chunks, or
    what is sent as JSON."""

    def __init__(
        self,
        body: Any = b'{"jsonrpc":"2.0","id":1,"result":{}}',
        content_type: str | None = "application/json",
        *,
        status: int = 200,
        headers: Iterable[tuple[str, str]] = (),
        ends: bool = True,
    ) -> None:
        if isinstance(body, list) and all(isinstance(chunk, bytes) for chunk in body):
            self.chunks = body
        else:
            self.chunks = [body if isinstance(body, bytes) else json.dumps(body).encode()]
        self.status = status
        self.headers = [*headers] if content_type is None else [("content-type", content_type), *headers]
        self.ends = ends
        self.asked: list[tuple[dict[str, list[str]], bytes]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        sent: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            sent.setdefault(name.decode(), []).append(value.decode("latin-1"))
        body, more = b"", True
        while more:
            part = await receive()
            body += part.get("body", b"")
            more = part.get("more_body", False)
        self.asked.append((sent, body))
        pairs = [(name.encode(), value.encode()) for name, value in self.headers]
        await send({"type": "http.response.start", "status": self.status, "headers": pairs})
        for chunk in self.chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if self.ends:
            await send({"type": "http.response.body", "body": b""})


def error_of(exchange: Exchange) -> tuple[int, str]:
    """Code and message of a JSON-RPC error."""
    assert exchange.headers["content-type"] == "application/json"
    found = json.loads(exchange.body)
    assert found["jsonrpc"] == "2.0"
    return found["error"]["code"], found["error"]["message"]


def events(*messages: Any, end: str = "\r\n") -> bytes:
    """An event stream with these messages."""
    return b"".join(f"event: message{end}data: {json.dumps(one)}{end}{end}".encode() for one in messages)


def gated(server: Any, **options: Any) -> Gate:
    """The server behind a Gate that speaks MCP."""
    return Gate(server, protocol=MCP(), **options)
