"""What MCP costs: a Gate that reads calls and filters lists, beside one that only knows the key.

Run it: `python tests/bench/mcp_calls.py`. All rows come from one run, their rounds interleaved; compare the ratios.
"""

import asyncio
import json
import statistics
import time
from collections.abc import Mapping
from typing import Any

from agentgate import MCP, APIKeyAuth, CELRules, Gate, hash_key, new_key

KEY = new_key()
RULES = CELRules(allow=['mcp.tool.name.startsWith("get_") && apiKey.group == "eng"'])
CALL = {"name": "get_user", "arguments": {"id": 7, "fields": ["name", "email"]}}
TOOLS = [
    {
        "name": f"{'get' if n % 2 else 'set'}_{n}",
        "description": "What this tool does, in a sentence or two, as models like to have it.",
        "inputSchema": {"type": "object", "properties": {"id": {"type": "integer"}, "name": {"type": "string"}}},
    }
    for n in range(50)
]
PROGRESS = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1, "progress": 0.5}}


def answer(content_type: bytes, *chunks: bytes) -> Any:
    start = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", content_type)]}
    bodies = [{"type": "http.response.body", "body": chunk, "more_body": True} for chunk in chunks]
    bodies[-1]["more_body"] = False

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(start)
        for body in bodies:
            await send(body)

    return app


def result(**members: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": members}).encode()


RESULT = answer(b"application/json", result(content=[{"type": "text", "text": "alice, alice@example.com"}]))
LIST = answer(b"application/json", result(tools=TOOLS))
EVENTS = [b"event: message\r\ndata: " + json.dumps(PROGRESS).encode() + b"\r\n\r\n"] * 100
STREAM = answer(b"text/event-stream", *EVENTS)


def contestants() -> dict[str, tuple[Any, dict[str, Any]]]:
    """What is measured: an app, and the message it gets."""
    keys = APIKeyAuth({"alice": hash_key(KEY)})
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": CALL}
    listing = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    open_rules = CELRules(allow=['mcp.tool.name.startsWith("get_")'])

    def gate(app: Any, **options: Any) -> Gate:
        return Gate(app, authenticate=[keys], **options)

    return {
        "bare app": (RESULT, call),
        "a call: API key": (gate(RESULT), call),
        "a call: API key, MCP": (gate(RESULT, protocol=MCP()), call),
        "a call: API key, MCP, a rule": (gate(RESULT, protocol=MCP(), authorize=[open_rules]), call),
        "a denied call": (gate(RESULT, protocol=MCP(), authorize=[RULES]), call),
        "bare list": (LIST, listing),
        "a list of 50 tools, filtered": (gate(LIST, protocol=MCP(), authorize=[open_rules]), listing),
        "bare stream": (STREAM, call),
        "a stream of 100 events": (gate(STREAM, protocol=MCP(), authorize=[open_rules]), call),
    }


async def _send(message: object) -> None:
    pass


def _scope(body: bytes) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 53122),
        "scheme": "http",
        "method": "POST",
        "root_path": "",
        "path": "/mcp",
        "raw_path": b"/mcp",
        "query_string": b"",
        "headers": [
            (b"host", b"localhost:8000"),
            (b"accept", b"application/json, text/event-stream"),
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"mcp-protocol-version", b"2025-11-25"),
            (b"authorization", b"Bearer " + KEY.encode()),
        ],
    }


async def _round(app: Any, body: bytes, requests: int) -> float:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    started = time.process_time_ns()
    for _ in range(requests):
        await app(_scope(body), receive, _send)
    return (time.process_time_ns() - started) / requests / 1000


async def _measure(rounds: int, requests: int) -> dict[str, float]:
    apps = {name: (app, json.dumps(message).encode()) for name, (app, message) in contestants().items()}
    times: dict[str, list[float]] = {name: [] for name in apps}
    for _ in range(rounds):
        for name, (app, body) in apps.items():
            times[name].append(await _round(app, body, requests))
    return {name: statistics.median(values) for name, values in times.items()}


def measure(rounds: int = 11, requests: int = 400) -> Mapping[str, float]:
    """Microseconds of CPU per request that each contestant adds to its bare app: medians of interleaved rounds."""
    times = asyncio.run(_measure(rounds, requests))
    bare = ""
    added = {}
    for name, microseconds in times.items():
        if name.startswith("bare"):
            bare = name
        else:
            added[name] = microseconds - times[bare]
    return added


def main() -> None:
    added = measure()
    print("| added to a bare app | µs per request | of a key alone |\n| --- | ---: | ---: |")
    for name, microseconds in added.items():
        print(f"| {name} | {microseconds:.1f} | {microseconds / added['a call: API key']:.1f} |")


if __name__ == "__main__":
    main()
