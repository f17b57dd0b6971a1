"""Tracing: what spans are called and say, whose children they are, and what goes on to apps and upstreams."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from opentelemetry import baggage
from opentelemetry import trace as api
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware as ContribMiddleware
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler
from opentelemetry.trace import SpanKind, StatusCode
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.opentelemetry import OpenTelemetryMiddleware as StarletteMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount
from starlette.routing import Route as StarletteRoute

from agentgate import (
    A2ABackend,
    AccessLog,
    APIKeyAuth,
    CELMiddleware,
    CELRules,
    Edge,
    Gate,
    HTTPBackend,
    LLMBackend,
    MCPBackend,
    Observer,
    Provider,
    Query,
    Record,
    Route,
    Tracing,
    TracingMiddleware,
    allow,
    authorizer,
    create_gateway,
    new_key,
    shadow,
)
from agentgate.observe.fields import MAX_VALUE
from agentgate.testing import Exchange, Recorder, drive, http_scope, websocket_scope

pytestmark = pytest.mark.anyio

TRACE, SPAN = "12345678901234567890123456789012", "1234567890123456"
OTHER = "abcdefabcdefabcdefabcdefabcdefab"
SAMPLED = f"00-{TRACE}-{SPAN}-01"
DROPPED = f"00-{TRACE}-{SPAN}-00"


class Spans:
    """A tracer provider, and the spans that came of it."""

    def __init__(self, sampler: Sampler = ALWAYS_ON) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=ParentBased(sampler), shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def all(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def of(self, kind: SpanKind) -> list[ReadableSpan]:
        return [span for span in self.all if span.kind is kind]

    @property
    def server(self) -> ReadableSpan:
        (span,) = self.of(SpanKind.SERVER)
        return span

    @property
    def client(self) -> ReadableSpan:
        (span,) = self.of(SpanKind.CLIENT)
        return span


@pytest.fixture
def spans() -> Iterator[Spans]:
    made = Spans()
    yield made
    made.provider.shutdown()


def said(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def id_of(span: ReadableSpan) -> tuple[str, str]:
    assert span.context is not None
    return f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}"


def parent_of(span: ReadableSpan) -> tuple[str, str] | None:
    return None if span.parent is None else (f"{span.parent.trace_id:032x}", f"{span.parent.span_id:016x}")


def outgoing(span: ReadableSpan) -> str:
    assert span.context is not None
    return "00-{}-{}-{:02x}".format(*id_of(span), span.context.trace_flags)


def links_of(span: ReadableSpan) -> list[tuple[str, str]]:
    return [(f"{link.context.trace_id:032x}", f"{link.context.span_id:016x}") for link in span.links]


async def ok(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


def answering(status: int) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return app


Answer = httpx.Response | Exception | Callable[[httpx.Request], Any]


class Upstream(httpx.AsyncBaseTransport):
    """Answers each request with the next of these, and remembers it."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = [*answers]
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        self.requests.append(request)
        answer = self.answers.pop(0) if self.answers else httpx.Response(200, content=b"ok")
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx.Response) else await answer(request)

    @property
    def headers(self) -> httpx.Headers:
        return self.requests[-1].headers


def json_scope(target: str, **headers: str) -> dict[str, Any]:
    return http_scope("POST", target, headers={"content-type": "application/json", **_dashed(headers)})


def _dashed(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


# -- the span of a request -------------------------------------------------------------------------------------------


async def test_a_request_is_one_span(spans: Spans) -> None:
    """By the stable conventions of HTTP; it begins with the request and ends with the response."""
    recorder = Recorder()
    gate = Gate(ok, observe=[Tracing(provider=spans.provider), recorder])
    scope = http_scope("GET", "/secret/path?a=1&token=hunter2", headers={"user-agent": "curl/8"}, host="api.example:81")
    await drive(gate, scope)
    (span,) = spans.all
    assert (span.name, span.kind, span.parent, span.status.status_code) == (
        "GET",
        SpanKind.SERVER,
        None,
        StatusCode.UNSET,
    )
    assert said(span) == {
        "http.request.method": "GET",
        "url.scheme": "http",
        "url.path": "/secret/path",
        "url.query": "a=1&token=<redacted>",
        "server.address": "api.example",
        "server.port": 81,
        "client.address": "127.0.0.1",
        "network.protocol.version": "1.1",
        "user_agent.original": "curl/8",
        "http.response.status_code": 200,
    }
    assert span.events == ()
    record = recorder.last
    assert span.start_time == int(record.request.now * 1e9)
    assert span.end_time is not None
    assert record.duration is not None
    assert span.end_time - span.start_time == int(record.duration * 1e9)
    assert span.instrumentation_scope is not None
    assert (span.instrumentation_scope.name, span.instrumentation_scope.schema_url) == (
        "agentgate",
        "https://opentelemetry.io/schemas/1.44.0",
    )
    assert span.status.description is None


METHODS = [
    ("DELETE", "DELETE", "DELETE", None),
    ("PROPFIND", "HTTP", "_OTHER", "PROPFIND"),
    ("get", "HTTP", "_OTHER", "get"),
    ("X" * 5000, "HTTP", "_OTHER", "X" * MAX_VALUE + "..."),
]


@pytest.mark.parametrize(("method", "name", "attribute", "original"), METHODS, ids=["known", "WebDAV", "case", "long"])
async def test_a_method_that_is_not_known_is_in_no_name(
    spans: Spans, method: str, name: str, attribute: str, original: str | None
) -> None:
    gate = Gate(ok, observe=[Tracing(provider=spans.provider)], edge=Edge(methods=frozenset({"DELETE", "PROPFIND"})))
    await drive(gate, http_scope(method))
    assert spans.server.name == name
    assert said(spans.server)["http.request.method"] == attribute
    assert said(spans.server).get("http.request.method_original") == original


ADDRESSES = [
    ({}, "api.example", {"server.address": "api.example", "server.port": 80}),
    ({"scheme": "https"}, "api.example", {"server.address": "api.example", "server.port": 443}),
    ({}, "[::1]:8080", {"server.address": "::1", "server.port": 8080}),
    ({"client": None}, "a", {"server.address": "a", "server.port": 80, "client.address": None}),
    (
        {"headers": {"x-forwarded-for": "192.0.2.7"}},
        "a",
        {"client.address": "192.0.2.7", "network.peer.address": "127.0.0.1"},
    ),
    ({"http_version": "2"}, "a", {"network.protocol.version": "2"}),
    ({"headers": {"host": "a:999999"}}, "a", {"server.address": "a"}),
]


@pytest.mark.parametrize(("more", "host", "expected"), ADDRESSES)
async def test_where_from_and_where_to(spans: Spans, more: Any, host: str, expected: dict[str, Any]) -> None:
    gate = Gate(ok, observe=[Tracing(provider=spans.provider)], edge=Edge(trusted_proxies=["127.0.0.1"]))
    await drive(gate, http_scope(host=host, **more))
    found = said(spans.server)
    assert {name: found.get(name) for name in expected} == expected


async def test_a_long_value_is_cut(spans: Spans) -> None:
    gate = Gate(ok, observe=[Tracing(provider=spans.provider)])
    await drive(gate, http_scope("GET", "/" + "p" * 3000 + "?" + "q" * 3000, headers={"user-agent": "u" * 3000}))
    for name in ("url.path", "url.query", "user_agent.original"):
        assert len(said(spans.server)[name]) == MAX_VALUE + 3


STATUSES = [(200, None), (302, None), (404, None), (499, None), (500, "500"), (503, "503")]


@pytest.mark.parametrize(("status", "error"), STATUSES)
async def test_only_what_is_the_servers_fault_is_an_error(spans: Spans, status: int, error: str | None) -> None:
    await drive(Gate(answering(status), observe=[Tracing(provider=spans.provider)]), http_scope())
    assert spans.server.status.status_code is (StatusCode.UNSET if error is None else StatusCode.ERROR)
    assert said(spans.server).get("error.type") == error
    assert said(spans.server)["http.response.status_code"] == status


async def test_an_app_that_raises_is_an_error(spans: Spans) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("hunter2")

    await drive(Gate(app, observe=[Tracing(provider=spans.provider)]), http_scope(), catch=True)
    assert spans.server.status.status_code is StatusCode.ERROR
    assert said(spans.server)["error.type"] == "500"
    assert spans.server.events == ()  # the exception is the app's to tell
    assert "hunter2" not in spans.server.to_json()


async def test_a_client_that_goes_is_no_error(spans: Spans) -> None:
    async def stream(request: httpx.Request) -> httpx.Response:
        async def body() -> AsyncIterator[bytes]:
            yield b"one"
            await asyncio.Event().wait()

        return httpx.Response(200, content=body())

    gateway = create_gateway(
        Route("/", HTTPBackend("http://upstream", transport=Upstream(stream))),
        observe=[Tracing(provider=spans.provider)],
    )
    await drive(gateway, http_scope(), disconnect_after=2)
    for span in (spans.server, spans.client):
        assert span.status.status_code is StatusCode.UNSET
        assert said(span)["http.response.status_code"] == 200
        assert "error.type" not in said(span)


async def test_a_request_that_is_cancelled_is_no_error(spans: Spans) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await drive(Gate(app, observe=[Tracing(provider=spans.provider)]), http_scope())
    assert spans.server.status.status_code is StatusCode.UNSET


async def test_a_response_that_breaks_off_is_an_error(spans: Spans) -> None:
    async def breaks(request: httpx.Request) -> httpx.Response:
        async def body() -> AsyncIterator[bytes]:
            yield b"one"
            raise httpx.ReadError("hunter2")

        return httpx.Response(200, content=body())

    gateway = create_gateway(
        Route("/", HTTPBackend("http://upstream", transport=Upstream(breaks))),
        observe=[Tracing(provider=spans.provider)],
    )
    await drive(gateway, http_scope())
    assert said(spans.server)["error.type"] == "UpstreamFailure"
    assert said(spans.client)["error.type"] == "ReadError"
    for span in (spans.server, spans.client):
        assert span.status.status_code is StatusCode.ERROR


@pytest.mark.parametrize("accepts", [True, False])
async def test_a_websocket_is_a_span_as_long_as_it_is_open(spans: Spans, accepts: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"} if accepts else {"type": "websocket.close"})

    await drive(Gate(app, observe=[Tracing(provider=spans.provider)]), websocket_scope("/chat"))
    assert spans.server.name == "GET"
    assert said(spans.server)["http.response.status_code"] == (101 if accepts else 403)
    assert said(spans.server)["url.scheme"] == "ws"


async def test_a_stream_has_an_event_for_its_first_byte_and_ends_with_its_last(spans: Spans) -> None:
    recorder = Recorder()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(50):
            await send({"type": "http.response.body", "body": b"data: x\n\n", "more_body": True})
            assert spans.all == []
        await send({"type": "http.response.body", "body": b""})
        assert len(spans.all) == 1

    await drive(Gate(app, observe=[Tracing(provider=spans.provider), recorder]), http_scope())
    (event,) = spans.server.events
    assert event.name == "agentgate.first_byte"
    first = recorder.last.first_byte
    assert first is not None
    assert spans.server.start_time is not None
    assert event.timestamp - spans.server.start_time == int(first * 1e9)


# -- names: the route ------------------------------------------------------------------------------------------------


def starlette() -> Starlette:
    async def text(request: Any) -> PlainTextResponse:
        return PlainTextResponse("ok")

    return Starlette(
        routes=[
            StarletteRoute("/items/{id:int}", text),
            Mount("/sub", routes=[StarletteRoute("/things/{name}", text)]),
            Mount("/raw", app=ok),
            Mount("/of/{tenant}/x", routes=[StarletteRoute("/things/{name}", text)]),
            Mount("/all/{tenant}", app=ok),
        ]
    )


def fastapi() -> FastAPI:
    router, app, sub = APIRouter(prefix="/inner"), FastAPI(), FastAPI()

    @router.get("/items/{id}")
    def item(id: int) -> int:
        return id

    app.include_router(router, prefix="/api")
    sub.include_router(router)
    app.mount("/sub", sub)
    return app


ROUTES = [
    (starlette, "/items/7", "/items/{id}"),
    (starlette, "/sub/things/x", "/sub/things/{name}"),
    (starlette, "/raw/any/thing", "/raw"),
    (starlette, "/of/acme/x/things/acme", "/of/{tenant}/x/things/{name}"),
    (starlette, "/all/acme/y", "/all/{tenant}"),
    (starlette, "/nothing", None),
    (fastapi, "/api/inner/items/7", "/api/inner/items/{id}"),
    (fastapi, "/sub/inner/items/7", "/sub/inner/items/{id}"),
    (fastapi, "/nothing", None),
]


@pytest.mark.parametrize("inside", [False, True], ids=["around the app", "as its middleware"])
@pytest.mark.parametrize(("make", "path", "route"), ROUTES)
async def test_the_template_of_the_path_is_in_the_name(
    spans: Spans, make: Callable[[], Any], path: str, route: str | None, inside: bool
) -> None:
    """Never the path itself, which has as many values as clients like."""
    app = make()
    if inside:
        app.add_middleware(TracingMiddleware, provider=spans.provider)
    else:
        app = Gate(app, observe=[Tracing(provider=spans.provider)])
    await drive(app, http_scope("GET", path))
    assert spans.server.name == ("GET" if route is None else f"GET {route}")
    assert said(spans.server).get("http.route") == route


async def test_a_gate_that_is_mounted_knows_where(spans: Spans) -> None:
    app = Starlette(routes=[Mount("/mcp", app=Gate(ok, observe=[Tracing(provider=spans.provider)]))])
    await drive(app, http_scope("GET", "/mcp/x"))
    assert spans.server.name == "GET /mcp"


async def test_the_route_of_a_gateway_is_in_the_name(spans: Spans) -> None:
    gateway = create_gateway(
        Route("/a", HTTPBackend("http://upstream", transport=Upstream()), name="team/a"),
        observe=[Tracing(provider=spans.provider)],
    )
    await drive(gateway, http_scope("GET", "/a/secret"))
    await drive(gateway, http_scope("GET", "/nowhere"))
    found, lost = spans.of(SpanKind.SERVER)
    assert (found.name, said(found)["http.route"]) == ("GET team/a", "team/a")
    assert (lost.name, said(lost)["agentgate.policy"]) == ("GET", "gateway")
    assert said(lost)["agentgate.reason"] == "NotFound"


# -- what was decided ------------------------------------------------------------------------------------------------

RULES = CELRules(
    allow={"reading": 'request.method == "GET"'}, deny={"no secrets": 'request.path.startsWith("/secret")'}
)
KEY = new_key()


def allows_nothing() -> Any:
    return shadow(CELRules(deny={"nobody, soon": "true"}))


DECISIONS: dict[str, tuple[Any, dict[str, Any]]] = {
    "nobody was asked": ({}, {}),
    "a rule allowed": (
        {"authorize": [RULES]},
        {"decision": "allow", "rule": "reading", "policy": "CELRules"},
    ),
    "a rule denied": (
        {"authorize": [RULES], "target": "/secret"},
        {"decision": "deny", "rule": "no secrets", "policy": "CELRules", "reason": "Authorization"},
    ),
    "no credential": (
        {"authenticate": [APIKeyAuth([KEY])]},
        {"decision": "deny", "policy": "APIKeyAuth", "reason": "APIKeyAuth"},
    ),
    "a bad credential": (
        {"authenticate": [APIKeyAuth([KEY])], "headers": {"authorization": f"Bearer {new_key()}"}},
        {"decision": "deny", "policy": "APIKeyAuth", "reason": "APIKeyAuth"},
    ),
    "a good credential": (
        {"authenticate": [APIKeyAuth([KEY])], "headers": {"authorization": f"Bearer {KEY}"}},
        {"decision": "allow", "policy": "APIKeyAuth"},
    ),
    "the edge refused": (
        {"target": "/a/../b"},
        {"decision": "deny", "policy": "edge", "reason": "InvalidRequest"},
    ),
    "a shadow would have denied": (
        {"authorize": [RULES, allows_nothing()]},
        {"decision": "allow", "rule": "reading", "policy": "CELRules", "shadow_denials": ("nobody, soon",)},
    ),
    "a function allowed": (
        {"authorize": [authorizer(lambda request: allow())]},
        {"decision": "allow", "policy": "<lambda>"},
    ),
    "a policy failed": (
        {"authorize": [authorizer(lambda request: None)]},  # type: ignore[arg-type, return-value]
        {"decision": "deny", "policy": "<lambda>", "reason": "Internal"},
    ),
}


@pytest.mark.parametrize("name", DECISIONS)
async def test_what_was_decided_and_by_whom(spans: Spans, name: str) -> None:
    """Of what was refused there is a span, too."""
    options, expected = DECISIONS[name]
    request = {key: value for key, value in options.items() if key in ("target", "headers")}
    policies = {key: value for key, value in options.items() if key not in request}
    exchange = await drive(Gate(ok, observe=[Tracing(provider=spans.provider)], **policies), http_scope(**request))
    found = {name: value for name, value in said(spans.server).items() if name.startswith("agentgate.")}
    assert found == {f"agentgate.{name}": value for name, value in expected.items()}
    assert said(spans.server)["http.response.status_code"] == exchange.status
    assert (spans.server.status.status_code is StatusCode.ERROR) is (name == "a policy failed")


async def test_an_upstream_that_fails_is_no_denial(spans: Spans) -> None:
    gateway = create_gateway(
        Route("/", HTTPBackend("http://upstream", transport=Upstream(httpx.ConnectError("hunter2"))), name="all"),
        authorize=[RULES],
        observe=[Tracing(provider=spans.provider)],
    )
    await drive(gateway, http_scope())
    found = said(spans.server)
    assert (found["agentgate.decision"], found["agentgate.reason"], found["error.type"]) == (
        "allow",
        "UpstreamFailure",
        "503",
    )
    assert said(spans.client)["error.type"] == "ConnectError"
    assert "hunter2" not in spans.server.to_json() + spans.client.to_json()


async def test_a_refused_query_is_not_shown(spans: Spans) -> None:
    """Nor is one whose credential only a Gate further in knows."""
    inner = Gate(ok, authenticate=[APIKeyAuth([KEY], location=Query("mine"))])
    app = Gate(Starlette(routes=[Mount("/", app=inner)]), observe=[Tracing(provider=spans.provider)])
    await drive(app, http_scope("GET", f"/?mine={KEY}"))
    await drive(app, http_scope("GET", "/?mine=hunter2"))
    await drive(app, http_scope("GET", "/../?mine=hunter2"))
    assert [said(span)["url.query"] for span in spans.all] == ["mine=<redacted>"] * 3
    assert all("hunter2" not in span.to_json() and KEY not in span.to_json() for span in spans.all)


# -- parents ---------------------------------------------------------------------------------------------------------

CALL = {
    "jsonrpc": "2.0",
    "id": "c-1",
    "method": "tools/call",
    "params": {"name": "add", "arguments": {"pin": "hunter2"}},
}
META_PARENT = (OTHER, "00000000000000aa")
HEADER_PARENT = (TRACE, SPAN)


def call(meta: Any = None) -> bytes:
    params: dict[str, Any] = {**CALL["params"]}  # type: ignore[dict-item]
    if meta is not None:
        params["_meta"] = meta
    return json.dumps({**CALL, "params": params}).encode()


META = {"traceparent": f"00-{META_PARENT[0]}-{META_PARENT[1]}-01"}
PARENTS: dict[str, tuple[Any, dict[str, str], bool, Any, list[Any]]] = {
    # _meta, headers, public endpoint: parent, links
    "nobody": (None, {}, False, None, []),
    "the header": (None, {"traceparent": SAMPLED}, False, HEADER_PARENT, []),
    "the message": (META, {}, False, META_PARENT, []),
    "both": (META, {"traceparent": SAMPLED}, False, META_PARENT, [HEADER_PARENT]),
    "both, the same": ({"traceparent": SAMPLED}, {"traceparent": SAMPLED}, False, HEADER_PARENT, []),
    "a broken message": ({"traceparent": "00-0"}, {"traceparent": SAMPLED}, False, HEADER_PARENT, []),
    "a message of another kind": (["traceparent"], {}, False, None, []),
    "strangers, the header": (None, {"traceparent": SAMPLED}, True, None, [HEADER_PARENT]),
    "strangers, the message": (META, {}, True, None, [META_PARENT]),
    "strangers, both": (META, {"traceparent": SAMPLED}, True, None, [HEADER_PARENT, META_PARENT]),
}


@pytest.mark.parametrize("name", PARENTS)
async def test_whose_child_the_span_is(spans: Spans, name: str) -> None:
    """An MCP message names its parent before HTTP does. Strangers are linked, not believed."""
    meta, headers, public, parent, links = PARENTS[name]
    gate = Gate(ok, observe=[Tracing(provider=spans.provider, public_endpoint=public)], protocol="mcp")
    await drive(gate, json_scope("/mcp", **headers), body=call(meta))
    assert parent_of(spans.server) == parent
    assert links_of(spans.server) == links


async def test_only_mcp_has_a_parent_in_the_message(spans: Spans) -> None:
    gate = Gate(ok, observe=[Tracing(provider=spans.provider)], authorize=[CELRules(allow=["size(request.body) > 0"])])
    await drive(gate, json_scope("/other"), body=call(META))
    assert parent_of(spans.server) is None


@pytest.mark.parametrize("public", [False, True])
@pytest.mark.parametrize("flags", ["00", "01"])
@pytest.mark.parametrize("root", [ALWAYS_ON, ALWAYS_OFF], ids=["on", "off"])
async def test_who_decides_what_is_sampled(root: Sampler, flags: str, public: bool) -> None:
    """The caller, where it is trusted; else our own sampler."""
    spans = Spans(root)
    gate = Gate(ok, observe=[Tracing(provider=spans.provider, public_endpoint=public)])
    await drive(gate, http_scope(headers={"traceparent": f"00-{TRACE}-{SPAN}-{flags}"}))
    assert bool(spans.all) is (root is ALWAYS_ON if public else flags == "01")


async def test_a_sampler_sees_what_is_asked() -> None:
    seen: list[dict[str, Any]] = []

    class Looks(Sampler):
        def should_sample(self, *args: Any, **kwargs: Any) -> Any:
            attributes = kwargs.get("attributes") or args[4]
            seen.append({name: attributes[name] for name in attributes})
            assert len(attributes) == len(seen[-1])
            return ALWAYS_OFF.should_sample(*args, **kwargs)

        def get_description(self) -> str:
            return "Looks"

    gate = Gate(ok, observe=[Tracing(provider=Spans(Looks()).provider)], protocol="mcp")
    await drive(gate, json_scope("/mcp"), body=call())
    assert seen[0]["gen_ai.tool.name"] == "add"
    assert seen[0]["url.path"] == "/mcp"


def contrib(app: Any, spans: Spans) -> Any:
    return ContribMiddleware(app, tracer_provider=spans.provider, meter_provider=NoOpMeterProvider())


def starlettes(app: Any, spans: Spans) -> Any:
    return StarletteMiddleware(app, tracer_provider=spans.provider)


HEADERS: list[dict[str, str]] = [{}, {"traceparent": SAMPLED}, {"traceparent": SAMPLED, "tracestate": "a=1"}]


@pytest.mark.parametrize("headers", HEADERS, ids=["no parent", "a parent", "a state"])
@pytest.mark.parametrize("wrapped", [contrib, starlettes])
@pytest.mark.parametrize("order", ["ours outside", "ours inside"])
async def test_other_middlewares_of_opentelemetry_nest(
    spans: Spans, wrapped: Any, order: str, headers: dict[str, str]
) -> None:
    """One root, and a chain from it to the app, whichever stands outside."""
    tracer = spans.provider.get_tracer("app")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with tracer.start_as_current_span("in the app"):
            await ok(scope, receive, send)

    ours = [Tracing(provider=spans.provider)]
    if order == "ours outside":
        both: Any = Gate(wrapped(app, spans), observe=ours)
    else:
        both = wrapped(Gate(app, observe=ours), spans)
    await drive(both, http_scope(headers=headers))
    by_id = {id_of(span): span for span in spans.all if "http send" not in span.name}
    span = next(span for span in by_id.values() if span.name == "in the app")
    chain = []
    while span is not None:
        chain.append("agentgate" if span.instrumentation_scope.name == "agentgate" else span.name)  # type: ignore[union-attr]
        last, span = span, by_id.get(parent_of(span))  # type: ignore[arg-type, assignment]
    assert len(chain) == len(by_id) == 3
    assert chain.index("agentgate") == (2 if order == "ours outside" else 1)
    assert parent_of(last) == (HEADER_PARENT if headers else None)


async def test_an_mcp_message_is_linked_to_the_span_around(spans: Spans) -> None:
    gate = Gate(ok, observe=[Tracing(provider=spans.provider)], protocol="mcp")
    await drive(starlettes(gate, spans), json_scope("/mcp"), body=call(META))
    ours, around = spans.of(SpanKind.SERVER)
    assert parent_of(ours) == META_PARENT
    assert links_of(ours) == [id_of(around)]


async def test_strangers_do_not_begin_a_second_root_inside_of_a_span(spans: Spans) -> None:
    gate = Gate(ok, observe=[Tracing(provider=spans.provider, public_endpoint=True)], protocol="mcp")
    await drive(starlettes(gate, spans), json_scope("/mcp", traceparent=SAMPLED), body=call(META))
    ours, around = spans.of(SpanKind.SERVER)
    assert parent_of(ours) == id_of(around)
    assert links_of(ours) == [META_PARENT]


async def test_two_of_them_make_one_span(spans: Spans) -> None:
    """As stacked middlewares may; the outermost has it."""
    again = Tracing(provider=spans.provider)
    app = Gate(Gate(ok, observe=[again]), observe=[Tracing(provider=spans.provider)])
    await drive(app, http_scope())
    assert len(spans.all) == 1


async def test_the_span_is_current_in_the_app_and_nowhere_else(spans: Spans) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(api.get_current_span().get_span_context())
        await ok(scope, receive, send)

    gate = Gate(app, observe=[Tracing(provider=spans.provider)], authorize=[RULES])
    await drive(gate, http_scope())
    assert seen == [spans.server.context]
    await drive(gate, http_scope("GET", "/secret"))
    assert api.get_current_span() is api.INVALID_SPAN


async def test_an_app_that_raises_leaves_no_span_behind(spans: Spans) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError

    await drive(Gate(app, observe=[Tracing(provider=spans.provider)]), http_scope(), catch=True)
    assert api.get_current_span() is api.INVALID_SPAN


async def test_stacked_middlewares_are_traced_as_one(spans: Spans) -> None:
    app = starlette()
    app.add_middleware(CELMiddleware, deny={"nothing": "true"})
    app.add_middleware(TracingMiddleware, provider=spans.provider)
    await drive(app, http_scope("GET", "/items/7"))
    assert said(spans.server)["agentgate.rule"] == "nothing"


# -- the log ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["/", "/secret"], ids=["allowed", "denied"])
@pytest.mark.parametrize("sampler", [ALWAYS_ON, ALWAYS_OFF], ids=["sampled", "unsampled"])
@pytest.mark.parametrize("first", [True, False], ids=["the log first", "the log last"])
async def test_the_log_names_the_span(target: str, sampler: Sampler, first: bool) -> None:
    """Whichever of the two observers comes first, and whether the span is kept or not."""
    spans, lines = Spans(sampler), list[str]()
    log, tracing = AccessLog(lines.append, format="json"), Tracing(provider=spans.provider)
    gate = Gate(ok, authorize=[RULES], observe=[log, tracing] if first else [tracing, log])
    await drive(gate, http_scope("GET", target))
    line = json.loads(lines[0])
    keys = list(line)
    assert keys[keys.index("trace.id") - 1 : keys.index("trace.id") + 2] == ["http.status", "trace.id", "span.id"]
    if sampler is ALWAYS_ON:
        assert (line["trace.id"], line["span.id"]) == id_of(spans.server)
    assert len(line["trace.id"]) == 32
    assert len(line["span.id"]) == 16


async def test_without_a_provider_the_log_names_no_span() -> None:
    lines: list[str] = []
    gate = Gate(ok, observe=[AccessLog(lines.append), Tracing()])
    await drive(gate, http_scope(headers={"traceparent": SAMPLED}))
    assert "trace.id" not in lines[0]


# -- to upstreams ----------------------------------------------------------------------------------------------------


def behind(upstream: Upstream, tracing: Tracing, **options: Any) -> Any:
    return create_gateway(
        Route("/", HTTPBackend("http://upstream:81/base", transport=upstream), name="all"), observe=[tracing], **options
    )


async def test_a_request_to_an_upstream_is_a_span(spans: Spans) -> None:
    upstream = Upstream(httpx.Response(404))
    await drive(
        behind(upstream, Tracing(provider=spans.provider)),
        http_scope("GET", "/x?a=1&key=hunter2", headers={"traceparent": SAMPLED, "tracestate": "a=1"}),
    )
    span = spans.client
    assert (span.name, parent_of(span), parent_of(spans.server)) == ("GET", id_of(spans.server), HEADER_PARENT)
    assert said(span) == {
        "http.request.method": "GET",
        "server.address": "upstream",
        "server.port": 81,
        "url.full": "http://upstream:81/base/x?a=1&key=<redacted>",
        "http.response.status_code": 404,
        "error.type": "404",
    }
    assert span.status.status_code is StatusCode.ERROR
    assert spans.server.status.status_code is StatusCode.UNSET
    assert upstream.headers.get_list("traceparent") == [outgoing(span)]
    assert upstream.headers.get_list("tracestate") == ["a=1"]


async def test_a_trace_that_is_not_sampled_goes_on_all_the_same() -> None:
    spans, upstream = Spans(), Upstream()
    await drive(behind(upstream, Tracing(provider=spans.provider)), http_scope(headers={"traceparent": DROPPED}))
    assert spans.all == []
    version, trace, span, flags = upstream.headers["traceparent"].split("-")
    assert (version, trace, flags) == ("00", TRACE, "00")
    assert span != SPAN


@pytest.mark.parametrize(
    "given",
    [
        [("traceparent", SAMPLED), ("tracestate", "a=1"), ("tracestate", "b=2")],
        [("traceparent", SAMPLED), ("traceparent", DROPPED)],
        [("traceparent", "nonsense")],
        [],
    ],
)
@pytest.mark.parametrize("public", [False, True])
async def test_without_a_provider_headers_go_on_as_they_came(given: list[tuple[str, str]], public: bool) -> None:
    upstream, seen = Upstream(), list[Any]()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend(pair for pair in scope["headers"] if pair[0].startswith(b"trace"))
        await ok(scope, receive, send)

    await drive(behind(upstream, Tracing(public_endpoint=public)), http_scope(headers=given))
    assert [pair for pair in upstream.headers.multi_items() if pair[0].startswith("trace")] == given
    await drive(Gate(app, observe=[Tracing(public_endpoint=public)]), http_scope(headers=given))
    assert [(name.decode(), value.decode()) for name, value in seen] == given


@pytest.mark.parametrize("given", [[("traceparent", SAMPLED)] * 2, [("traceparent", "x"), ("tracestate", "a=1")]])
async def test_headers_that_are_not_believed_do_not_go_on_beside_ours(
    spans: Spans, given: list[tuple[str, str]]
) -> None:
    upstream = Upstream()
    await drive(behind(upstream, Tracing(provider=spans.provider)), http_scope(headers=given))
    assert upstream.headers.get_list("traceparent") == [outgoing(spans.client)]
    assert "tracestate" not in upstream.headers


CHAT = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": "hunter2"}], "temperature": 0.5})
ANSWER = {
    "model": "gpt-4o-2024",
    "usage": {"prompt_tokens": 7, "completion_tokens": 3, "completion_tokens_details": {"reasoning_tokens": 2}},
}


def chat(upstream: Upstream, spans: Spans) -> Any:
    return create_gateway(
        Route(
            "/v1",
            LLMBackend([Provider("http://one/v1", weight=1), Provider("http://two/v1", weight=0)], transport=upstream),
            name="llm",
        ),
        observe=[Tracing(provider=spans.provider)],
    )


async def test_each_try_is_a_span(spans: Spans) -> None:
    """A child of the request's, that says which try it is; each of them sends its own."""
    upstream = Upstream(httpx.Response(503), httpx.Response(200, json=ANSWER))
    await drive(chat(upstream, spans), json_scope("/v1/chat/completions"), body=CHAT.encode())
    first, second = spans.of(SpanKind.CLIENT)
    assert [parent_of(span) for span in (first, second)] == [id_of(spans.server)] * 2
    assert [span.name for span in (first, second)] == ["chat gpt-4o"] * 2
    assert [said(span).get("http.request.resend_count") for span in (first, second)] == [None, 1]
    assert [said(span)["server.address"] for span in (first, second)] == ["one", "two"]
    assert [said(span).get("error.type") for span in (first, second)] == ["503", None]
    assert [request.headers["traceparent"].split("-")[2] for request in upstream.requests] == [
        id_of(first)[1],
        id_of(second)[1],
    ]
    assert first.end_time is not None
    assert second.start_time is not None
    assert first.end_time <= second.start_time


async def test_what_is_asked_of_a_model(spans: Spans) -> None:
    upstream = Upstream(httpx.Response(200, json=ANSWER))
    await drive(chat(upstream, spans), json_scope("/v1/chat/completions"), body=CHAT.encode())
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.request.stream": False,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.response.model": "gpt-4o-2024",
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.usage.reasoning.output_tokens": 2,
    }
    for span in (spans.client, spans.server):
        assert {name: value for name, value in said(span).items() if name.startswith("gen_ai.")} == expected
        assert "hunter2" not in span.to_json()
    assert spans.server.name == "POST llm"


async def test_a_streamed_answer_of_a_model(spans: Spans) -> None:
    async def stream(request: httpx.Request) -> httpx.Response:
        async def body() -> AsyncIterator[bytes]:
            yield b'data: {"model": "m"}\n\n'
            yield b"data: [DONE]\n\n"

        return httpx.Response(200, content=body(), headers={"content-type": "text/event-stream"})

    body = json.dumps({"model": "gpt-4o", "messages": [], "stream": True, "encoding_format": "float"})
    await drive(chat(Upstream(stream), spans), json_scope("/v1/chat/completions"), body=body.encode())
    found = said(spans.server)
    assert found["gen_ai.request.stream"] is True
    assert found["gen_ai.response.model"] == "m"
    assert isinstance(found["gen_ai.response.time_to_first_chunk"], float)
    assert "gen_ai.response.time_to_first_chunk" not in said(spans.client)  # it counts from the client's request
    assert [event.name for event in spans.server.events] == ["agentgate.first_byte"]
    assert spans.client.events == ()


async def test_an_embedding(spans: Spans) -> None:
    body = json.dumps({"model": "e", "input": "x", "encoding_format": "float", "dimensions": 3})
    await drive(chat(Upstream(), spans), json_scope("/v1/embeddings"), body=body.encode())
    found = said(spans.server)
    assert found["gen_ai.request.encoding_formats"] == ("float",)
    assert found["gen_ai.embeddings.dimension.count"] == 3


def tools(upstream: Upstream, spans: Spans, **options: Any) -> Any:
    backend = MCPBackend("http://tools/mcp", transport=upstream)
    return create_gateway(Route("/mcp", backend, name="tools"), observe=[Tracing(provider=spans.provider)], **options)


async def test_a_call_of_a_tool(spans: Spans) -> None:
    upstream = Upstream(httpx.Response(200, json={"jsonrpc": "2.0", "id": "c-1", "result": {}}))
    scope = json_scope("/mcp", mcp_protocol_version="2025-06-18", accept="application/json")
    await drive(tools(upstream, spans), scope, body=call(META))
    expected = {
        "mcp.method.name": "tools/call",
        "gen_ai.tool.name": "add",
        "gen_ai.operation.name": "execute_tool",
        "jsonrpc.request.id": "c-1",
        "mcp.protocol.version": "2025-06-18",
        "network.protocol.name": "http",
        "network.transport": "tcp",
    }
    for span in (spans.server, spans.client):
        assert expected.items() <= said(span).items()
        assert "hunter2" not in span.to_json()
    assert (spans.server.name, spans.client.name) == ("POST tools", "tools/call add")
    assert parent_of(spans.server) == META_PARENT
    assert json.loads(upstream.requests[0].content)["params"]["_meta"] == META  # what the client has said goes on
    assert upstream.headers["traceparent"] == outgoing(spans.client)


async def test_an_error_of_an_mcp_server(spans: Spans) -> None:
    """It is one by the conventions, whatever the HTTP status; a call that a rule denied is not."""
    error = {"jsonrpc": "2.0", "id": "c-1", "error": {"code": -32602, "message": "hunter2"}}
    app = tools(
        Upstream(httpx.Response(200, json=error)), spans, authorize=[CELRules(allow=['mcp.tool.name == "add"'])]
    )
    await drive(app, json_scope("/mcp"), body=call())
    for span in (spans.server, spans.client):
        assert said(span)["error.type"] == said(span)["rpc.response.status_code"] == "-32602"
        assert span.status.status_code is StatusCode.ERROR
        assert "hunter2" not in span.to_json()
    denied = json.dumps({**CALL, "params": {"name": "drop"}}).encode()
    await drive(app, json_scope("/mcp"), body=denied)
    span = spans.of(SpanKind.SERVER)[-1]
    assert said(span)["agentgate.decision"] == "deny"
    assert said(span)["gen_ai.tool.name"] == "drop"
    assert span.status.status_code is StatusCode.UNSET


MESSAGES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (
        {"id": 7, "method": "initialize", "params": {"protocolVersion": "2025-11-25", "capabilities": {}}},
        {"mcp.method.name": "initialize", "mcp.protocol.version": "2025-11-25", "jsonrpc.request.id": "7"},
    ),
    (
        {"id": 7, "method": "initialize", "params": {"protocolVersion": "hunter2", "capabilities": {}}},
        {"mcp.protocol.version": None},
    ),
    ({"method": "notifications/initialized"}, {"jsonrpc.request.id": None}),
    (
        {"id": 1, "method": "resources/read", "params": {"uri": "https://a.example/x?p=%C3%A4&sig=hunter2"}},
        {"mcp.resource.uri": "https://a.example/x?p=%C3%A4&sig=<redacted>", "gen_ai.operation.name": None},
    ),
    ({"id": 1, "method": "prompts/get", "params": {"name": "review"}}, {"gen_ai.prompt.name": "review"}),
    ({"id": "i" * 3000, "method": "ping"}, {"jsonrpc.request.id": "i" * MAX_VALUE + "..."}),
]


@pytest.mark.parametrize(("message", "expected"), MESSAGES)
async def test_what_a_message_asks_for(spans: Spans, message: dict[str, Any], expected: dict[str, Any]) -> None:
    gate = Gate(ok, observe=[Tracing(provider=spans.provider)], protocol="mcp")
    await drive(gate, json_scope("/mcp"), body=json.dumps({"jsonrpc": "2.0", **message}).encode())
    found = said(spans.server)
    assert {name: found.get(name) for name in expected} == expected
    assert "hunter2" not in spans.server.to_json()


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b'{"id": 1, "id": 2}', b'"x"', b"\xff", b'{"jsonrpc": "2.0", "method": 5, "params": 3}'],
)
async def test_a_body_that_is_no_message_is_a_span_all_the_same(spans: Spans, body: bytes) -> None:
    gate = Gate(ok, observe=[Tracing(provider=spans.provider)], protocol="mcp")
    await drive(gate, json_scope("/mcp"), body=body)
    assert said(spans.server)["agentgate.decision"] == "deny"


A2A_CALLS: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    (
        {
            "method": "SendMessage",
            "params": {
                "tenant": "acme",
                "message": {
                    "messageId": "m-1",
                    "contextId": "c-1",
                    "taskId": "t-1",
                    "role": "ROLE_USER",
                    "parts": [{"text": "hunter2"}],
                },
            },
        },
        {"result": {"task": {"id": "t-1", "contextId": "c-1", "status": {"state": "TASK_STATE_COMPLETED"}}}},
        {
            "a2a.method.name": "SendMessage",
            "a2a.message.id": "m-1",
            "a2a.task.id": "t-1",
            "a2a.tenant": "acme",
            "a2a.task.state": "TASK_STATE_COMPLETED",
            "a2a.protocol.version": "1.0",
            "gen_ai.conversation.id": "c-1",
            "jsonrpc.request.id": "1",
            "rpc.response.status_code": None,
        },
    ),
    (
        {"method": "tasks/get", "params": {"id": "t-2"}},
        {"error": {"code": -32001, "message": "hunter2"}},
        {"a2a.method.name": "GetTask", "a2a.task.id": "t-2", "rpc.response.status_code": "-32001"},
    ),
]


@pytest.mark.parametrize(("message", "answer", "expected"), A2A_CALLS)
async def test_what_an_agent_is_asked(
    spans: Spans, message: dict[str, Any], answer: dict[str, Any], expected: dict[str, Any]
) -> None:
    """By its name in A2A 1.0."""
    upstream = Upstream(httpx.Response(200, json={"jsonrpc": "2.0", "id": 1, **answer}))
    gateway = create_gateway(
        Route("/agent", A2ABackend("http://agent", transport=upstream), name="agent"),
        observe=[Tracing(provider=spans.provider)],
        public_url="http://localhost",
    )
    scope = json_scope("/agent", a2a_version="1.0") if "tasks" not in message["method"] else json_scope("/agent")
    await drive(gateway, scope, body=json.dumps({"jsonrpc": "2.0", "id": 1, **message}).encode())
    found = said(spans.server)
    assert {name: found.get(name) for name in expected} == expected
    assert spans.client.name == expected["a2a.method.name"]
    assert "hunter2" not in spans.server.to_json() + spans.client.to_json()


# -- baggage ---------------------------------------------------------------------------------------------------------

FULL = ",".join(f"k{n}=v" for n in range(64))
BAGGAGE: dict[str, tuple[list[str], bool, bool]] = {
    "a little": (["a=1", "b=2"], False, True),
    "as much as may be": ([FULL], False, True),
    "a member more, in a line of its own": ([FULL, "a=1"], False, False),
    "too many bytes": (["a=" + "x" * 9000], False, False),
    "a stranger's": (["a=1"], True, False),
}


@pytest.mark.parametrize("name", BAGGAGE)
@pytest.mark.parametrize("configured", [True, False], ids=["traced", "without a provider"])
async def test_baggage_goes_on_within_bounds(spans: Spans, name: str, configured: bool) -> None:
    lines, public, kept = BAGGAGE[name]
    upstream, seen = Upstream(), list[Any]()
    tracing = Tracing(provider=spans.provider if configured else None, public_endpoint=public)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(dict(baggage.get_all()))
        await ok(scope, receive, send)

    headers = [("baggage", line) for line in lines]
    await drive(behind(upstream, tracing), http_scope(headers=headers))
    assert upstream.headers.get_list("baggage") == (lines if kept else [])
    await drive(Gate(app, observe=[tracing]), http_scope(headers=headers))
    members = dict(part.split("=") for line in lines for part in line.split(","))
    assert seen == [members if kept and configured else {}]
    assert dict(baggage.get_all()) == {}


async def test_baggage_that_somebody_outside_has_read_is_not_read_again(spans: Spans) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(dict(baggage.get_all()))
        await ok(scope, receive, send)

    async def outside(scope: Any, receive: Any, send: Any) -> None:
        with spans.provider.get_tracer("x").start_as_current_span("outside"):
            await Gate(app, observe=[Tracing(provider=spans.provider)])(scope, receive, send)

    await drive(outside, http_scope(headers={"baggage": "a=1"}))
    assert seen == [{}]


UNSENDABLE: dict[str, tuple[str, dict[str, Any]]] = {
    "half a character in an id": ("/mcp", {"jsonrpc": "2.0", "id": "\ud800", "method": "ping"}),
    "half a character in a tool": ("/mcp", {**CALL, "params": {"name": "\ud800"}}),
    "half a character in a URI": ("/mcp", {**CALL, "method": "resources/read", "params": {"uri": "x:\ud800?a=\ud800"}}),
    "half a character in a model": ("/v1/chat/completions", {"model": "\ud800", "messages": []}),
    "a number that is too large": ("/v1/chat/completions", {"model": "m", "messages": [], "seed": 10**30}),
    "a number that is too small": ("/v1/chat/completions", {"model": "m", "messages": [], "seed": -(2**63) - 1}),
    "half a character in a message": (
        "/agent",
        {"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": {"id": "\ud800", "tenant": "\ud800"}},
    ),
}


@pytest.mark.parametrize("name", UNSENDABLE)
async def test_what_cannot_be_sent_is_in_no_span(spans: Spans, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """OTLP has no half characters, and numbers of 64 bits. One in a name would fail a whole batch, and exporters log
    each one in an attribute, with a traceback."""
    target, message = UNSENDABLE[name]
    gateway = create_gateway(
        Route("/mcp", MCPBackend("http://tools/mcp", transport=Upstream())),
        Route("/v1", LLMBackend("http://one/v1", transport=Upstream())),
        Route("/agent", A2ABackend("http://agent", transport=Upstream())),
        observe=[Tracing(provider=spans.provider)],
        public_url="http://localhost",
    )
    await drive(gateway, json_scope(target), body=json.dumps(message).encode())
    assert spans.all
    assert encode_spans(spans.all).SerializeToString()
    assert caplog.records == []


# -- when others fail ------------------------------------------------------------------------------------------------


async def test_a_provider_that_fails_stops_no_request(caplog: pytest.LogCaptureFixture) -> None:
    class Fails(Sampler):
        def should_sample(self, *args: Any, **kwargs: Any) -> Any:
            raise RuntimeError("hunter2")

        def get_description(self) -> str:
            return "Fails"

    upstream = Upstream()
    exchange: Exchange = await drive(behind(upstream, Tracing(provider=Spans(Fails()).provider)), http_scope())
    assert exchange.status == 200
    assert "observer Tracing failed: RuntimeError" in caplog.text
    assert "hunter2" not in caplog.text


async def test_observers_that_fail_do_not_keep_the_span_from_ending(spans: Spans) -> None:
    class Loud(Observer):
        def end(self, token: Any, record: Record) -> None:
            raise ValueError("hunter2")

    await drive(Gate(ok, observe=[Loud(), Tracing(provider=spans.provider), Loud()]), http_scope())
    assert len(spans.all) == 1


def test_it_says_what_it_is() -> None:
    assert repr(Tracing()) == "Tracing(public_endpoint=False)"
    assert Middleware(TracingMiddleware, public_endpoint=True)
