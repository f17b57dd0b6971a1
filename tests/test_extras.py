"""Every use of what an extra brings says, when it is not installed, which extra that is, and nothing else happens."""

import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from agentgate import ConfigurationError, HTTPBackend, LLMBackend, MCPBackend, Metrics, RedisStore, Secret, WebSockets
from agentgate.cli.otlp import exporting
from agentgate.documents import load_yaml
from agentgate.errors import needs_extra


def http2() -> httpx.AsyncHTTPTransport:
    return httpx.AsyncHTTPTransport(http2=True, trust_env=False)


USES: list[tuple[str, str, str, Callable[[], Any]]] = [
    ("Metrics", "prometheus", "prometheus_client", Metrics),
    ("RedisStore", "redis", "redis.asyncio", lambda: RedisStore("redis://cache")),
    ("RedisStore", "redis", "limits.aio", lambda: RedisStore("redis://cache")),
    ("WebSockets", "websocket", "websockets", WebSockets),
    ("HTTP/2", "http2", "h2", lambda: HTTPBackend("https://up", transport=http2())),
    ("HTTP/2", "http2", "h2", lambda: MCPBackend("https://up/mcp", transport=http2())),
    ("HTTP/2", "http2", "h2", lambda: LLMBackend("https://up/v1", credential=Secret("x"), transport=http2())),
    ("reading YAML", "yaml", "yaml", lambda: load_yaml("a: 1")),
    (
        "MCPBackend with several servers",
        "mcp",
        "agentgate.proxy.federation.app",
        lambda: MCPBackend({"a": "http://a/mcp", "b": "http://b/mcp"}),
    ),
    (
        "sending traces",
        "otel",
        "opentelemetry.exporter.otlp.proto.http.trace_exporter",
        lambda: exporting("http://localhost"),
    ),
]


@pytest.mark.parametrize(("what", "extra", "module", "use"), USES, ids=[f"{use[0]}: {use[2]}" for use in USES])
def test_without_the_extra(
    what: str, extra: str, module: str, use: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigurationError) as caught:
        use()
    assert caught.value.faults == (needs_extra(what, extra),)
    assert caught.value.__cause__ is None


def test_the_extras_are_those_of_the_package() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    assert {extra for _, extra, _, _ in USES} <= set(project["optional-dependencies"])
    assert needs_extra("Metrics", "prometheus") == (
        f"Metrics needs the extra `prometheus`: pip install '{project['name']}[prometheus]'"
    )
