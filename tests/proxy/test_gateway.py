"""create_gateway: which policies a request faces on its way to which route, and how the app is run and mounted."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

from agentgate import (
    APIKeyAuth,
    CELRules,
    ConfigurationError,
    Decision,
    Edge,
    Gateway,
    Header,
    HTTPBackend,
    MCPBackend,
    Reason,
    Request,
    Route,
    UnknownScopeError,
    allow,
    authorizer,
    create_gateway,
    deny,
    new_key,
)
from agentgate.posture import Mode
from agentgate.respond import ASGIApp
from agentgate.testing import Recorder, drive, http_scope, websocket_scope

pytestmark = pytest.mark.anyio

KEY, OTHER = new_key(), new_key()
AUTH = APIKeyAuth({"alice": KEY})
OTHER_AUTH = APIKeyAuth({"bob": OTHER})
WITH_KEY, WITH_OTHER = {"authorization": f"Bearer {KEY}"}, {"authorization": f"Bearer {OTHER}"}
WRONG = {"authorization": "Bearer wrong"}


class Upstream(httpx.AsyncBaseTransport):
    """Answers with the target it was asked for, and notes when it is closed."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.closed = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.extensions["target"].decode())
        return httpx.Response(200, text=self.asked[-1])

    async def aclose(self) -> None:
        self.closed += 1


def to(upstream: Upstream | None = None) -> HTTPBackend:
    return HTTPBackend("http://upstream:8000", transport=upstream or Upstream())


@authorizer
def only_get(request: Request) -> Decision:
    return allow() if request.method == "GET" else deny(rule="only GET")


@authorizer
def only_alice(request: Request) -> Decision:
    return allow() if request.principal is not None and request.principal.id == "alice" else deny(rule="only alice")


@authorizer
def nobody(request: Request) -> Decision:
    return deny("closed", rule="nobody")


# What a request faces.

# The gateway's posture, the route's, the request: its status.
POSTURES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any], int]] = {
    "the gateway's key, given": ({"authenticate": [AUTH]}, {}, {"headers": WITH_KEY}, 200),
    "the gateway's key, not given": ({"authenticate": [AUTH]}, {}, {}, 401),
    "the gateway's key, wrong": ({"authenticate": [AUTH]}, {}, {"headers": WRONG}, 401),
    "the route's key replaces the gateway's": (
        {"authenticate": [AUTH]},
        {"authenticate": [OTHER_AUTH]},
        {"headers": WITH_OTHER},
        200,
    ),
    "the gateway's key is no good there": (
        {"authenticate": [AUTH]},
        {"authenticate": [OTHER_AUTH]},
        {"headers": WITH_KEY},
        401,
    ),
    "a public route": ({"authenticate": [AUTH], "observe": [Recorder()]}, {"authenticate": []}, {}, 200),
    "a public route does not look at keys": (
        {"authenticate": [AUTH], "authorize": [only_get]},
        {"authenticate": []},
        {"headers": WRONG},
        200,
    ),
    "a public route faces the gateway's rules": (
        {"authenticate": [AUTH], "authorize": [only_get]},
        {"authenticate": []},
        {"method": "POST"},
        403,
    ),
    "a key for one route alone": ({}, {"authenticate": [AUTH]}, {}, 401),
    "the gateway's rule": ({"authorize": [only_get]}, {}, {"method": "POST"}, 403),
    "the route's rule": ({}, {"authorize": [only_get]}, {"method": "POST"}, 403),
    "the gateway's rule, where the route's allows": (
        {"authorize": [nobody]},
        {"authorize": [only_get]},
        {},
        403,
    ),
    "the route's rule, where the gateway's allows": (
        {"authorize": [only_get]},
        {"authorize": [nobody]},
        {},
        403,
    ),
    "both rules allow": (
        {"authenticate": [AUTH], "authorize": [only_get]},
        {"authorize": [only_alice]},
        {"headers": WITH_KEY},
        200,
    ),
    "the gateway's mode": ({"authenticate": [AUTH], "mode": "optional"}, {}, {}, 200),
    "the gateway's mode, a wrong key": ({"authenticate": [AUTH], "mode": "optional"}, {}, {"headers": WRONG}, 401),
    "the route's mode replaces it": ({"authenticate": [AUTH], "mode": "optional"}, {"mode": "strict"}, {}, 401),
    "the route's mode, a wrong key": ({"authenticate": [AUTH]}, {"mode": "permissive"}, {"headers": WRONG}, 200),
    "nothing but an observer": ({"observe": [Recorder()]}, {}, {}, 200),
}


@pytest.mark.parametrize(("gateway", "route", "request_", "status"), POSTURES.values(), ids=POSTURES)
async def test_a_request_faces(
    gateway: dict[str, Any], route: dict[str, Any], request_: dict[str, Any], status: int
) -> None:
    """The route's authenticators and mode instead of the gateway's, and the rules of both; `explain` says the same."""
    upstream = Upstream()
    app = create_gateway(Route("/", to(upstream), **route), **gateway)
    assert (await drive(app, http_scope(**request_))).status == status
    assert upstream.asked == (["/"] if status == 200 else [])
    decisions = app.explain(Request.http(**request_))
    assert (decisions[-1].effect == "allow") is (status == 200)


async def test_the_gateways_rules_come_first() -> None:
    """Then the route's, up to the first denial."""
    app = create_gateway(Route("/", to(), authorize=[nobody, only_get]), authenticate=[AUTH], authorize=[only_alice])
    found = app.explain(Request.http(headers=WITH_KEY))
    assert [decision.policy for decision in found] == ["APIKeyAuth", "only_alice", "nobody"]
    assert [decision.effect for decision in found] == ["allow", "allow", "deny"]


async def test_each_route_leads_to_its_own_backend() -> None:
    """With the path as it was sent."""
    tools, rest = Upstream(), Upstream()
    recorder = Recorder()
    app = create_gateway(Route("/tools", to(tools), name="tools"), Route("/", to(rest)), observe=[recorder])
    for target in ("/tools/x?a=%41", "/toolsy", "/"):
        assert (await drive(app, http_scope("GET", target))).text == target
    assert (tools.asked, rest.asked) == (["/tools/x?a=%41"], ["/toolsy", "/"])
    assert [(record.route, record.protocol) for record in recorder.records] == [
        ("tools", "http"),
        ("/", "http"),
        ("/", "http"),
    ]


# What reaches no route.


async def test_what_no_route_matches_is_404() -> None:
    """There is no default, and a stranger is told no more than that; observers see it."""
    recorder, upstream = Recorder(), Upstream()
    app = create_gateway(
        Route("/a", to(upstream), hosts=["example.com"]), authenticate=[AUTH], authorize=[nobody], observe=[recorder]
    )
    exchange = await drive(app, http_scope("GET", "/a", host="example.org"))
    assert (exchange.status, exchange.text) == (404, "route not found")
    assert exchange.headers == {"content-type": "text/plain", "content-length": "15"}
    assert upstream.asked == []
    record = recorder.last
    assert (record.status, record.error, record.reason) == (404, "route not found", Reason.NOT_FOUND)
    assert (record.route, record.protocol, record.endpoint, record.trail) == (None, None, None, [])
    assert record.refusal is not None
    assert (record.refusal.code, record.refusal.policy) == ("route_not_found", "gateway")
    assert app.explain(Request.http("GET", "/a", host="example.org")) == [record.refusal]
    assert (await drive(app, websocket_scope("/b"))).status == 404


async def test_what_the_edge_refuses_finds_no_route() -> None:
    """Observers see it, and with none of them it is refused all the same."""
    recorder, upstream = Recorder(), Upstream()
    routes = [Route("/", to(upstream), authorize=[only_get])]
    for app in (create_gateway(*routes, observe=[recorder]), create_gateway(*routes)):
        exchange = await drive(app, http_scope("GET", "/a/../b"))
        assert (exchange.status, exchange.text) == (400, "invalid request: the path has a dot segment")
        assert [decision.code for decision in app.explain(Request.http("GET", "/a/../b"))] == ["invalid_request"]
    assert upstream.asked == []
    assert len(recorder.records) == 1
    assert (recorder.last.status, recorder.last.route) == (400, None)
    assert recorder.last.refusal is not None
    assert recorder.last.refusal.policy == "edge"


async def test_the_edge_can_be_told_otherwise() -> None:
    """For the gateway as a whole."""
    app = create_gateway(Route("/", to(), authorize=[only_get]), edge=Edge(allow_empty_segments=True))
    assert (await drive(app, http_scope("GET", "/a//b"))).text == "/a//b"
    assert [decision.effect for decision in app.explain(Request.http("GET", "/a//b"))] == ["allow"]


async def test_refusals_are_recorded_with_their_route() -> None:
    """A request that a route's policies refuse has found it."""
    recorder = Recorder()
    app = create_gateway(Route("/", to(), name="r", authenticate=[AUTH]), observe=[recorder])
    assert (await drive(app, http_scope())).status == 401
    assert (recorder.last.route, recorder.last.protocol, recorder.last.endpoint) == ("r", "http", None)
    assert (await drive(app, http_scope(headers=WITH_KEY))).status == 200
    assert recorder.last.principal is not None
    assert recorder.last.principal.id == "alice"


async def test_a_scope_of_another_kind_is_refused() -> None:
    """Nobody knows what it would let through."""
    with pytest.raises(UnknownScopeError):
        await drive(create_gateway(Route("/", to(), authorize=[only_get])), {"type": "webtransport"})


# How it is built.


@pytest.mark.parametrize("route", [{}, {"authenticate": []}, {"mode": "optional"}])
def test_a_posture_with_nothing_in_it_is_not_built(route: dict[str, Any]) -> None:
    """It would let everything pass unseen."""
    with pytest.raises(ConfigurationError, match="a gateway with no policy and no observer"):
        create_gateway(Route("/", to(), **route))


def test_a_gateway_without_routes_is_not_built() -> None:
    """It could only say no."""
    with pytest.raises(ConfigurationError, match="at least one route"):
        create_gateway(authenticate=[AUTH])


@pytest.mark.parametrize("mode", ["lax", "Strict"])
def test_a_mode_that_is_none_is_not_built(mode: Mode) -> None:
    """The gateway's or a route's."""
    with pytest.raises(ConfigurationError, match="mode is one of"):
        create_gateway(Route("/", to()), authenticate=[AUTH], mode=mode)
    with pytest.raises(ConfigurationError, match="mode is one of"):
        create_gateway(Route("/", to()), observe=[Recorder()], mode=mode)  # where no Gate would ask for it
    with pytest.raises(ConfigurationError, match="mode is one of"):
        Route("/", to(), mode=mode)
    with pytest.raises(ConfigurationError, match="mode is one of"):
        create_gateway(Route("/", to(), mode=mode), authenticate=[AUTH])


@pytest.mark.parametrize("slot", ["authenticate", "authorize", "observe"])
def test_a_policy_in_the_wrong_slot_is_a_type_error(slot: str) -> None:
    """When the gateway is built, not when a request comes; also where no route uses it."""
    options: dict[str, Any] = {slot: [object()]}
    with pytest.raises(TypeError, match=f"{slot} takes "):
        create_gateway(Route("/", to(), authenticate=[]), **options)


def test_it_shows_its_routes() -> None:
    """In their order."""
    app = create_gateway(Route("/a", to()), Route("/b", to()), authorize=[only_get])
    assert isinstance(app, Gateway)
    assert [route.name for route in app.routes] == ["/a", "/b"]
    assert repr(app) == f"Gateway({app.routes[0]!r}, {app.routes[1]!r})"


def test_explain_forwards_nothing_and_knows_who_asks() -> None:
    """A request built as authenticated faces the rules at once; on a public route nothing is against it."""
    upstream = Upstream()
    app = create_gateway(
        Route("/public", to(upstream), authenticate=[]),
        Route("/", to(upstream), authorize=[only_get]),
        authenticate=[AUTH],
    )
    assert [decision.effect for decision in app.explain(Request.http("GET", api_key={}))] == ["allow"]
    assert [decision.rule for decision in app.explain(Request.http("POST", api_key={}))] == ["only GET"]
    assert [decision.policy for decision in app.explain(Request.http("GET", "/public"))] == ["gate"]
    assert upstream.asked == []


@pytest.mark.parametrize(
    ("request_", "route", "asked"),
    [
        (Request.http("POST", "/a", headers=WITH_KEY), "/a", ["allow APIKeyAuth", "deny nobody", "deny only_get"]),
        (Request.http("POST", "/a"), "/a", ["deny APIKeyAuth", "deny nobody", "deny only_get"]),
        (Request.http("POST", "/b"), "/b", ["deny nobody"]),
        (Request.http("POST", "/c"), None, ["deny gateway"]),
        (Request.http("POST", "/a//"), "/a", ["deny edge"]),
    ],
)
def test_explain_asks_every_policy_of_the_route(request_: Request, route: str | None, asked: list[str]) -> None:
    """What stands is last, and the same as where the first denial ends it."""
    app = create_gateway(
        Route("/a", to(), authenticate=[AUTH], authorize=[only_get]), Route("/b", to()), authorize=[nobody]
    )
    found = app.match(request_)
    assert (found and found.name) == route
    *answers, stands = app.explain(request_, every=True)
    assert [f"{decision.effect} {decision.policy}" for decision in answers] == asked
    assert [stands] == app.explain(request_)[-1:]
    assert stands in answers


def test_explain_of_a_route_without_policies() -> None:
    app = create_gateway(Route("/", to()), observe=[Recorder()])
    assert [d.policy for d in app.explain(Request.http())] == ["gate"]
    assert [d.policy for d in app.explain(Request.http(), every=True)] == ["gate"]


# How it is run and mounted.


async def test_the_lifespan_closes_every_backend_once() -> None:
    """However many routes lead to it."""
    one, two = Upstream(), Upstream()
    shared = to(one)
    app = create_gateway(Route("/a", shared), Route("/b", shared), Route("/c", to(two)), authorize=[only_get])
    exchange = await drive(app, {"type": "lifespan"})
    assert [message["type"] for message in exchange.messages] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]
    assert (one.closed, two.closed) == (1, 1)


async def test_a_lifespan_message_that_nobody_knows_changes_nothing() -> None:
    """Servers may come to say more."""
    upstream = Upstream()
    messages = iter(["lifespan.new", "lifespan.startup", "lifespan.shutdown"])
    said = []

    async def receive() -> dict[str, Any]:
        return {"type": next(messages)}

    async def send(message: Any) -> None:
        said.append(message["type"])

    await create_gateway(Route("/", to(upstream)), authorize=[only_get])({"type": "lifespan"}, receive, send)
    assert said == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_one_that_is_closed_without_a_lifespan() -> None:
    """By hand, where it is mounted in an app whose lifespan does not reach it."""
    upstream = Upstream()
    app = create_gateway(Route("/", to(upstream)), authorize=[only_get])
    await app.aclose()
    assert upstream.closed == 1


def mounted(kind: str, gateway: Gateway, path: str) -> ASGIApp:
    """In an app of this kind, whose lifespan closes the gateway or knows nothing of it."""

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        yield
        await gateway.aclose()

    if kind.startswith("Starlette"):
        return Starlette(routes=[Mount(path, gateway)], lifespan=lifespan if kind.endswith("lifespan") else None)
    app = FastAPI(lifespan=lifespan) if kind.endswith("lifespan") else FastAPI()
    app.mount(path, gateway)
    return app


@pytest.mark.parametrize("kind", ["Starlette", "Starlette with lifespan", "FastAPI", "FastAPI with lifespan"])
@pytest.mark.parametrize("root_path", ["", "/outer"])
@pytest.mark.parametrize("path", ["/gw", "/gw/deep"])
async def test_mounted_in(kind: str, root_path: str, path: str) -> None:
    """Its routes, and the upstream, see what is below the mount; policies see all of the path."""
    seen = []

    @authorizer
    def watching(request: Request) -> Decision:
        seen.append(request.path)
        return allow()

    upstream = Upstream()
    gateway = create_gateway(
        Route("/tools", to(upstream)), authenticate=[AUTH], authorize=[watching], observe=[Recorder()]
    )
    app = mounted(kind, gateway, path)
    target = f"{root_path}{path}/tools/a%20b?c=%41"
    assert (await drive(app, http_scope("GET", target, root_path=root_path))).status == 401
    exchange = await drive(app, http_scope("GET", target, root_path=root_path, headers=WITH_KEY))
    assert (exchange.status, exchange.text) == (200, "/tools/a%20b?c=%41")
    assert seen == [f"{root_path}{path}/tools/a b"]
    outside = await drive(app, http_scope("GET", f"{root_path}{path}/other", root_path=root_path, headers=WITH_KEY))
    assert (outside.status, outside.text) == (404, "route not found")
    assert (await drive(app, http_scope("GET", f"{root_path}/tools", root_path=root_path))).status == 404
    await drive(app, {"type": "lifespan", "asgi": {"version": "3.0"}})
    assert upstream.closed == (1 if kind.endswith("lifespan") else 0)


async def test_a_header_that_a_routes_authenticator_reads_may_occur_once() -> None:
    """Two of them are refused by the edge, whatever is in them."""
    upstream = Upstream()
    app = create_gateway(Route("/", to(upstream), authenticate=[APIKeyAuth([KEY], location=Header("x-mine"))]))
    twins = [("x-mine", KEY), ("x-mine", KEY)]
    exchange = await drive(app, http_scope(headers=twins))
    assert (exchange.status, exchange.text) == (400, "invalid request: several x-mine headers")
    assert [decision.status for decision in app.explain(Request.http(headers=twins))] == [400]
    assert upstream.asked == []


async def test_one_backend_that_cannot_be_closed_does_not_keep_the_others_open() -> None:
    """Every backend is asked to close, and the failure is told afterwards."""
    closed: list[str] = []

    class Closing(httpx.AsyncBaseTransport):
        async def aclose(self) -> None:
            closed.append("asked")
            if len(closed) == 1:
                raise OSError("cannot")

    backends = [HTTPBackend("http://upstream", transport=Closing()) for _ in range(2)]
    gateway = create_gateway(Route("/a", backends[0]), Route("/b", backends[1]), observe=[Recorder()])
    with pytest.raises(OSError, match="cannot"):
        await gateway.aclose()
    assert closed == ["asked", "asked"]


async def test_rules_know_the_backend_of_the_route_that_was_found() -> None:
    only = CELRules(allow=['backend.name == "upstream:8000" && backend.type == "static" && backend.protocol == "http"'])
    other = HTTPBackend("http://other", transport=Upstream())
    gateway = create_gateway(Route("/a", to()), Route("/b", other), authorize=[only])
    for path, status in (("/a", 200), ("/b", 403), ("/c", 404)):
        assert (await drive(gateway, http_scope("GET", path))).status == status
        assert gateway.explain(Request.http("GET", path))[-1].status == status
    request = Request.http("GET", "/a")
    gateway.explain(request)
    assert request.backend is None  # the caller's view is left alone


async def test_a_protocol_is_kept_to_where_there_are_no_policies() -> None:
    gateway = create_gateway(Route("/mcp", MCPBackend("http://tools:9000/mcp")), observe=[Recorder()])
    exchange = await drive(gateway, http_scope("PUT", "/mcp"))
    assert exchange.status == 405
    assert b"method not allowed; must be GET, POST, DELETE" in exchange.body
