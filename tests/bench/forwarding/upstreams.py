"""The servers behind the proxies, and nginx as one of the proxies."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from .servers import GATEWAY_CORE, OTHER_CORE, Server, free_port, nginx, started, uvicorn

Upstream = Callable[[Path], AbstractContextManager[Server]]

SMALL = json.dumps({"message": "x" * 186})  # 200 bytes
CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "How is the weather in Paris today?"}]}
COMPLETION = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o-2030-01-01",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Sunny."}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 16, "completion_tokens": 2, "total_tokens": 18},
    }
)
JSON = {"content-type": "application/json"}
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "add", "arguments": {"a": 1, "b": 2}}}
CALL_HEADERS = {
    **JSON,
    "accept": "application/json, text/event-stream",
    "mcp-protocol-version": "2025-11-25",
}


@contextmanager
def http(folder: Path) -> Iterator[Server]:
    """nginx with a small and a large answer, and with the event streams of another server behind the same port."""
    port, events = free_port(), free_port()
    (folder / "large").write_bytes(b"x" * 100_000)
    blocks = (
        f"upstream events {{ server 127.0.0.1:{events}; keepalive 64; }}\n"
        f"server {{ listen 127.0.0.1:{port} backlog=4096;\n"
        f"location = /small {{ default_type application/json; return 200 '{SMALL}'; }}\n"
        f"location = /large {{ root {folder}; }}\n"
        "location = /events { proxy_pass http://events; proxy_http_version 1.1; proxy_set_header Connection '';"
        " proxy_buffering off; } }"
    )
    here = [sys.executable, "-m", "tests.bench.forwarding.events", str(events)]
    with started(here, events, OTHER_CORE), nginx(folder / "upstream", blocks, port, OTHER_CORE) as server:
        yield server


@contextmanager
def llm(folder: Path) -> Iterator[Server]:
    """nginx with one answer to every chat."""
    port = free_port()
    blocks = (
        f"server {{ listen 127.0.0.1:{port} backlog=4096;\n"
        f"location / {{ default_type application/json; return 200 '{COMPLETION}'; }} }}"
    )
    with nginx(folder / "upstream", blocks, port, OTHER_CORE) as server:
        yield server


@contextmanager
def mcp(folder: Path) -> Iterator[Server]:
    """A server made with the `mcp` SDK, without sessions."""
    with uvicorn("tests.bench.forwarding.apps:mcp_server", {}, OTHER_CORE) as server:
        yield server


@contextmanager
def nginx_proxy(folder: Path, upstream: str) -> Iterator[Server]:
    """nginx as the proxy."""
    port = free_port()
    blocks = (
        f"upstream up {{ server {upstream.removeprefix('http://')}; keepalive 256; keepalive_requests 1000000000; }}\n"
        f"server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ proxy_pass http://up;"
        " proxy_http_version 1.1; proxy_set_header Connection ''; proxy_buffering off; } }"
    )
    with nginx(folder / "proxy", blocks, port, GATEWAY_CORE) as server:
        yield server
