"""Filters on a route: in which order, behind which decision, and what they cannot be combined with."""

from typing import Any

import httpx
import pytest

from agentgate import (
    CORS,
    A2ABackend,
    APIKeyAuth,
    CELRules,
    ConfigurationError,
    Edge,
    Filtered,
    Gate,
    Gateway,
    HTTPBackend,
    LLMBackend,
    MCPBackend,
    Mirror,
    Query,
    Reason,
    Redirect,
    Regex,
    Request,
    RequestHeaders,
    ResponseHeaders,
    Rewrite,
    Route,
    Weighted,
    create_gateway,
    new_key,
)
from agentgate.protocols.protocol import Protocol
from agentgate.proxy.destination import NoBackend
from agentgate.proxy.filters import Filtering
from agentgate.proxy.route import RouteTable
from agentgate.request import Scope
from agentgate.respond import ASGIApp, Receive, Send
from agentgate.testing import Exchange, Recorder, drive, http_scope, websocket_scope

pytestmark = pytest.mark.anyio

KEY = new_key()
AUTH = APIKeyAuth({"alice": KEY})
WITH_KEY = {"authorization": f"Bearer {KEY}"}
JSON = {"content-type": "application/json"}


class Upstream(httpx.AsyncBaseTransport):
    """Keeps what it was asked."""

    def __init__(self, error: Exception | None = None) -> None:
        self.targets: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.error = error
        self.closed = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.error is not None:
            raise self.error
        self.targets.append(request.extensions["target"])
        self.headers.append(dict(request.headers))
        return httpx.Response(200, headers={"x-upstream": "1"}, content=b"ok")

    async def aclose(self) -> None:
        self.closed += 1


def to(upstream: Upstream, url: str = "http://up/base", **options: Any) -> HTTPBackend:
    return HTTPBackend(url, transport=upstream, **options)


async def ask(app: Gateway, target: str = "/", *, method: str = "GET", **options: Any) -> Exchange:
    return await drive(app, http_scope(method, target, **options))


def gateway(upstream: Upstream, *filters: Any, path: str = "/old", **options: Any) -> Gateway:
    return create_gateway(Route(path, to(upstream), filters=filters, **options), observe=[Recorder()])


def test_a_route_without_filters_has_the_backend_s_own_app() -> None:
    backend = HTTPBackend("http://up")
    assert Route("/", backend).app is backend.app
    assert Route("/", backend, filters=[CORS(["*"])]).app is backend.app


# What goes on, and what comes back.


async def test_headers_both_ways() -> None:
    upstream = Upstream()
    app = gateway(
        upstream,
        ResponseHeaders(set={"x-upstream": "2"}, add={"x-more": "3"}),
        RequestHeaders(set={"x-env": "prod"}, remove=["x-debug"]),
    )
    exchange = await ask(app, "/old", headers={"x-debug": "1", "x-env": "dev", "x-kept": "1"})
    assert upstream.headers[0] == {"host": "up", "x-kept": "1", "x-env": "prod"}
    assert (exchange.headers["x-upstream"], exchange.headers["x-more"]) == ("2", "3")


async def test_the_host_that_was_routed_by_is_the_upstream_s_whatever_connection_names() -> None:
    upstream = Upstream()
    route = Route("/", to(upstream, preserve_host=True), filters=[RequestHeaders(set={"x-a": "1"})])
    await ask(create_gateway(route, observe=[Recorder()]), host="a.example", headers={"connection": "host"})
    assert upstream.headers[0] == {"host": "a.example", "x-a": "1"}


async def test_headers_of_an_answer_that_the_gateway_gives_in_place_of_the_upstream() -> None:
    exchange = await ask(gateway(Upstream(httpx.ConnectError("")), ResponseHeaders(set={"x-a": "1"})), "/old")
    assert (exchange.status, exchange.headers["x-a"]) == (503, "1")


class Bare:
    """A backend whose app says no headers, which ASGI lets it leave out."""

    protocol: Protocol | None = None
    name = "bare"
    mounts = False

    def __init__(self) -> None:
        self.app: ASGIApp = self.say_little

    async def say_little(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    async def aclose(self) -> None:
        pass


async def test_headers_of_an_answer_that_has_none() -> None:
    route = Route("/", Bare(), filters=[ResponseHeaders(set={"x-a": "1"}), CORS(["*"])])
    exchange = await ask(create_gateway(route, observe=[Recorder()]))
    assert dict(exchange.headers) == {"x-a": "1", "access-control-allow-origin": "*"}


async def test_headers_of_a_refusal_are_the_policies_own() -> None:
    exchange = await ask(gateway(Upstream(), ResponseHeaders(set={"x-a": "1"}), authenticate=[AUTH]), "/old")
    assert exchange.status == 401
    assert "x-a" not in exchange.headers


async def test_a_rewrite() -> None:
    upstream = Upstream()
    app = gateway(upstream, Rewrite(host="one.example", prefix="/new"))
    await ask(app, "/old/a%20b?q=/old")
    assert upstream.targets == [b"/base/new/a%20b?q=/old"]
    assert upstream.headers[0]["host"] == "one.example"


async def test_a_rewrite_of_the_host_alone() -> None:
    upstream = Upstream()
    await ask(gateway(upstream, Rewrite(host="one.example")), "/old/x")
    assert (upstream.targets, upstream.headers[0]["host"]) == ([b"/base/old/x"], "one.example")


async def test_a_rewrite_that_cannot_be() -> None:
    upstream = Upstream()
    app = create_gateway(
        Route("/a/b", to(upstream), filters=[Rewrite(prefix="/x")]),
        observe=[Recorder()],
        edge=Edge(allow_encoded_slash=True),
    )
    assert (await ask(app, "/a%2Fb/c")).status == 400
    assert upstream.targets == []


async def test_a_redirect() -> None:
    recorder = Recorder()
    app = create_gateway(
        Route("/old", filters=[Redirect(scheme="https", prefix="/new", status=308)]), observe=[recorder]
    )
    exchange = await ask(app, "/old/x?q", method="POST", body=b"body", headers={"host": "h:8080"})
    assert (exchange.status, exchange.headers["location"], exchange.body) == (308, "https://h/new/x?q", b"")
    assert (recorder.last.reason, recorder.last.error) == (Reason.DIRECT_RESPONSE, None)


async def test_a_redirect_of_a_websocket() -> None:
    app = create_gateway(Route("/old", filters=[Redirect(path="/new")]), observe=[Recorder()])
    assert (await drive(app, websocket_scope("/old"))).status == 302


# Behind the decision.


async def test_nobody_is_redirected_who_is_not_let_through() -> None:
    route = Route("/old", filters=[Redirect(host="internal.example")], authenticate=[AUTH])
    app = create_gateway(route)
    assert (await ask(app, "/old")).status == 401
    exchange = await ask(app, "/old", headers=WITH_KEY)
    assert exchange.headers["location"] == "http://internal.example/old"


async def test_the_credential_is_not_in_the_redirect() -> None:
    auth = APIKeyAuth({"alice": KEY}, location=Query("key"))
    app = create_gateway(Route("/old", filters=[Redirect(host="a.example")], authenticate=[auth]))
    assert (await ask(app, f"/old?a=b&key={KEY}")).headers["location"] == "http://a.example/old?a=b"


async def test_rules_see_what_the_client_sent() -> None:
    upstream = Upstream()
    rules = CELRules(
        allow=['request.path == "/old/x" && request.host == "h" && request.headers["x-a"] == "client"'],
    )
    filters = [Rewrite(host="other", path="/new"), RequestHeaders(set={"x-a": "route"})]
    app = gateway(upstream, *filters, authorize=[rules])
    assert (await ask(app, "/old/x", headers={"host": "h", "x-a": "client"})).status == 200
    assert (await ask(app, "/old/x", headers={"host": "h", "x-a": "route"})).status == 403
    assert (await ask(app, "/new", headers={"host": "h", "x-a": "client"})).status == 404
    assert upstream.targets == [b"/base/new"]


async def test_filters_are_for_what_a_gate_has_let_through() -> None:
    with pytest.raises(ConfigurationError, match="filters are for what a Gate has let through"):
        await drive(Filtering(HTTPBackend("http://up").app, [Rewrite(path="/a")], None), http_scope())


IDENTIFIED = APIKeyAuth({"alice": KEY}, identity_headers={"x-caller": "name"})


@pytest.mark.parametrize("spelling", ["X-Caller", "x_caller"])
@pytest.mark.parametrize("where", ["route", "weighted"])
def test_an_identity_header_is_the_gateway_s_alone(spelling: str, where: str) -> None:
    """Be it another route's."""
    change = RequestHeaders(set={spelling: "admin"})
    route = (
        Route("/a", HTTPBackend("http://up"), filters=[change])
        if where == "route"
        else Route("/a", Weighted([(Filtered(HTTPBackend("http://up"), [change]), 1)]))
    )
    with pytest.raises(
        ConfigurationError, match=f"route /a: RequestHeaders: {spelling.lower()}: this header tells who"
    ):
        create_gateway(route, Route("/b", HTTPBackend("http://up"), authenticate=[IDENTIFIED]), observe=[Recorder()])


async def test_a_response_header_may_have_the_name_of_an_identity_header() -> None:
    app = create_gateway(
        Route("/", to(Upstream()), filters=[ResponseHeaders(remove=["x-caller"])]), authenticate=[IDENTIFIED]
    )
    assert (await ask(app, headers=WITH_KEY)).status == 200


# A backend's own filters come behind the route's.


async def test_filters_of_a_backend() -> None:
    upstream = Upstream()
    backend = Filtered(
        to(upstream),
        [RequestHeaders(set={"x-which": "canary"}), Rewrite(prefix="/v2"), ResponseHeaders(add={"x-b": "2"})],
        path="/old",
    )
    app = create_gateway(
        Route(
            "/old",
            backend,
            filters=[
                RequestHeaders(add={"x-route": "1"}),
                Rewrite(host="one.example"),
                ResponseHeaders(add={"x-b": "1"}),
            ],
        ),
        observe=[Recorder()],
    )
    exchange = await ask(app, "/old/x", headers={"x-which": "client"})
    assert upstream.targets == [b"/base/v2/x"]
    assert upstream.headers[0] == {"host": "one.example", "x-route": "1", "x-which": "canary"}
    assert exchange.headers["x-b"] == "2, 1"


async def test_a_backend_may_redirect() -> None:
    backend = Filtered(HTTPBackend("http://up"), [Redirect(prefix="/new")], path="/old")
    app = create_gateway(Route("/old", backend), observe=[Recorder()])
    assert (await ask(app, "/old/x", headers={"host": "h"})).headers["location"] == "http://h/new/x"


# explain


@pytest.mark.parametrize("every", [False, True])
def test_explain_tells_of_a_redirect_only_to_those_who_get_it(every: bool) -> None:
    app = create_gateway(Route("/old", filters=[Redirect(path="/new")], authenticate=[AUTH]))
    assert app.explain(Request.http(target="/old"), every=every)[-1].status == 401
    answers = app.explain(Request.http(target="/old", api_key={"name": "a"}), every=every)
    assert (answers[-1].status, answers[-1].code) == (302, "redirect")
    assert [one.code for one in answers].count("redirect") == (2 if every else 1)


@pytest.mark.parametrize(
    ("backend", "status"),
    [
        (Filtered(HTTPBackend("http://up"), [Redirect(path="/new")]), 302),
        (Filtered(NoBackend(), [RequestHeaders(remove=["a"])]), 500),
        (NoBackend(), 500),
        (Filtered(HTTPBackend("http://up"), [RequestHeaders(remove=["a"])]), 200),
    ],
)
def test_explain_tells_what_a_backend_answers_itself(backend: Any, status: int) -> None:
    app = create_gateway(Route("/", backend), observe=[Recorder()])
    assert app.explain(Request.http())[-1].status == status


@pytest.mark.parametrize("policies", [{}, {"authorize": [CELRules(allow=["true"])]}])
@pytest.mark.parametrize("options", [{}, {"filters": [RequestHeaders(remove=["x-a"])]}, {"timeout": 1}])
async def test_a_gate_that_is_the_backend_s_own_is_asked(policies: dict[str, Any], options: dict[str, Any]) -> None:
    backend = HTTPBackend("http://up")
    backend.app = Gate(backend.app, authorize=[CELRules(allow=["false"])])
    app = create_gateway(Route("/", backend, **options, **policies), observe=[Recorder()])
    assert app.explain(Request.http())[-1].status == 403
    assert (await ask(app)).status == 403


# What is refused when built.


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({}, "a backend, or a Redirect"),
        ({"backend": HTTPBackend("http://up"), "filters": [Redirect(path="/a")]}, "a Redirect answers in place of a"),
        ({"filters": [Redirect(path="/a"), Rewrite(path="/a")]}, "a Rewrite beside a Redirect would have no effect"),
        ({"filters": [Redirect(path="/a"), Redirect(path="/a")]}, "several Redirect filters"),
        (
            {"path": Regex("/a.*"), "filters": [Redirect(prefix="/a")]},
            "Redirect: prefix is for a route whose path is a prefix",
        ),
        (
            {"backend": MCPBackend("http://up/mcp"), "filters": [Rewrite(path="/a")]},
            "Rewrite: the path of mcp has been judged",
        ),
        (
            {"backend": LLMBackend("http://up/v1"), "filters": [RequestHeaders(set={"content-type": "text/plain"})]},
            "RequestHeaders: content-type: llm was judged by it",
        ),
        (
            {"backend": MCPBackend("http://up/mcp"), "filters": [Mirror(HTTPBackend("http://copy"))]},
            "Mirror: a call of mcp is for its server alone",
        ),
        (
            {"backend": LLMBackend("http://up/v1"), "filters": [RequestHeaders(set={"Authorization": "x"})]},
            "RequestHeaders: authorization: which one llm gets is its backend's to say",
        ),
        (
            {"backend": MCPBackend("http://up/mcp"), "filters": [RequestHeaders(remove=["mcp-session-id"])]},
            "RequestHeaders: mcp-session-id: mcp was judged by it",
        ),
        (
            {"backend": A2ABackend("http://up"), "filters": [RequestHeaders(remove=["a2a-version"])]},
            "RequestHeaders: a2a-version: a2a was judged by it",
        ),
    ],
)
def test_faults(options: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Route(**({"path": "/old"} | options))
    assert any(fault in text for text in caught.value.faults)
    assert all(text.startswith("route ") for text in caught.value.faults)


def test_filters_that_are_none() -> None:
    with pytest.raises(TypeError, match="filters is a list of RequestHeaders"):
        Route("/", HTTPBackend("http://up"), filters=[{"set": {}}])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"filters": [CORS(["*"])]}, "CORS stands before the policies"),
        ({"filters": [Rewrite(prefix="/a")]}, "Rewrite: prefix is for a route whose path is a prefix"),
        ({"timeout": 0}, "a time limit is a number of seconds"),
    ],
)
def test_faults_of_a_backend_s_filters(options: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigurationError, match=f"Filtered: {fault}"):
        Filtered(HTTPBackend("http://up"), **options)


# All that is behind a gateway is closed once.


async def test_backends_behind_filters_are_closed_once() -> None:
    one, two, three = Upstream(), Upstream(), Upstream()
    first, second, copies = to(one), to(two), Mirror(to(three))
    app = create_gateway(
        Route("/", Weighted([(first, 1), (Filtered(second, [copies]), 1)]), filters=[copies]),
        Route("/a", Filtered(first, [Rewrite(path="/b")])),
        observe=[Recorder()],
    )
    await app.aclose()
    assert (one.closed, two.closed, three.closed) == (1, 1, 1)


async def test_they_close_what_they_are_made_of() -> None:
    one, two, three = Upstream(), Upstream(), Upstream()
    await Weighted([(to(one), 1), (Filtered(to(two), [Rewrite(path="/a"), Mirror(to(three))]), 1)]).aclose()
    assert (one.closed, two.closed, three.closed) == (1, 1, 1)


# Listeners: the most specific one for a host has its routes alone.


def test_a_listener_sees_its_own_routes_alone() -> None:
    backend = HTTPBackend("http://up")
    everywhere = Route("/", backend, name="everywhere")
    wild = Route("/wild", backend, listener="*.example.com")
    exact = Route("/exact", backend, hosts=["a.example.com"], listener="a.example.com")
    table = RouteTable([everywhere, wild, exact], ["empty.example.com"])

    def found(path: str, host: str) -> Route | None:
        return table.match(path, Request.http(target=path, host=host))

    assert found("/wild", "other.org") is everywhere
    assert found("/wild", "b.example.com") is wild
    assert found("/x", "b.example.com") is None
    assert found("/exact", "a.example.com") is exact
    assert found("/wild", "a.example.com") is None
    assert found("/", "empty.example.com") is None


def test_where_no_listener_is_for_a_host_no_route_is() -> None:
    table = RouteTable([Route("/", HTTPBackend("http://up"), listener="a.example")])
    assert table.match("/", Request.http(host="b.example")) is None


def test_what_they_look_like() -> None:
    backend = HTTPBackend("http://up")
    assert repr(Filtered(backend, [Rewrite(path="/a")])) == "Filtered(HTTPBackend('http://up'), [Rewrite(path='/a')])"
    assert repr(Weighted([(backend, 2)])) == "Weighted([(HTTPBackend('http://up'), 2)])"
    assert repr(Mirror(backend, fraction=0.5)) == "Mirror(HTTPBackend('http://up'), fraction=0.5)"
    assert repr(Route("/", filters=[Redirect(path="/a")]).backend) == "NoBackend('no valid backends')"
