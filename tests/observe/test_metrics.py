"""What is counted and measured, under which labels; and that nobody who calls decides how many labels there are."""

import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Mount

from agentgate import (
    AllowedModels,
    APIKeyAuth,
    Authorizer,
    CELMiddleware,
    CELRules,
    ConfigurationError,
    Decision,
    Gate,
    HTTPBackend,
    Key,
    LLMBackend,
    MCPBackend,
    Metrics,
    MetricsMiddleware,
    Names,
    Observer,
    Record,
    Request,
    Route,
    __version__,
    abstain,
    all_of,
    allow,
    any_of,
    authorizer,
    create_gateway,
    deny,
    hash_key,
    new_key,
    shadow,
)
from agentgate.observe import metrics as conventions
from agentgate.observe.series import MAX_SERIES, OTHER
from agentgate.testing import drive, http_scope, websocket_scope

KEY = new_key()
BEARER = {"authorization": f"Bearer {KEY}"}
REQUESTS = "http_server_request_duration_seconds_count"
UPSTREAM = "http_client_request_duration_seconds_count"
DECISIONS = "agentgate_decisions_total"
MCP = "mcp_server_operation_duration_seconds_count"
LLM = "gen_ai_client_operation_duration_seconds_count"
ACTIVE = "http_server_active_requests"


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"hello"})


def samples(metrics: Metrics, name: str) -> dict[tuple[tuple[str, str], ...], float]:
    """The values of one series name, by the labels that are not empty."""
    return {
        tuple(sorted((label, value) for label, value in sample.labels.items() if value)): sample.value
        for metric in metrics.registry.collect()
        for sample in metric.samples
        if sample.name == name
    }


def one(metrics: Metrics, name: str) -> dict[str, str]:
    """The labels of the only series of this name."""
    (labels,) = samples(metrics, name)
    return dict(labels)


def values(metrics: Metrics, name: str, label: str) -> set[str]:
    """All values of one label."""
    return {dict(labels).get(label, "") for labels in samples(metrics, name)}


# -- requests --------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_request_is_counted_measured_and_no_longer_active() -> None:
    metrics = Metrics()
    active: list[Mapping[Any, float]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        active.append(samples(metrics, ACTIVE))
        await hello(scope, receive, send)

    await drive(Gate(app, observe=[metrics]), http_scope("GET", "/x?secret=1"))
    labels = {"http_request_method": "GET", "url_scheme": "http"}
    assert one(metrics, REQUESTS) == {**labels, "http_response_status_code": "200"}
    assert active == [{tuple(labels.items()): 1}]
    assert samples(metrics, ACTIVE) == {tuple(labels.items()): 0}
    assert one(metrics, "agentgate_build_info") == {"version": __version__}


@pytest.mark.parametrize(
    ("method", "label"),
    [("GET", "GET"), ("QUERY", "QUERY"), ("get", OTHER), ("PROPFIND", OTHER), ('X"} 1\n', OTHER)],
)
@pytest.mark.anyio
async def test_methods_are_those_that_are_known(method: str, label: str) -> None:
    metrics = Metrics()
    await drive(Gate(hello, observe=[metrics]), http_scope(method))
    assert one(metrics, REQUESTS)["http_request_method"] == label
    assert one(metrics, ACTIVE)["http_request_method"] == label


@pytest.mark.parametrize(
    ("status", "labels"),
    [
        (204, {"http_response_status_code": "204"}),
        (404, {"http_response_status_code": "404"}),  # the client's error: none of the server's
        (503, {"http_response_status_code": "503", "error_type": "503"}),
        (299, {"http_response_status_code": OTHER}),
        (599, {"http_response_status_code": OTHER, "error_type": OTHER}),
    ],
)
@pytest.mark.anyio
async def test_statuses_and_errors(status: int, labels: dict[str, str]) -> None:
    metrics = Metrics()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    await drive(Gate(app, observe=[metrics]), http_scope())
    assert one(metrics, REQUESTS) == {"http_request_method": "GET", "url_scheme": "http", **labels}


@pytest.mark.anyio
async def test_an_app_that_raises_is_a_500_and_one_that_breaks_off_is_told() -> None:
    async def raises(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError

    async def breaks(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError

    for app, status, error in ((raises, "500", "500"), (breaks, "200", "Internal")):
        metrics = Metrics()
        await drive(Gate(app, observe=[metrics]), http_scope(), catch=True)
        labels = one(metrics, REQUESTS)
        assert (labels["http_response_status_code"], labels["error_type"]) == (status, error)
        assert {*samples(metrics, ACTIVE).values()} == {0}


@pytest.mark.anyio
async def test_the_duration_ends_with_the_stream() -> None:
    metrics = Metrics()
    counted: list[int] = []

    async def streams(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for more in (True, True, False):
            counted.append(len(samples(metrics, REQUESTS)))
            await send({"type": "http.response.body", "body": b"x", "more_body": more})
        counted.append(len(samples(metrics, REQUESTS)))

    await drive(Gate(streams, observe=[metrics]), http_scope())
    assert counted == [0, 0, 0, 1]


@pytest.mark.anyio
async def test_websockets_are_counted() -> None:
    metrics = Metrics()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 1000})

    await drive(Gate(app, observe=[metrics]), websocket_scope("/"))
    expected = {"http_request_method": "GET", "url_scheme": "ws", "http_response_status_code": "101"}
    assert one(metrics, REQUESTS) == expected


@pytest.mark.anyio
async def test_routes_of_starlette_and_fastapi_are_told_apart_by_their_paths() -> None:
    metrics = Metrics()
    api, users = FastAPI(), APIRouter(prefix="/users")

    @users.get("/{name}")
    def user(name: str) -> str:
        return name

    api.include_router(users)
    app = Gate(Starlette(routes=[Mount("/api", api)]), observe=[metrics])
    for number in range(50):
        await drive(app, http_scope("GET", f"/api/users/{number}"))
        await drive(app, http_scope("GET", f"/api/other/{number}"))
        await drive(app, http_scope("GET", f"/{number}"))
    assert values(metrics, REQUESTS, "http_route") == {"/api/users/{name}", "/api", ""}


class Odd:
    path = 42


@pytest.mark.parametrize("route", [None, "x", Odd(), {"path": "/x"}])
@pytest.mark.anyio
async def test_what_an_app_leaves_in_the_scope_may_be_anything(route: Any) -> None:
    metrics = Metrics()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["route"] = route
        await hello(scope, receive, send)

    await drive(Gate(app, observe=[metrics]), http_scope())
    assert "http_route" not in one(metrics, REQUESTS)


@pytest.mark.parametrize(
    ("trace", "span", "sampled", "shown"),
    [
        ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", True, True),
        ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", False, False),
        ("0af7651916cd43dd8448eb211c80319c", None, True, False),
        ("x" * 500, "b7ad6b7169203331", True, False),
        ("0af7651916cd43dd8448eb211c80319c", "x" * 500, True, False),
    ],
)
@pytest.mark.anyio
async def test_the_id_of_a_span_that_is_kept_is_an_exemplar(
    trace: str, span: str | None, sampled: bool, shown: bool
) -> None:
    class Traced(Observer):
        def start(self, request: Request) -> None:
            pass

        def judged(self, token: Any, record: Record) -> None:
            record.trace_id, record.span_id, record.sampled = trace, span, sampled

        def end(self, token: Any, record: Record) -> None:
            pass

    metrics = Metrics()
    app = Gate(hello, observe=[metrics, Traced()])
    await drive(app, http_scope())
    exchange = await drive(metrics.app, http_scope(headers={"accept": "application/openmetrics-text; version=1.0.0"}))
    assert (f'trace_id="{trace}"' in exchange.text) is shown
    assert {*samples(metrics, REQUESTS).values()} == {1}


# -- decisions -------------------------------------------------------------------------------------------------------


RULES = CELRules(allow={"readers": 'request.method == "GET"'}, deny={"no admin": 'request.path == "/admin"'})


@pytest.mark.parametrize(
    ("authorize", "path", "decisions"),
    [
        ([RULES], "/", [("CELRules", "readers", "allow", "", "true")]),
        ([RULES], "/admin", [("CELRules", "no admin", "deny", "Authorization", "true")]),
        ([shadow(RULES)], "/admin", [("CELRules", "no admin", "deny", "Authorization", "false")]),
        ([any_of(RULES)], "/admin", [("CELRules", "no admin", "deny", "Authorization", "true")]),
        ([all_of(RULES, RULES)], "/", [("CELRules", "readers", "allow", "", "true")]),
        ([RULES], "/../admin", [("edge", "", "deny", "InvalidRequest", "true")]),
        ([authorizer(lambda request: allow(rule="r"))], "/", [("<lambda>", OTHER, "allow", "", "true")]),
        ([authorizer(lambda request: deny(policy="x"))], "/", [(OTHER, "", "deny", "Authorization", "true")]),
        ([authorizer(lambda request: abstain())], "/", [("<lambda>", "", "deny", "Internal", "true")]),
    ],
)
@pytest.mark.anyio
async def test_every_decision_is_counted(
    authorize: Sequence[Authorizer], path: str, decisions: list[tuple[str, ...]]
) -> None:
    metrics = Metrics()
    await drive(Gate(hello, authorize=authorize, observe=[metrics]), http_scope("GET", path))
    names = ("policy", "rule", "effect", "reason", "enforced")
    found = [tuple(dict(labels).get(name, "") for name in names) for labels in samples(metrics, DECISIONS)]
    assert found == decisions


@pytest.mark.anyio
async def test_a_refused_caller_is_counted_by_the_authenticator() -> None:
    metrics = Metrics()
    app = Gate(hello, authenticate=[APIKeyAuth({"alice": hash_key(KEY)})], observe=[metrics])
    await drive(app, http_scope())
    await drive(app, http_scope(headers=BEARER))
    assert {(dict(k)["policy"], dict(k)["effect"]): v for k, v in samples(metrics, DECISIONS).items()} == {
        ("APIKeyAuth", "deny"): 1,
        ("APIKeyAuth", "allow"): 1,
    }
    exposed = (await drive(metrics.app, http_scope())).text
    assert "alice" not in exposed
    assert KEY not in exposed


@pytest.mark.anyio
async def test_a_gate_further_in_is_known_from_its_first_request() -> None:
    """Between the two is what has no Gate's names: middleware of somebody else, and an app that is mounted."""
    metrics = Metrics()
    within = Gate(hello, authorize=[RULES])
    app = Starlette(
        routes=[Mount("/sub", within)],
        middleware=[
            Middleware(MetricsMiddleware, metrics=metrics),
            Middleware(CORSMiddleware),
            Middleware(CELMiddleware, deny={"outer": 'request.path == "/sub/no"'}),
        ],
    )
    for path in ("/sub/x", "/sub/no", "/sub/x"):
        await drive(app, http_scope("GET", path))
    assert values(metrics, DECISIONS, "rule") == {"readers", "outer", ""}


@pytest.mark.anyio
async def test_each_observer_is_told_once_of_a_gate_further_in() -> None:
    class Learning(Observer):
        def __init__(self) -> None:
            self.told: list[Names] = []

        def attached(self, names: Names) -> None:
            self.told.append(names)

        def end(self, token: Any, record: Record) -> None:
            pass

    first, second, within = Learning(), Learning(), Gate(hello, authorize=[RULES])
    apps = [Gate(within, observe=[first]), Gate(within, observe=[second]), Gate(within, observe=[first, second])]
    for app in [*apps, *apps]:
        await drive(app, http_scope())
    told = [RULES.names()]
    assert [names for names in first.told if names.rules] == told
    assert [names for names in second.told if names.rules] == told


class Raises(Observer):
    """An observer that can do nothing."""

    def attached(self, names: Names) -> None:
        raise RuntimeError("hunter2")

    def start(self, request: Request) -> None:
        pass

    def failed(self, token: Any, record: Record, observer: Observer) -> None:
        raise RuntimeError("hunter2")

    def end(self, token: Any, record: Record) -> None:
        raise RuntimeError("hunter2")


@pytest.mark.anyio
async def test_observers_that_raise_are_counted_and_stop_nobody(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    within = Gate(hello, authorize=[RULES])

    class Late(Raises):
        def attached(self, names: Names) -> None:
            if names.rules:
                raise RuntimeError("hunter2")

    assert (await drive(Gate(within, observe=[Late(), metrics, Late()]), http_scope())).text == "hello"
    assert samples(metrics, "agentgate_observer_errors_total") == {(("observer", "Late"),): 2}
    assert values(metrics, DECISIONS, "rule") == {"readers"}
    assert "hunter2" not in caplog.text


def test_what_an_observer_raises_while_a_gate_is_built_is_raised() -> None:
    with pytest.raises(RuntimeError):
        Gate(hello, observe=[Raises()])


# -- a gateway -------------------------------------------------------------------------------------------------------


def answering(handler: Any) -> httpx.MockTransport:
    return httpx.MockTransport(handler)


def ok(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, text="hello")


@pytest.mark.anyio
async def test_routes_by_name_refused_or_not_and_none_where_there_is_none() -> None:
    metrics = Metrics()
    app = create_gateway(
        Route("/a", HTTPBackend("http://up:9000", transport=answering(ok)), name="first", authorize=[RULES]),
        Route("/b", HTTPBackend("http://up:9000", transport=answering(ok))),
        observe=[metrics],
    )
    for method, path in (("GET", "/a/1"), ("POST", "/a/2"), ("GET", "/b/3"), ("GET", "/c/4"), ("GET", "/a/../5")):
        await drive(app, http_scope(method, path))
    labels = map(dict, samples(metrics, REQUESTS))
    assert [(found.get("http_route"), found["http_response_status_code"]) for found in labels] == [
        ("first", "200"),
        ("first", "403"),
        ("/b", "200"),
        (None, "404"),
        (None, "400"),
    ]


@pytest.mark.parametrize(
    ("fails", "client", "server"),
    [
        (None, {"http_response_status_code": "200"}, {"http_response_status_code": "200"}),
        (404, {"http_response_status_code": "404", "error_type": "404"}, {"http_response_status_code": "404"}),
        (
            httpx.ConnectError("x"),
            {"error_type": "ConnectError"},
            {"http_response_status_code": "503", "error_type": "503"},
        ),
        (
            httpx.ReadTimeout("x"),
            {"error_type": "ReadTimeout"},
            {"http_response_status_code": "504", "error_type": "504"},
        ),
        (
            101,
            {"http_response_status_code": "101", "error_type": OTHER},
            {"http_response_status_code": "502", "error_type": "502"},
        ),
    ],
)
@pytest.mark.anyio
async def test_requests_to_upstreams(fails: Any, client: dict[str, str], server: dict[str, str]) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if isinstance(fails, Exception):
            raise fails
        return httpx.Response(fails or 200)

    metrics = Metrics()
    app = create_gateway(Route("/", HTTPBackend("https://up", transport=answering(handler))), observe=[metrics])
    await drive(app, http_scope())
    about = {"http_request_method": "GET", "server_address": "up", "server_port": "443"}
    assert one(metrics, UPSTREAM) == {**about, **client}
    about = {"http_request_method": "GET", "url_scheme": "http", "http_route": "/"}
    assert one(metrics, REQUESTS) == {**about, **server}


class Endless(httpx.AsyncByteStream):
    async def __aiter__(self) -> Any:
        yield b"a"
        raise httpx.ReadError("gone")


@pytest.mark.anyio
async def test_an_upstream_that_breaks_off_is_an_error_of_both() -> None:
    metrics = Metrics()
    transport = answering(lambda request: httpx.Response(200, stream=Endless()))
    app = create_gateway(Route("/", HTTPBackend("http://up", transport=transport)), observe=[metrics])
    await drive(app, http_scope())
    assert one(metrics, UPSTREAM)["error_type"] == "ReadError"
    assert one(metrics, REQUESTS)["error_type"] == "UpstreamFailure"


@pytest.mark.anyio
async def test_a_client_that_leaves_is_told_from_one_that_stays() -> None:
    metrics = Metrics()
    app = create_gateway(Route("/", HTTPBackend("http://up", transport=answering(ok))), observe=[metrics])
    await drive(app, http_scope("POST", "/"), body=[b"half"], abort=True)
    assert one(metrics, REQUESTS)["error_type"] == "client_disconnected"
    assert "http_response_status_code" not in one(metrics, REQUESTS)


# -- MCP and LLM -----------------------------------------------------------------------------------------------------


TOOLS = CELRules(
    allow={
        "named": 'mcp.tool.name in ["get_user", "transfer"] || mcp.prompt.name == "greet"',
        "any other get": 'mcp.tool.name.startsWith("get_")',
    }
)
MCP_HEADERS = {"content-type": "application/json", "accept": "application/json, text/event-stream"}


def message(method: str, **params: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()


def tools_app(metrics: Metrics) -> Any:
    def handler(request: httpx.Request) -> httpx.Response:
        asked = json.loads(request.content)
        answer = {"jsonrpc": "2.0", "id": asked["id"], "result": {}}
        if code := asked["params"].get("arguments", {}).get("code"):
            answer = {"jsonrpc": "2.0", "id": asked["id"], "error": {"code": code, "message": "no"}}
        return httpx.Response(200, json=answer)

    backend = MCPBackend("http://tools:9000/mcp", transport=answering(handler))
    return create_gateway(Route("/mcp", backend, name="tools", authorize=[TOOLS]), observe=[metrics])


@pytest.mark.parametrize(
    ("body", "labels"),
    [
        (message("tools/list"), {"mcp_method_name": "tools/list"}),
        (
            message("tools/call", name="get_user"),
            {"mcp_method_name": "tools/call", "gen_ai_tool_name": "get_user"},
        ),
        (
            message("tools/call", name="get_weather"),  # allowed by a prefix: no rule has its name
            {"mcp_method_name": "tools/call", "gen_ai_tool_name": OTHER},
        ),
        (
            message("tools/call", name="drop"),
            {"mcp_method_name": "tools/call", "gen_ai_tool_name": OTHER, "error_type": "Authorization"},
        ),
        (
            message("prompts/get", name="greet"),
            {"mcp_method_name": "prompts/get", "gen_ai_prompt_name": "greet"},
        ),
        (
            message("tools/call", name="get_user", arguments={"code": -32602}),
            {"mcp_method_name": "tools/call", "gen_ai_tool_name": "get_user", "error_type": "-32602"},
        ),
        (
            message("tools/call", name="get_user", arguments={"code": 123456}),
            {"mcp_method_name": "tools/call", "gen_ai_tool_name": "get_user", "error_type": OTHER},
        ),
        (message("made/up"), {"mcp_method_name": OTHER, "error_type": "Authorization"}),
    ],
)
@pytest.mark.anyio
async def test_mcp_operations(body: bytes, labels: dict[str, str]) -> None:
    metrics = Metrics()
    await drive(tools_app(metrics), http_scope("POST", "/mcp", headers=MCP_HEADERS), body=body)
    assert one(metrics, MCP) == labels


@pytest.mark.anyio
async def test_an_mcp_server_that_cannot_be_reached_is_an_error() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no")

    metrics = Metrics(tools=["get_x"])
    backend = MCPBackend("http://tools:9000/mcp", transport=answering(handler))
    app = create_gateway(Route("/mcp", backend, authorize=[TOOLS]), observe=[metrics])
    body = message("tools/call", name="get_x")
    await drive(app, http_scope("POST", "/mcp", headers=MCP_HEADERS), body=body)
    assert one(metrics, MCP) == {
        "mcp_method_name": "tools/call",
        "gen_ai_tool_name": "get_x",
        "error_type": "UpstreamFailure",
    }


MODELS = CELRules(allow={"small": 'llm.requestModel == "gpt-4o-mini"', "own": "has(apiKey.allowedModels)"})


def chat(model: str) -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello"}]}).encode()


def models_app(metrics: Metrics, answer: httpx.Response | None = None) -> Any:
    usage = {"prompt_tokens": 3, "completion_tokens": 70}
    found = answer or httpx.Response(200, json={"model": "x", "choices": [], "usage": usage})
    backend = LLMBackend("http://models/v1", transport=answering(lambda request: found))
    return create_gateway(
        Route("/v1", backend, name="models", authorize=[MODELS, AllowedModels()]),
        authenticate=[APIKeyAuth([Key("bob", KEY, {"allowedModels": ["o3", "claude-*"]})])],
        mode="optional",
        observe=[metrics],
    )


@pytest.mark.parametrize(
    ("model", "headers", "label"),
    [
        ("gpt-4o-mini", {}, "gpt-4o-mini"),  # a rule has it
        ("o3", BEARER, "o3"),  # the key has it
        ("claude-1", BEARER, OTHER),  # the key has a pattern alone
        ("claude-*", BEARER, "claude-*"),
    ],
)
@pytest.mark.anyio
async def test_questions_to_models(model: str, headers: dict[str, str], label: str) -> None:
    metrics = Metrics()
    scope = http_scope("POST", "/v1/chat/completions", headers={"content-type": "application/json", **headers})
    assert (await drive(models_app(metrics), scope, body=chat(model))).status == 200
    about = {
        "gen_ai_operation_name": "chat",
        "gen_ai_provider_name": "openai",
        "gen_ai_request_model": label,
    }
    assert one(metrics, LLM) == about
    tokens = samples(metrics, "gen_ai_client_token_usage_sum")
    assert tokens == {
        tuple({**about, "gen_ai_token_type": "input"}.items()): 3,
        tuple({**about, "gen_ai_token_type": "output"}.items()): 70,
    }


@pytest.mark.anyio
async def test_a_refused_question_has_asked_no_model_and_a_failed_one_has() -> None:
    metrics = Metrics(models=["gpt-4o"])
    scope = http_scope("POST", "/v1/chat/completions", headers={"content-type": "application/json"})
    assert (await drive(models_app(metrics), scope, body=chat("gpt-4o"))).status == 403
    assert samples(metrics, LLM) == {}
    failing = models_app(metrics, httpx.Response(429, json={"error": {"message": "later"}}))
    await drive(failing, scope, body=chat("gpt-4o-mini"))
    assert one(metrics, LLM)["error_type"] == "429"
    assert samples(metrics, "gen_ai_client_token_usage_count") == {}


# -- hostile traffic -------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_ten_thousand_of_everything_make_no_more_series() -> None:
    """Tools, models, methods, paths, statuses, principals and codes of errors, all of them the client's or the tool
    server's to say."""
    metrics = Metrics()
    chosen = random.Random(1)

    def handler(request: httpx.Request) -> httpx.Response:
        status = chosen.randrange(200, 600)
        return httpx.Response(status, json={"error": {"code": status, "message": "no"}, "usage": {"prompt_tokens": 1}})

    @authorizer
    def whimsical(request: Request) -> Decision:
        return deny(rule=f"not {request.path}") if chosen.random() < 0.3 else allow(rule=f"yes {request.path}")

    def backend(kind: Any, url: str) -> Any:
        return kind(url, transport=answering(handler))

    app = create_gateway(
        Route("/mcp", backend(MCPBackend, "http://tools/mcp"), authorize=[whimsical]),
        Route("/v1", backend(LLMBackend, "http://models/v1"), authorize=[whimsical]),
        Route("/", backend(HTTPBackend, "http://up"), authorize=[whimsical]),
        observe=[metrics],
    )
    for number in range(2500):
        key = {"authorization": f"Bearer {number}", "content-type": "application/json"}
        tool = message("tools/call", name=f"tool-{number}")
        await drive(app, http_scope("POST", "/mcp", headers={**MCP_HEADERS, **key}), body=tool)
        invented = message(f"method/{number}", uri=f"file:///{number}")
        await drive(app, http_scope("POST", "/mcp", headers={**MCP_HEADERS, **key}), body=invented)
        await drive(app, http_scope("POST", "/v1/chat/completions", headers=key), body=chat(f"model-{number}"))
        await drive(app, http_scope(f"M{number}", f"/{number}", headers=key, host=f"h{number}.example"))
    for metric in metrics.registry.collect():
        series = [sample for sample in metric.samples if sample.labels.get("le", "+Inf") == "+Inf"]
        by_name = [sample.name for sample in series]
        assert max((by_name.count(name) for name in by_name), default=0) <= MAX_SERIES, metric.name
    text = (await drive(metrics.app, http_scope())).text
    assert not any(f"{word}{number}" in text for word in ("tool-", "model-", "method/") for number in (0, 1, 2499))
    assert values(metrics, DECISIONS, "rule") <= {"", OTHER}
    assert values(metrics, MCP, "gen_ai_tool_name") == {"", OTHER}
    assert values(metrics, LLM, "gen_ai_request_model") == {OTHER}


# -- options ---------------------------------------------------------------------------------------------------------


def test_options_and_all_their_faults() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Metrics(tools="search", prompts="a", models="gpt-4o", max_series=0)
    assert [*caught.value.faults] == [
        "tools is a list of names",
        "prompts is a list of names",
        "models is a list of names",
        "max_series is a number, 1 or more, not 0",
    ]


def test_two_never_share_a_value_and_a_registry_may_be_the_user_s_own() -> None:
    Metrics(), Metrics()
    registry = CollectorRegistry()
    assert Metrics(registry).registry is registry
    assert "http_server_request_duration_seconds" in [metric.name for metric in registry.collect()]
    assert repr(Metrics(max_series=5)) == "Metrics(max_series=5)"


def test_buckets_are_those_of_the_conventions() -> None:
    assert conventions.GEN_AI_SECONDS[:4] == (0.01, 0.02, 0.04, 0.08)
    assert conventions.GEN_AI_SECONDS[-1] == 81.92
    assert conventions.TOKENS[-1] == 67108864


# -- what policies name ----------------------------------------------------------------------------------------------


class Own(Authorizer):
    def check(self, request: Request) -> Decision:
        return allow(rule="mine")

    def names(self) -> Names:
        return Names(policies=frozenset({"Own"}), rules=frozenset({"mine"}))


@pytest.mark.parametrize(
    ("policy", "names"),
    [
        (Own(), Names(policies=frozenset({"Own"}), rules=frozenset({"mine"}))),
        (shadow(Own()), Names(policies=frozenset({"Own"}), rules=frozenset({"mine"}))),
        (any_of(Own()), Names(policies=frozenset({"Own", "any_of(Own)"}), rules=frozenset({"mine"}))),
        (AllowedModels(), Names(policies=frozenset({"AllowedModels"}), rules=frozenset({"allowedModels"}))),
        (APIKeyAuth({"a": hash_key(KEY)}), Names(policies=frozenset({"APIKeyAuth"}))),
        (
            TOOLS,
            Names(
                policies=frozenset({"CELRules"}),
                rules=frozenset({"named", "any other get"}),
                tools=frozenset({"get_user", "transfer"}),
                prompts=frozenset({"greet"}),
            ),
        ),
        (
            CELRules(require=['llm.requestModel != "o3"']),
            Names(policies=frozenset({"CELRules"}), rules=frozenset({"require[0]"}), models=frozenset({"o3"})),
        ),
    ],
)
def test_policies_say_what_they_name(policy: Any, names: Names) -> None:
    assert policy.names() == names
    assert Gate(hello, authorize=[policy] if isinstance(policy, Authorizer) else [], observe=[Metrics()]).names
