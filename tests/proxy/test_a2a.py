"""A2ABackend: an agent at a route, with a card that leads clients to the route and never past it."""

import json
from typing import Any

import httpx
import pytest

from agentgate import (
    A2ABackend,
    APIKeyAuth,
    CELRules,
    ConfigurationError,
    Exact,
    Gate,
    Header,
    Query,
    Regex,
    Request,
    Route,
    create_gateway,
    new_key,
)
from agentgate.protocols.a2a import A2A
from agentgate.protocols.a2a.cards import CardFault
from agentgate.proxy.gateway import Gateway
from agentgate.testing import Recorder, drive, http_scope

pytestmark = pytest.mark.anyio

KEY = new_key()
BEARER = {"authorization": f"Bearer {KEY}"}
WELL_KNOWN = "/planner/.well-known/agent-card.json"
CARD = {
    "name": "Planner",
    "url": "http://planner:8001/",
    "supportedInterfaces": [{"url": "http://planner:8001/", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}],
}
HERE = "https://gateway.example.com"
LOOKS_LIKE = "the agent's cards have to name the gateway in its place"


class Agent(httpx.AsyncBaseTransport):
    """Answers every request with its card, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        return httpx.Response(200, json=CARD)

    @property
    def target(self) -> str:
        """Path and query of the last request, as sent."""
        target: bytes = self.asked[-1].extensions["target"]
        return target.decode()


def planner(agent: Agent | None = None, url: str = "http://planner:8001", **options: Any) -> A2ABackend:
    return A2ABackend(url, transport=agent or Agent(), **options)


def gateway(*routes: Route, **options: Any) -> Gateway:
    return create_gateway(*routes, **{"authenticate": [APIKeyAuth({"alice": KEY})], "public_url": HERE, **options})


async def card_at(app: Gateway, target: str = WELL_KNOWN, **options: Any) -> dict[str, Any]:
    exchange = await drive(app, http_scope("GET", target, **{"headers": BEARER, **options}))
    assert exchange.status == 200, exchange.text
    card: dict[str, Any] = json.loads(exchange.body)
    return card


async def test_the_card_leads_to_the_route() -> None:
    agent, recorder = Agent(), Recorder()
    app = gateway(Route("/planner", planner(agent), name="planner"), observe=[recorder])
    card = await card_at(app)
    assert card["url"] == f"{HERE}/planner/"
    assert [interface["url"] for interface in card["supportedInterfaces"]] == [f"{HERE}/planner/"]
    assert card["security"] == [{"agentgate": []}]
    assert agent.target == "/.well-known/agent-card.json"
    assert "authorization" not in agent.asked[-1].headers
    record = recorder.last
    assert (record.route, record.protocol, record.details) == ("planner", "a2a", {"a2a.method": "GetAgentCard"})
    assert (await drive(app, http_scope("GET", WELL_KNOWN))).status == 401


@pytest.mark.parametrize("host", ["evil.example.com", "gateway.example.com"])
async def test_where_clients_reach_it_is_not_guessed(host: str) -> None:
    headers = {**BEARER, "x-forwarded-host": "evil.example.com", "x-forwarded-proto": "gopher"}
    card = await card_at(gateway(Route("/planner", planner())), host=host, headers=headers)
    assert "evil" not in json.dumps(card)


@pytest.mark.parametrize(
    ("route", "url", "asked", "expected"),
    [
        ("/planner", "http://planner:8001", "/planner/tasks/t?historyLength=1", "/tasks/t?historyLength=1"),
        ("/planner/", "http://planner:8001/", "/planner/tasks/t", "/tasks/t"),
        ("/planner", "http://planner:8001/agents/a", "/planner/tasks/t", "/agents/a/tasks/t"),
        ("/", "http://planner:8001", "/tasks/t", "/tasks/t"),
        ("/", "http://planner:8001/agents/a/", "/tasks/t", "/agents/a/tasks/t"),
        (Exact("/planner/tasks/t"), "http://planner:8001", "/planner/tasks/t", None),
    ],
)
async def test_what_is_below_the_route_is_below_the_agents_url(
    route: Any, url: str, asked: str, expected: str | None
) -> None:
    agent = Agent()
    app = gateway(Route(route, planner(agent, url)))
    exchange = await drive(app, http_scope("GET", asked, headers=BEARER))
    if expected is None:
        assert (exchange.status, agent.asked) == (404, [])
    else:
        assert (exchange.status, agent.target) == (200, expected)


RPC = b'{"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": {"id": "t"}}'


@pytest.mark.parametrize(
    ("url", "asked", "expected"),
    [
        ("http://planner:8001", "/planner", "/"),
        ("http://planner:8001", "/planner/", "/"),
        ("http://planner:8001/a", "/planner", "/a"),
        ("http://planner:8001/a/", "/planner", "/a"),
        ("http://planner:8001/a", "/planner/", "/a/"),
    ],
)
async def test_the_very_path_of_the_route_is_the_very_url_of_the_agent(url: str, asked: str, expected: str) -> None:
    agent = Agent()
    headers = {**BEARER, "content-type": "application/json"}
    exchange = await drive(
        gateway(Route("/planner", planner(agent, url))), http_scope("POST", asked, headers=headers), body=RPC
    )
    assert (exchange.status, agent.target) == (200, expected)


async def test_a_mounted_gateway_cuts_off_both() -> None:
    agent = Agent()
    app = gateway(Route("/planner", planner(agent)), public_url=f"{HERE}/agents")
    card = await card_at(app, f"/agents{WELL_KNOWN}", root_path="/agents")
    assert (card["url"], agent.target) == (f"{HERE}/agents/planner/", "/.well-known/agent-card.json")


async def test_the_public_card_is_opened_by_a_route_of_its_own() -> None:
    """It still says what other requests need, and what a client sends along of that goes no further."""
    agent = Agent()
    backend = planner(agent)
    keys = [APIKeyAuth({"alice": KEY}), APIKeyAuth({"alice": KEY}, location=Header("x-api-key"))]
    app = gateway(Route("/planner", backend), Route(Exact(WELL_KNOWN), backend, authenticate=[]), authenticate=keys)
    for headers in ({}, {**BEARER, "x-api-key": KEY, "x-kept": "1"}):
        card = await card_at(app, headers=headers)
        assert card["url"] == f"{HERE}/planner/"
        assert list(card["securitySchemes"]) == ["agentgate", "agentgate_"]
        assert KEY not in str(agent.asked[-1].headers)
    assert agent.asked[-1].headers["x-kept"] == "1"
    for target in ("/planner/.well-known/agent.json", "/planner/tasks/t", "/planner"):
        assert (await drive(app, http_scope("GET", target))).status == 401


def test_explain_reads_below_the_route_too() -> None:
    tenants = CELRules(deny=["has(a2a.tenant)"], allow=['a2a.method == "GetTask"'])
    app = gateway(Route("/planner", planner(), authorize=[tenants]))
    for target, effect in (("/planner/tasks/t", "allow"), ("/planner/acme/tasks/t", "deny")):
        assert app.explain(Request.http("GET", target, headers=BEARER))[-1].effect == effect
    request = Request.http("POST", "/planner", headers={**BEARER, "content-type": "application/json"}, body=RPC)
    assert app.explain(request)[-1].effect == "allow"
    assert app.explain(Request.message(target="/planner", headers=BEARER))[-1].effect == "deny"


async def test_a_credential_in_the_query_of_the_public_card_is_refused() -> None:
    agent = Agent()
    backend = planner(agent)
    app = gateway(
        Route("/planner", backend),
        Route(Exact(WELL_KNOWN), backend, authenticate=[]),
        authenticate=[APIKeyAuth({"alice": KEY}, location=Query("key"))],
    )
    assert (await drive(app, http_scope("GET", f"{WELL_KNOWN}?key={KEY}"))).status == 400
    assert not agent.asked
    await card_at(app, f"{WELL_KNOWN}?x=1", headers={})


async def test_rules_are_about_calls_by_their_names_in_1_0() -> None:
    agent = Agent()
    rules = CELRules(allow=['a2a.method == "GetTask" && a2a.taskId.startsWith("alice-")'])
    app = gateway(Route("/planner", planner(agent), authorize=[rules]))
    for target, status in (("/planner/tasks/alice-1", 200), ("/planner/tasks/bob-1", 404), ("/planner/tasks", 403)):
        assert (await drive(app, http_scope("GET", target, headers=BEARER))).status == status
    assert len(agent.asked) == 1
    trail = app.explain(Request.http("GET", "/planner/tasks/bob-1", headers=BEARER))
    assert [(decision.effect, decision.policy) for decision in trail] == [("allow", "APIKeyAuth"), ("deny", "CELRules")]


@pytest.mark.parametrize(
    ("route", "options"),
    [
        (Route("/planner", planner()), {"public_url": None}),
        (Route("/planner", planner(), hosts=["agents.example.com"]), {}),
    ],
)
def test_without_a_public_url_of_its_own_there_is_no_gateway(route: Route, options: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"route /planner: {LOOKS_LIKE}"):
        gateway(route, **options)


def test_a_path_that_is_no_one_path_mounts_nothing() -> None:
    with pytest.raises(ConfigurationError) as caught:
        gateway(Route(Regex("/p.*"), planner()))
    assert [fault.partition(":")[0] for fault in caught.value.faults] == ["route /p.*", "route /p.*"]
    assert "mounted" in caught.value.faults[0]
    with pytest.raises(ConfigurationError, match="mounted"):
        gateway(Route(Regex("/p.*"), planner(public_url=HERE)))


async def test_a_route_for_other_hosts_says_where_it_is() -> None:
    backend = planner(public_url="https://agents.example.com/planner")
    app = gateway(Route("/planner", backend, hosts=["agents.example.com"]), public_url=None)
    card = await card_at(app, host="agents.example.com")
    assert card["url"] == "https://agents.example.com/planner/"


async def test_an_agent_that_calls_itself_something_else() -> None:
    app = gateway(Route("/planner", planner(url="http://10.0.0.7:9", advertised=["http://planner:8001"])))
    assert (await card_at(app))["url"] == f"{HERE}/planner/"
    app = gateway(Route("/planner", planner(url="http://10.0.0.7:9")))
    assert (await drive(app, http_scope("GET", WELL_KNOWN, headers=BEARER))).status == 502


async def test_a_gate_of_ones_own_has_to_say_where_it_is_reached() -> None:
    backend = planner()
    known = [APIKeyAuth({"alice": KEY})]
    with pytest.raises(ConfigurationError, match=LOOKS_LIKE):
        Gate(backend.app, authenticate=known, protocol=backend.protocol)
    gate = Gate(backend.app, authenticate=known, protocol=backend.protocol, public_url=HERE)
    exchange = await drive(gate, http_scope("GET", "/.well-known/agent-card.json", headers=BEARER))
    assert json.loads(exchange.body)["url"] == f"{HERE}/"


async def test_a_backend_that_nobody_has_placed_lets_no_card_through() -> None:
    protocol = planner().protocol
    assert isinstance(protocol, A2A)
    assert protocol.cards is not None
    with pytest.raises(CardFault):
        protocol.cards.rewrite_bytes(json.dumps(CARD).encode())


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"url": "planner:8001"}, "an upstream is"),
        ({"url": "http://planner:8001/%20"}, "no plain URL"),
        ({"url": "http://planner:8001//"}, "no plain URL"),
        ({"advertised": "http://planner"}, "advertised is a list"),
        ({"advertised": ["planner"]}, "'planner' is no plain URL"),
        ({"advertised": ["http://planner/?x", 7]}, "7 is no plain URL"),
        ({"public_url": "gateway.example.com"}, "public_url is what clients dial"),
        ({"interfaces": ["a2a"]}, "a plain path"),
    ],
)
def test_faults(options: Any, fault: str) -> None:
    with pytest.raises(ConfigurationError, match=fault):
        planner(**options)


def test_it_shows_its_url() -> None:
    assert repr(planner()) == "A2ABackend('http://planner:8001')"
