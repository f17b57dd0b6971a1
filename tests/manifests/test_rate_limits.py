"""The rate limits of documents: whose they are, what they count, and every fault in them."""

import json
from pathlib import Path
from typing import Any

import pytest

from agentgate.errors import ConfigurationError
from agentgate.limits.rate_limit import RateLimit
from agentgate.manifests.load import load_gateway
from agentgate.proxy.gateway import Gateway
from agentgate.request import Request
from agentgate.testing import Recorder, drive, http_scope

from .manifest_files import KEY, POLICY, ROUTE, SECRET, load
from .test_authorization import authz
from .test_backends import AGENT_ROUTE, AUTH, LLM_KEY, MCP, backend

OTHER_ROUTE = ROUTE.replace("{name: web, namespace: apps}", "{name: other, namespace: apps}").replace(
    "spec:", "spec:\n  hostnames: [other.example]"
)
ON_GATEWAY, ON_ROUTE, ON_OTHER = "infra Gateway gw", "apps HTTPRoute web", "apps HTTPRoute other"
NOT = "not supported by this version"
# Nobody is there, and it is found out at once.
NOWHERE = {"backends": {"apps/web:80": "http://127.0.0.1:9"}}


def limit(name: str, target: str, *local: dict[str, Any], **more: Any) -> str:
    """One policy; `target` is its namespace, and kind and name of what it is for."""
    namespace, kind, target = target.split()
    return f"""\
apiVersion: agentgateway.dev/v1alpha1
kind: AgentgatewayPolicy
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  targetRefs: [{{group: gateway.networking.k8s.io, kind: {kind}, name: {target}}}]
  traffic: {{rateLimit: {json.dumps({"local": local, **more} if local else more)}}}
"""


async def statuses(gateway: Gateway, *hosts: str, key: str | None = None) -> list[int | None]:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    return [(await drive(gateway, http_scope(host=host, headers=headers))).status for host in hosts]


ONE = {"requests": 1, "unit": "Hours"}
TWO = {"requests": 2, "unit": "Hours", "burst": 0}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("policies", "hosts", "expected"),
    [
        pytest.param([limit("p", ON_ROUTE, ONE)], "aa", [503, 429], id="on a route"),
        pytest.param([limit("p", ON_ROUTE, ONE)], "obo", [503, 503, 503], id="and on no other"),
        pytest.param([limit("p", ON_GATEWAY, ONE)], "ao", [503, 429], id="a Gateway's is one for all of its routes"),
        pytest.param(
            [limit("p", ON_GATEWAY, ONE), limit("q", ON_ROUTE, TWO)],
            "aaaoo",
            [503, 503, 429, 503, 429],
            id="a route's own",
        ),
        pytest.param([limit("p", ON_ROUTE, TWO, ONE)], "aa", [503, 429], id="several"),
        pytest.param(
            [limit("p", ON_ROUTE, ONE), authz("q", ON_ROUTE, "false")],
            "aa",
            [403, 403],
            id="what is refused is not counted",
        ),
    ],
)
async def test_what_is_counted(tmp_path: Path, policies: list[str], hosts: str, expected: list[int]) -> None:
    gateway = load(tmp_path, ROUTE, OTHER_ROUTE, *policies, **NOWHERE)
    names = {"a": "localhost", "b": "localhost", "o": "other.example"}
    assert await statuses(gateway, *(names[host] for host in hosts)) == expected
    await gateway.aclose()


@pytest.mark.anyio
async def test_who_is_not_let_in_spends_nothing(tmp_path: Path) -> None:
    gateway = load(tmp_path, ROUTE, SECRET, POLICY, limit("p", ON_GATEWAY, ONE), **NOWHERE)
    assert await statuses(gateway, "a", "a", "a") == [401, 401, 401]
    assert await statuses(gateway, "a", "a", key=KEY) == [503, 429]
    await gateway.aclose()


def limits_of(gateway: Gateway) -> list[list[str]]:
    return [[repr(one) for one in route.authorize if isinstance(one, RateLimit)] for route in gateway.routes]


UNITS = [{"requests": 5, "unit": unit} for unit in ("Seconds", "Minutes", "Hours")]


def test_what_they_become(tmp_path: Path) -> None:
    gateway = load(tmp_path, ROUTE, limit("p", ON_GATEWAY, *UNITS))
    (route,) = gateway.routes
    assert [(one.limit, one.seconds) for one in route.authorize if isinstance(one, RateLimit)] == [
        (5, 1),
        (5, 60),
        (5, 3600),
    ]
    assert limits_of(gateway) == [[f"RateLimit('infra/p[{n}]')" for n in range(3)]]
    # Nobody is asked who they are, and none is told apart.
    assert gateway.explain(Request.http())[-1].rule == "infra/p[2]"


TOKENS = {"tokens": 5, "unit": "Minutes"}
LLM = backend("ai: {provider: {openai: {}}}", AUTH)


def test_tokens_are_counted_where_an_llm_is_spoken_to(tmp_path: Path) -> None:
    gateway = load(tmp_path, AGENT_ROUTE, OTHER_ROUTE, LLM, LLM_KEY, limit("p", ON_GATEWAY, TOKENS, ONE))
    assert sorted(limits_of(gateway)) == [
        ["RateLimit('infra/p[0]')", "RateLimit('infra/p[1]')"],
        ["RateLimit('infra/p[1]')"],
    ]


def faults(tmp_path: Path, *documents: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, *documents)
    return [fault.partition(": ")[2] for fault in caught.value.faults]


NO_LLM = (
    "document 2 (AgentgatewayPolicy apps/p): spec.targetRefs[0]: HTTPRoute apps/web has nothing that speaks to an LLM, "
    "whose tokens could be counted"
)
AT = "document 2 (AgentgatewayPolicy apps/p): spec.traffic.rateLimit"


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (limit("p", ON_ROUTE), [f"{AT}: a policy that does nothing"]),
        (limit("p", ON_ROUTE, local=[]), [f"{AT}.local: List should have at least 1 item after validation, not 0"]),
        (limit("p", ON_ROUTE, ONE, **{"global": {"domain": "d"}}), [f"{AT}.global: {NOT}"]),
        (limit("p", ON_ROUTE, **{"global": {"domain": "d"}}), [f"{AT}.global: {NOT}"]),
        (limit("p", ON_ROUTE, conditional=[{}]), [f"{AT}.conditional: {NOT}"]),
        (limit("p", ON_ROUTE, {**ONE, "burst": 5}), [f"{AT}.local[0].burst: a burst is {NOT}"]),
        (
            limit("p", ON_ROUTE, {**ONE, "burst": -5}),
            [f"{AT}.local[0].burst: Input should be greater than or equal to 0"],
        ),
        (
            limit("p", ON_ROUTE, {"unit": "Hours"}),
            [f"{AT}.local[0]: exactly one of requests, tokens must be set"],
        ),
        (
            limit("p", ON_ROUTE, {**ONE, "tokens": 5}),
            [f"{AT}.local[0]: exactly one of requests, tokens must be set", NO_LLM],
        ),
        (
            limit("p", ON_ROUTE, {"requests": 0, "unit": "Fortnights"}),
            [
                f"{AT}.local[0].requests: Input should be greater than or equal to 1",
                f"{AT}.local[0].unit: Input should be 'Seconds', 'Minutes' or 'Hours'",
            ],
        ),
        (limit("p", ON_ROUTE, {"requests": 1}), [f"{AT}.local[0].unit: required"]),
        (limit("p", ON_ROUTE, {**ONE, "key": "jwt.sub"}), [f"{AT}.local[0].key: unknown field"]),
        (
            limit("p", ON_ROUTE, {**ONE, "requests": 2**31}),
            [f"{AT}.local[0].requests: Input should be less than or equal to 2147483647"],
        ),
        (
            limit("p", ON_ROUTE, TOKENS),
            [NO_LLM],
        ),
    ],
)
def test_faults(tmp_path: Path, policy: str, expected: list[str]) -> None:
    assert faults(tmp_path, ROUTE, policy) == expected


def test_two_policies_for_one_target_are_a_fault(tmp_path: Path) -> None:
    found = faults(tmp_path, ROUTE, limit("p", ON_ROUTE, ONE), limit("q", ON_ROUTE, ONE))
    assert len(found) == 1
    assert "spec.targetRefs[0]: HTTPRoute apps/web has a rateLimit already, by " in found[0]


def test_tokens_of_what_speaks_another_protocol_are_a_fault(tmp_path: Path) -> None:
    (found,) = faults(tmp_path, AGENT_ROUTE, backend(MCP), limit("p", "infra Gateway gw", TOKENS))
    assert found.endswith("Gateway infra/gw has nothing that speaks to an LLM, whose tokens could be counted")


def test_a_limit_of_another_gateway_is_no_fault(tmp_path: Path) -> None:
    elsewhere = ROUTE.replace("{name: gw,", "{name: gw2,").replace("{name: web, namespace", "{name: web2, namespace")
    path = tmp_path / "two.yaml"
    path.write_text("---\n".join([ROUTE, elsewhere, limit("p", "infra Gateway gw2", TOKENS)]))
    assert limits_of(load_gateway([path], gateway="infra/gw", observe=[Recorder()])) == [[]]
