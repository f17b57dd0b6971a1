"""The authorization of documents: which rules a request meets, how they add up, and every fault in them at once."""

import json
from pathlib import Path

import pytest

from agentgate.context import VARIABLES
from agentgate.errors import ConfigurationError
from agentgate.manifests.expressions import expression_faults
from agentgate.proxy.gateway import Gateway
from agentgate.request import Request

from .manifest_files import KEY, POLICY, ROUTE, SECRET, load

OTHER_ROUTE = ROUTE.replace("{name: web, namespace: apps}", "{name: other, namespace: apps}").replace(
    "spec:", "spec:\n  hostnames: [other.example]"
)
ON_GATEWAY, ON_ROUTE, ON_OTHER = "infra Gateway gw", "apps HTTPRoute web", "apps HTTPRoute other"


def authz(name: str, target: str, *expressions: str, action: str | None = None) -> str:
    """One policy; `target` is its namespace, and kind and name of what it is for."""
    namespace, kind, target = target.split()
    said = "" if action is None else f"      action: {action}\n"
    return f"""\
apiVersion: agentgateway.dev/v1alpha1
kind: AgentgatewayPolicy
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  targetRefs: [{{group: gateway.networking.k8s.io, kind: {kind}, name: {target}}}]
  traffic:
    authorization:
{said}      policy: {{matchExpressions: {json.dumps(expressions)}}}
"""


def outcome(gateway: Gateway, request: Request) -> str:
    decision = gateway.explain(request)[-1]
    return f"{decision.effect} {decision.rule}"


GET, POST, PUT = "request.method == 'GET'", "request.method == 'POST'", "request.method == 'PUT'"
IN_A, IN_B = "request.path.startsWith('/a')", "request.path.startsWith('/b')"


@pytest.mark.parametrize(
    ("policies", "method", "target", "expected"),
    [
        # one expression suffices to allow or to deny; all have to hold to be required
        ([authz("p", ON_GATEWAY, GET, POST)], "POST", "/", "allow infra/p[1]"),
        ([authz("p", ON_GATEWAY, GET, POST)], "PUT", "/", "deny None"),
        ([authz("p", ON_GATEWAY, GET, POST, action="Allow")], "GET", "/", "allow infra/p[0]"),
        ([authz("p", ON_GATEWAY, GET, POST, action="Deny")], "POST", "/", "deny infra/p[1]"),
        ([authz("p", ON_GATEWAY, GET, POST, action="Deny")], "PUT", "/", "allow None"),
        ([authz("p", ON_GATEWAY, GET, IN_A, action="Require")], "GET", "/a", "allow None"),
        ([authz("p", ON_GATEWAY, GET, IN_A, action="Require")], "GET", "/b", "deny infra/p[1]"),
        # an error is a no, and in a Deny it denies
        ([authz("p", ON_GATEWAY, "jwt.sub == 'a'")], "GET", "/", "deny None"),
        ([authz("p", ON_GATEWAY, "jwt.sub == 'a'", action="Require")], "GET", "/", "deny infra/p[0]"),
        ([authz("p", ON_GATEWAY, "jwt.sub == 'a'", action="Deny")], "GET", "/", "deny infra/p[0]"),
        # several on one target
        ([authz("p", ON_GATEWAY, GET), authz("q", ON_GATEWAY, POST)], "POST", "/", "allow infra/q[0]"),
        ([authz("p", ON_ROUTE, GET), authz("q", ON_ROUTE, IN_A, action="Deny")], "GET", "/a", "deny apps/q[0]"),
        # on the Gateway and on the route: one evaluation
        ([authz("p", ON_GATEWAY, GET), authz("q", ON_ROUTE, POST)], "GET", "/", "allow infra/p[0]"),
        ([authz("p", ON_GATEWAY, GET), authz("q", ON_ROUTE, POST)], "POST", "/", "allow apps/q[0]"),
        ([authz("p", ON_GATEWAY, GET), authz("q", ON_ROUTE, POST)], "PUT", "/", "deny None"),
        ([authz("p", ON_GATEWAY, IN_B, action="Deny"), authz("q", ON_ROUTE, POST)], "POST", "/b", "deny infra/p[0]"),
        ([authz("p", ON_GATEWAY, GET), authz("q", ON_ROUTE, IN_A, action="Require")], "GET", "/", "deny apps/q[0]"),
        ([authz("p", ON_GATEWAY, GET), authz("p", ON_ROUTE, POST)], "POST", "/", "allow apps/p[0]"),
        # what is for another route says nothing here
        ([authz("p", ON_OTHER, "false")], "GET", "/", "allow None"),
        ([authz("p", ON_OTHER, "true", action="Deny"), authz("q", ON_GATEWAY, GET)], "GET", "/", "allow infra/q[0]"),
    ],
)
def test_rules_add_up(tmp_path: Path, policies: list[str], method: str, target: str, expected: str) -> None:
    gateway = load(tmp_path, ROUTE, OTHER_ROUTE, *policies)
    assert outcome(gateway, Request.http(method, target)) == expected


def test_one_policy_for_several_routes_counts_once_for_each(tmp_path: Path) -> None:
    ref = "{group: gateway.networking.k8s.io, kind: HTTPRoute, name: web}"
    policy = authz("p", ON_ROUTE, GET).replace(ref, f"{ref}, {ref}, {ref.replace('web', 'other')}")
    gateway = load(tmp_path, ROUTE, OTHER_ROUTE, policy)
    for host in ("localhost", "other.example"):
        assert outcome(gateway, Request.http("GET", host=host)) == "allow apps/p[0]"
        assert gateway.explain(Request.http("PUT", host=host))[-1].detail == "none of 1 allow rules matched"


def test_routes_of_one_document_share_their_rules(tmp_path: Path) -> None:
    gateway = load(tmp_path, ROUTE + "      matches: [{method: GET}, {method: PUT}]\n", authz("p", ON_ROUTE, GET))
    one, two = gateway.routes
    assert one.authorize == two.authorize != ()


def test_rules_know_who_was_authenticated(tmp_path: Path) -> None:
    secret = SECRET.replace(KEY, f"'{json.dumps({'key': KEY, 'metadata': {'group': 'eng'}})}'")
    gateway = load(tmp_path, ROUTE, secret, POLICY, authz("p", ON_GATEWAY, "apiKey.group == 'eng'"))
    assert outcome(gateway, Request.http(headers={"authorization": f"Bearer {KEY}"})) == "allow infra/p[0]"
    assert gateway.explain(Request.http())[-1].status == 401
    assert outcome(gateway, Request.http(api_key={"group": "ops"})) == "deny None"


def test_an_authentication_and_an_authorization_in_one_policy(tmp_path: Path) -> None:
    both = POLICY + "    authorization: {action: Require, policy: {matchExpressions: ['request.path == \"/a\"']}}\n"
    gateway = load(tmp_path, ROUTE, SECRET, both)
    assert gateway.explain(Request.http())[-1].status == 401
    assert outcome(gateway, Request.http(api_key={})) == "deny infra/auth[0]"


# -- faults ----------------------------------------------------------------------------------------------------------

P = "document 2 (AgentgatewayPolicy infra/p): "
A = P + "spec.traffic.authorization"
E = A + ".policy.matchExpressions"


def faults(folder: Path, *documents: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(folder, *documents)
    return [fault.removeprefix(f"{folder}/all.yaml: ") for fault in caught.value.faults]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (authz("p", ON_GATEWAY, "request.pth == '/'"), [
            E + "[0]: 1:9: undefined field 'pth' in 'request' (did you mean 'path'?)\n"
            "  request.pth == '/'\n          ^~~",
        ]),
        (authz("p", ON_GATEWAY, "true", "jwt.a &&", "1 + 1"), [
            E + "[1]: 1:9: unexpected end of the expression\n  jwt.a &&\n          ^",
            E + "[2]: 1:1: the expression is int, not bool\n  1 + 1\n  ^~~~~",
        ]),
        (authz("p", ON_GATEWAY, 'true && mcp.tool.name == "{x}"'), [
            E + "[0]: 1:9: mcp is not here: no protocol has been read when a traffic policy decides\n"
            '  true && mcp.tool.name == "{x}"\n          ^~~',
        ]),
        (authz("p", ON_GATEWAY, "basicAuth.username == 'a'"), [
            E + "[0]: 1:1: basicAuth is not here: agentgate has no basic authentication\n"
            "  basicAuth.username == 'a'\n  ^~~~~~~~~",
        ]),
        (authz("p", ON_GATEWAY), [E + ": List should have at least 1 item"]),
        (authz("p", ON_GATEWAY, *["true"] * 257), [E + ": List should have at most 256 items"]),
        (authz("p", ON_GATEWAY, ""), [E + "[0]: String should have at least 1 character"]),
        (authz("p", ON_GATEWAY, "true" + " " * 16381), [E + "[0]: String should have at most 16384 characters"]),
        (authz("p", ON_GATEWAY, "true", action="Permit"), [A + ".action: Input should be 'Allow', 'Deny' or"]),
        (authz("p", ON_GATEWAY, "true", action="allow"), [A + ".action: Input should be 'Allow', 'Deny' or"]),
        (authz("p", ON_GATEWAY, "true").replace('["true"]', "true"), [E + ": a list is expected"]),
        (authz("p", ON_GATEWAY, "true").replace('["true"]', '[true, "jwt &&"]'), [
            E + "[0]: text is expected",
            E + "[1]: 1:7: unexpected end of the expression",
        ]),
        (authz("p", ON_GATEWAY, "true").replace("policy: {m", "rules: {m"), [
            A + ".policy: required", A + ".rules: unknown field",
        ]),
        (authz("p", "infra Gateway gone", "false"), [P + "spec.targetRefs[0]: no HTTPRoute here names Gateway"]),
        (authz("p", "infra Gateway gone", "fals"), [
            E + "[0]: 1:1: undeclared name 'fals'", P + "spec.targetRefs[0]: no HTTPRoute here names Gateway",
        ]),
    ],
)  # fmt: skip
def test_every_fault_has_its_place(tmp_path: Path, policy: str, expected: list[str]) -> None:
    found = faults(tmp_path, ROUTE, policy)
    assert len(found) == len(expected)
    for fault, start in zip(found, expected, strict=True):
        assert fault.startswith(start)


def test_faults_of_several_documents_are_told_at_once(tmp_path: Path) -> None:
    policies = [authz("p", ON_GATEWAY, "jtw.sub == 'a'"), authz("q", "apps HTTPRoute gone", "true", "nope", "nope")]
    assert [fault.splitlines()[0].partition(": ")[2] for fault in faults(tmp_path, ROUTE, *policies)] == [
        "spec.traffic.authorization.policy.matchExpressions[0]: 1:1: undeclared name 'jtw' (did you mean 'jwt'?)",
        "spec.traffic.authorization.policy.matchExpressions[1]: 1:1: undeclared name 'nope'",
        "spec.traffic.authorization.policy.matchExpressions[2]: 1:1: undeclared name 'nope'",
        "spec.targetRefs[0]: there is no HTTPRoute apps/gone",
    ]


@pytest.mark.parametrize("name", ["mcp", "llm", "a2a", "backend"])
def test_what_is_not_known_yet_is_refused(name: str) -> None:
    """Though a rule in code may name it: there, it would fail, and a Deny deny everything."""
    (fault,) = expression_faults(f"has({name}.x)")
    assert f"1:5: {name} is not here: " in fault


@pytest.mark.parametrize("name", sorted(VARIABLES.keys() - {"mcp", "llm", "a2a", "backend"}))
def test_what_is_known_is_not(name: str) -> None:
    assert expression_faults(f"dyn({name}) == dyn(1)") == []
