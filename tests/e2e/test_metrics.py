"""Prometheus' view of a real server after traffic of all kinds; and that the dashboard and the alerts ask for nothing
that is not there."""

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
import pytest
import yaml
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain

from .servers import ROOT, free_port, running, until

DASHBOARD: Final = json.loads((ROOT / "examples" / "grafana" / "agentgate.json").read_text())
ALERTS: Final = yaml.safe_load((ROOT / "examples" / "prometheus" / "alerts.yml").read_text())
SCRAPED: Final = {"job", "instance"}  # labels that Prometheus adds; and its own metric:
OWN: Final = {"up"}

UPSTREAM = """
import asyncio
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route
from agentgate.cli.fake_llm import fake_llm
from agentgate.cli.tool_server import tool_server

def hello(request):
    return PlainTextResponse("hello")

def fails(request):
    return PlainTextResponse("no", 500)

def endless(request):
    async def body():
        while True:
            yield b"x" * 1000
            await asyncio.sleep(0.01)
    return StreamingResponse(body())

app = Starlette(routes=[
    Route("/", hello), Route("/fails", fails), Route("/endless", endless),
    Mount("/llm", fake_llm()), Mount("/tools", tool_server()),
])
"""

GATEWAY = """
from agentgate import CELRules, HTTPBackend, LLMBackend, MCPBackend, Metrics, Observer, Route, create_gateway, shadow

class Broken(Observer):
    def end(self, token, record):
        if record.request.path == "/break":
            raise RuntimeError

tools = CELRules(allow={{"reading": 'mcp.tool.name in ["get_user", "get_weather"]'}})
models = CELRules(allow={{"small": 'llm.requestModel == "gpt-4o-mini"'}})
app = create_gateway(
    Route("/mcp", MCPBackend("http://127.0.0.1:{up}/tools/mcp"), name="tools", authorize=[tools]),
    Route("/v1", LLMBackend("http://127.0.0.1:{up}/llm/v1", include_usage=True), name="models", authorize=[models]),
    Route("/dead", HTTPBackend("http://127.0.0.1:{dead}"), name="dead"),
    Route("/", HTTPBackend("http://127.0.0.1:{up}"), name="rest"),
    authorize=[shadow(CELRules(deny={{"soon": 'request.path == "/"'}}))],
    observe=[Metrics(), Broken()],
    metrics="/metrics",
)
"""

JSON = {"content-type": "application/json", "accept": "application/json, text/event-stream"}


def tool(name: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": {}}}


def chat(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Hello there"}], **more}


def traffic(client: httpx.Client) -> Iterator[int]:
    """Requests of all kinds, and the status of each."""
    for path in ("/", "/fails", "/dead", "/none", "/a//b", "/break"):
        yield client.send(client.build_request("GET", path)).status_code
    for body in (tool("get_user"), tool("drop_table"), {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}):
        yield client.post("/mcp", json=body, headers=JSON).status_code
    for body in (chat("gpt-4o-mini"), chat("gpt-4o-mini", stream=True), chat("o3")):
        yield client.post("/v1/chat/completions", json=body).status_code
    with client.stream("GET", "/endless") as answer:  # and leave
        next(answer.iter_raw())
        yield answer.status_code


class Seen(NamedTuple):
    """What was answered, and what /metrics says then, in either format."""

    statuses: list[int]
    plain: str
    open: str

    @property
    def families(self) -> list[Metric]:
        return list(plain(self.plain))

    def value(self, name: str, **labels: str) -> float:
        """The sum of the series with these labels."""
        samples = [sample for metric in self.families for sample in metric.samples if sample.name == name]
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    @property
    def labels(self) -> dict[str, set[str]]:
        """The labels of every series, by its name."""
        return {sample.name: {*sample.labels} for metric in self.families for sample in metric.samples}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    with ExitStack() as stack:
        upstream = stack.enter_context(running("uvicorn-httptools", UPSTREAM, tmp_path_factory.mktemp("upstream")))
        source = GATEWAY.format(up=upstream.port, dead=free_port())
        gateway = stack.enter_context(running("uvicorn-httptools", source, tmp_path_factory.mktemp("gateway")))
        with httpx.Client(base_url=f"http://127.0.0.1:{gateway.port}", timeout=20) as client:
            statuses = [*traffic(client)]

            def left() -> bool:
                return 'error_type="client_disconnected"' in client.get("/metrics").text

            asyncio.run(until(left))
            text = client.get("/metrics").text
            accept = {"accept": "application/openmetrics-text; version=1.0.0"}
            yield Seen(statuses, text, client.get("/metrics", headers=accept).text)


def test_both_formats_can_be_parsed_and_tell_the_same(seen: Seen) -> None:
    families: list[Metric] = [*open_metrics(seen.open)]  # type: ignore[no-untyped-call]
    assert {metric.name for metric in families} >= {"agentgate_decisions", "gen_ai_client_token_usage"}
    series = [sample.name for metric in seen.families for sample in metric.samples]
    opened = [sample.name for metric in families for sample in metric.samples]
    assert {name for name in series if not name.endswith("_created")} <= {*opened}


def test_traffic_is_counted_as_it_was(seen: Seen) -> None:
    assert seen.statuses == [200, 500, 503, 404, 400, 404, 200, 200, 200, 200, 200, 403, 200]
    requests = "http_server_request_duration_seconds_count"
    for labels, count in (
        ({"http_route": "rest", "http_response_status_code": "200", "error_type": ""}, 1),
        ({"http_route": "rest", "http_response_status_code": "500", "error_type": "500"}, 1),
        ({"http_route": "dead", "http_response_status_code": "503", "error_type": "503"}, 1),
        ({"http_route": "", "http_response_status_code": "400"}, 1),
        ({"http_route": "rest", "error_type": "client_disconnected"}, 1),
        ({"http_route": "tools", "http_response_status_code": "200"}, 3),
        ({"http_route": "models", "http_response_status_code": "403", "error_type": ""}, 1),
    ):
        assert seen.value(requests, **labels) == count, labels
    assert seen.value("http_client_request_duration_seconds_count", error_type="ConnectError") == 1
    assert seen.value("agentgate_decisions_total", effect="deny", rule="soon", enforced="false") == 1
    assert seen.value("agentgate_decisions_total", effect="deny", policy="edge", reason="InvalidRequest") == 1
    assert seen.value("agentgate_observer_errors_total", observer="Broken") == 1
    about = {"gen_ai_request_model": "gpt-4o-mini", "gen_ai_provider_name": "openai", "gen_ai_operation_name": "chat"}
    assert seen.value("gen_ai_client_operation_duration_seconds_count", **about) == 2
    assert seen.value("gen_ai_client_token_usage_sum", gen_ai_token_type="input", **about) == 4
    operations = "mcp_server_operation_duration_seconds_count"
    assert seen.value(operations, gen_ai_tool_name="get_user", error_type="") == 1
    assert seen.value(operations, gen_ai_tool_name="_OTHER", error_type="Authorization") == 1
    assert seen.value(operations, mcp_method_name="tools/list") == 1
    assert seen.value("http_server_active_requests") == 1  # the one that reads them


# -- dashboard and alerts --------------------------------------------------------------------------------------------

_SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\{([^{}]*)\}")
_MATCHER = re.compile(r'\s*([a-zA-Z_]\w*)\s*(?:=~|!~|!=|=)\s*"[^"]*"\s*')
_BY = re.compile(r"\bby\s*\(([^)]*)\)")
_WORDS = {"sum", "rate", "increase", "count", "histogram_quantile", "vector", "or"}


class Asked(NamedTuple):
    """What a PromQL expression asks for: the labels of each metric, and the labels that are left in the answer."""

    metrics: dict[str, set[str]]
    left: set[str]


def asked(expression: str) -> Asked:
    """Read a PromQL expression; one that holds anything else than is known here fails."""
    metrics: dict[str, set[str]] = {}
    by = [{label.strip() for label in found.split(",")} for found in _BY.findall(expression)]
    for name, matchers in _SELECTOR.findall(expression):
        parts = [_MATCHER.fullmatch(part) for part in re.split(r',(?=(?:[^"]*"[^"]*")*[^"]*$)', matchers)]
        assert all(parts), matchers
        metrics.setdefault(name, set()).update(part[1] for part in parts if part)
        for labels in by:
            metrics[name] |= labels
    rest = _BY.sub("", _SELECTOR.sub("", expression))
    rest = re.sub(r"\[(?:\$__rate_interval|\d+[smh])\]", "", rest)
    assert {*re.findall(r"[a-zA-Z_]\w*", rest)} <= _WORDS, expression
    return Asked(metrics, set[str]().union(*by) - {"le"})


PANELS: Final = DASHBOARD["panels"]
QUERIES: Final = [(panel, target) for panel in PANELS for target in panel.get("targets", [])]


@pytest.mark.parametrize(("panel", "target"), QUERIES, ids=[f"{p['title']} {t['refId']}" for p, t in QUERIES])
def test_a_panel_asks_for_what_there_is(panel: dict[str, Any], target: dict[str, Any], seen: Seen) -> None:
    query = asked(target["expr"])
    assert query.metrics
    for metric, labels in query.metrics.items():
        assert metric in seen.labels
        assert labels <= seen.labels[metric] | SCRAPED
        assert "job" in labels  # what the dashboard can be narrowed to
    shown = {*re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])}
    assert shown == query.left


@pytest.mark.parametrize("rule", ALERTS["groups"][0]["rules"], ids=lambda rule: str(rule["alert"]))
def test_an_alert_asks_for_what_there_is(rule: dict[str, Any], seen: Seen) -> None:
    expression = re.sub(r"\s*(?:>|==)\s*[\d.]+\s*$", "", rule["expr"])
    assert expression != rule["expr"]
    query = asked(expression)
    for metric, labels in query.metrics.items():
        assert metric in seen.labels or metric in OWN
        assert labels <= seen.labels.get(metric, set()) | SCRAPED
    told = {*re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])}
    assert told <= (query.left | SCRAPED)
    assert rule["labels"]["severity"] in ("critical", "warning")


def test_every_metric_has_a_panel(seen: Seen) -> None:
    shown = {metric for _, target in QUERIES for metric in asked(target["expr"]).metrics}
    for family in seen.families:
        if not family.name.endswith("_created"):
            assert any(name.startswith(family.name) for name in shown), family.name


def test_the_dashboard_is_one_that_grafana_loads() -> None:
    assert DASHBOARD["schemaVersion"] >= 36
    assert {"title", "uid", "time", "templating", "panels"} <= {*DASHBOARD}
    assert "id" not in DASHBOARD  # one that is imported has none
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert (variables["datasource"]["type"], variables["datasource"]["query"]) == ("datasource", "prometheus")
    ids = [panel["id"] for panel in PANELS]
    assert len(ids) == len({*ids})
    places: set[tuple[int, int]] = set()
    for panel in PANELS:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & places, panel["title"]
        assert max(x for x, _ in cells) < 24
        places |= cells
        if panel["type"] == "row":
            continue
        assert panel["type"] in ("timeseries", "stat")
        assert panel["title"]
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"] in ("reqps", "s", "short", "percentunit", "none")
        for part in (panel, *panel["targets"]):
            assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert all(target["legendFormat"] for target in panel["targets"])
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_the_configuration_of_prometheus_scrapes_what_the_alerts_are_about() -> None:
    file = Path(ROOT / "examples" / "prometheus" / "prometheus.yml")
    config = yaml.safe_load(file.read_text())
    (job,) = config["scrape_configs"]
    assert (job["job_name"], job["metrics_path"]) == ("agentgate", "/metrics")
    assert all((file.parent / name).exists() for name in config["rule_files"])
