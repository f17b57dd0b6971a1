"""cors, headerModifiers and timeouts of policies: where they hold, what takes their place, and their faults."""

import asyncio
from pathlib import Path

import httpx
import pytest

from agentgate import CORS, Filtered, RequestHeaders, ResponseHeaders
from agentgate.proxy.route import Route
from agentgate.testing import drive, http_scope

from .manifest_files import POLICY, ROUTE, SECRET, load
from .test_backends import AGENT_ROUTE, MCP, backend
from .test_faults import ONE, edited, faults, rule

pytestmark = pytest.mark.anyio

P = "document 2 (AgentgatewayPolicy infra/traffic): "


def policy(
    traffic: str, *, target: str = "kind: Gateway, name: gw", name: str = "traffic", namespace: str = "infra"
) -> str:
    return f"""\
apiVersion: agentgateway.dev/v1alpha1
kind: AgentgatewayPolicy
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{targetRefs: [{{group: gateway.networking.k8s.io, {target}}}], traffic: {{{traffic}}}}}
"""


def on_route(traffic: str) -> str:
    return policy(traffic, target="kind: HTTPRoute, name: web", name="own", namespace="apps")


def said(route: Route) -> list[object]:
    """What a route does, whoever said so."""
    inner = route.backend.filters if isinstance(route.backend, Filtered) else ()
    return sorted([*route.filters, *inner], key=lambda one: type(one).__name__)


CORS_A, CORS_B = "cors: {allowOrigins: [https://a]}", "cors: {allowOrigins: [https://b]}"


@pytest.mark.parametrize(
    ("documents", "origin"),
    [
        ([policy(CORS_A)], "https://a"),
        ([on_route(CORS_A)], "https://a"),
        ([policy(CORS_A), on_route(CORS_B)], "https://b"),
        ([policy(CORS_A), on_route("timeouts: {request: 1s}")], "https://a"),
    ],
)
def test_a_route_s_own_takes_the_place_of_its_gateway_s(tmp_path: Path, documents: list[str], origin: str) -> None:
    (route,) = load(tmp_path, ROUTE, *documents).routes
    (found,) = said(route)
    assert isinstance(found, CORS)
    assert found.origins == (origin,)


def test_what_a_rule_says_takes_the_place_of_both(tmp_path: Path) -> None:
    text = "headerModifiers: {request: {remove: [x-a]}, response: {remove: [x-a]}}, " + CORS_A
    filters = (
        "{type: RequestHeaderModifier, requestHeaderModifier: {remove: [x-b]}},"
        " {type: CORS, cors: {allowOrigins: [https://b]}}"
    )
    document = edited(ROUTE, rule(f"{{{ONE}, filters: [{filters}]}}"))
    (route,) = load(tmp_path, document, policy(text)).routes
    cors, request, response = said(route)
    assert isinstance(cors, CORS)
    assert isinstance(request, RequestHeaders)
    assert isinstance(response, ResponseHeaders)
    assert cors.origins == ("https://b",)
    assert request.names == {b"x-b"}
    assert response.names == {b"x-a"}


LIMITS = [("", 504), ("timeouts: {request: 0s}", 200), ("timeouts: {request: 1m}", 200)]


@pytest.mark.parametrize(("rules", "status"), LIMITS)
async def test_time_limits(tmp_path: Path, rules: str, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await asyncio.sleep(0.1)
            return httpx.Response(200)

    monkeypatch.setattr("agentgate.proxy.backend.PoolTransport", Slow)
    document = edited(ROUTE, rule(f"{{{ONE}, {rules}}}")) if rules else ROUTE
    app = load(tmp_path, document, policy("timeouts: {request: 10ms}"))
    assert (await drive(app, http_scope())).status == status


async def test_a_page_is_told_of_a_refusal_by_another_policy(tmp_path: Path) -> None:
    app = load(tmp_path, ROUTE, SECRET, POLICY, policy(CORS_A))
    exchange = await drive(app, http_scope(headers={"origin": "https://a"}))
    assert (exchange.status, exchange.headers["access-control-allow-origin"]) == (401, "https://a")


def test_a_policy_of_another_gateway_is_not_this_one_s(tmp_path: Path) -> None:
    other = edited(ROUTE, ("name: web, namespace", "name: other, namespace"), ("name: gw", "name: x"))
    (route,) = load(tmp_path, ROUTE, other, policy(CORS_A, target="kind: Gateway, name: x"), gateway="infra/gw").routes
    assert said(route) == []


@pytest.mark.parametrize(
    ("traffic", "expected"),
    [
        ("cors: {allowOrigins: [a]}", ["spec.traffic.cors: CORS: 'a' is no origin"]),
        ("headerModifiers: {}", ["spec.traffic.headerModifiers: it changes nothing"]),
        ("headerModifiers: {request: {remove: [host]}}", [
            "spec.traffic.headerModifiers: RequestHeaders: host: this header is not a route's to change",
        ]),
        ("timeouts: {}", ["spec.traffic.timeouts.request: required"]),
        ("timeouts: {request: 0s}", ["spec.traffic.timeouts.request: request timeout must be at least 1ms"]),
        ("timeouts: {request: soon}", ["spec.traffic.timeouts.request: a duration such as 500ms"]),
    ],
)  # fmt: skip
def test_faults(tmp_path: Path, traffic: str, expected: list[str]) -> None:
    found = faults(tmp_path, ROUTE, policy(traffic))
    assert len(found) == len(expected)
    for fault, start in zip(found, expected, strict=True):
        assert fault.startswith(P + start)


def test_two_of_one_kind_on_one_target(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, ROUTE, policy(CORS_A), policy(CORS_B, name="two"))
    assert "spec.targetRefs[0]: Gateway infra/gw has cors already, by " in fault


def test_what_a_protocol_judges_by_is_not_changed(tmp_path: Path) -> None:
    text = "headerModifiers: {request: {set: [{name: content-type, value: text/plain}]}}"
    (fault,) = faults(tmp_path, AGENT_ROUTE, policy(text), backend(MCP))
    assert fault.startswith(
        P + "spec.traffic.headerModifiers: for apps/web RequestHeaders: content-type: mcp was judged"
    )
