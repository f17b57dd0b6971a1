"""What Prometheus is told when it reads: in which format, by which methods, and over several processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain

from agentgate import ConfigurationError, Metrics
from agentgate.observe.exposition import MULTIPROCESS, Exposition
from agentgate.testing import drive, http_scope, websocket_scope

ROOT = Path(__file__).parents[2]
PLAIN = "text/plain; version=0.0.4; charset=utf-8"


def exposition() -> Exposition:
    registry = CollectorRegistry()
    Counter("things", "What there is.", registry=registry).inc()
    return Exposition(registry)


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("", PLAIN),
        ("*/*", PLAIN),
        ("text/html", PLAIN),
        ("application/openmetrics-text; version=x\u00b2", PLAIN),  # no version at all
        ("application/openmetrics-text; version=1", PLAIN),
        ("application/openmetrics-text; version=1.0.0\r\nx: y", PLAIN),
        ("application/openmetrics-text; version=1.0.0; escaping=no", "application/openmetrics-text; version=1.0.0"),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text; version=1.0.0"),
        ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.2", "application/openmetrics-text"),
    ],
)
@pytest.mark.anyio
async def test_the_format_is_the_one_that_is_asked_for(accept: str, media_type: str) -> None:
    exchange = await drive(exposition(), http_scope(headers={"accept": accept} if accept else {}))
    assert exchange.status == 200
    assert exchange.headers["content-type"].startswith(media_type)
    assert exchange.headers["content-length"] == str(len(exchange.body))
    parse = open_metrics if media_type.startswith("application/") else plain
    assert next(iter(parse(exchange.text))).name == "things"


@pytest.mark.parametrize(
    ("method", "status", "empty"),
    [("GET", 200, False), ("HEAD", 200, True), ("POST", 405, True), ("DELETE", 405, True), ("OPTIONS", 405, True)],
)
@pytest.mark.anyio
async def test_it_is_read_and_nothing_else(method: str, status: int, empty: bool) -> None:
    exchange = await drive(exposition(), http_scope(method, "/any/path"))
    assert (exchange.status, not exchange.body) == (status, empty)
    if status == 405:
        assert exchange.headers["allow"] == "GET, HEAD"
    elif method == "HEAD":
        assert int(exchange.headers["content-length"]) > 0


@pytest.mark.anyio
async def test_websockets_are_refused_and_it_may_be_an_app_of_its_own() -> None:
    assert (await drive(exposition(), websocket_scope("/"))).close_code == 1008
    lifespan = await drive(exposition(), {"type": "lifespan"})
    assert [message["type"] for message in lifespan.messages] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]


# -- several processes -----------------------------------------------------------------------------------------------


WORKER = """
import asyncio, sys
from agentgate import CELRules, Gate, Metrics, shadow
from agentgate.testing import drive, http_scope

async def hello(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/wait":
        print("waiting", flush=True)
        sys.stdin.read()
    await send({"type": "http.response.body", "body": b"hello"})

rules = CELRules(deny={"no 1": 'request.path == "/1"'})

async def main(paths):
    metrics = Metrics()
    app = Gate(hello, authorize=[rules], observe=[metrics])
    for path in paths:
        await drive(app, http_scope("GET", path))
    sys.stdout.write((await drive(metrics.app, http_scope())).text)

asyncio.run(main(sys.argv[1:]))
"""


def worker(folder: Path, *paths: str) -> "subprocess.Popen[str]":
    env = {**os.environ, "PYTHONPATH": str(ROOT), MULTIPROCESS: str(folder)}
    command = [sys.executable, "-c", WORKER, *paths]
    return subprocess.Popen(command, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def values(text: str) -> dict[tuple[str, str], float]:
    samples = [sample for metric in plain(text) for sample in metric.samples]
    return {
        (one.name, one.labels.get("http_response_status_code") or one.labels.get("rule", "")): one.value
        for one in samples
    }


def test_any_process_tells_of_all(tmp_path: Path) -> None:
    """One of two workers is in the middle of a request while the other is read."""
    first = worker(tmp_path, "/1", "/2", "/wait")
    assert first.stdout is not None
    assert first.stdout.readline() == "waiting\n"
    text, _ = worker(tmp_path, "/1", "/1", "/3").communicate(timeout=30)
    found = values(text)
    assert found["http_server_request_duration_seconds_count", "200"] == 2
    assert found["http_server_request_duration_seconds_count", "403"] == 3
    assert found["agentgate_decisions_total", "no 1"] == 3
    assert found["http_server_active_requests", ""] == 1
    assert found["agentgate_build_info", ""] == 1
    text, _ = first.communicate(timeout=30)
    assert values(text)["http_server_request_duration_seconds_count", "200"] == 3


def test_values_that_could_not_be_shared_are_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MULTIPROCESS, str(tmp_path / "none"))
    with pytest.raises(ConfigurationError, match="is no directory"):
        Metrics()
    monkeypatch.setenv(MULTIPROCESS, str(tmp_path))  # too late: prometheus_client has been imported
    with pytest.raises(ConfigurationError, match="before prometheus_client is imported"):
        Metrics()
