"""AgentgatewayBackend documents: what they become, who may call what of them, and that no fault shows a credential."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from agentgate.errors import ConfigurationError
from agentgate.manifests import backends as made
from agentgate.protocols.mcp import MCP as MCPProtocol
from agentgate.protocols.mcp.sessions import Sessions
from agentgate.proxy.a2a import A2ABackend
from agentgate.proxy.backend import HTTPBackend
from agentgate.proxy.llm import LLMBackend
from agentgate.proxy.mcp import MCPBackend
from agentgate.request import Request
from agentgate.secret import Secret
from agentgate.testing import drive, http_scope

from .manifest_files import KEY, POLICY, ROUTE, SECRET, load
from .test_jwt import TOKEN, keys_in, policy

REF = "{group: agentgateway.dev, kind: AgentgatewayBackend, name: tools}"
AGENT_ROUTE = ROUTE.replace("{name: web, port: 80}", REF)
MCP = "mcp: {targets: [{name: t, static: {host: tools, port: 9000}}]}"
CREDENTIAL = "sk-not-to-be-shown"
LLM_KEY = f"""\
apiVersion: v1
kind: Secret
metadata: {{name: llm, namespace: apps}}
stringData: {{Authorization: Bearer {CREDENTIAL}}}
"""
AUTH = "policies: {auth: {secretRef: {name: llm}}}"


def backend(*spec: str) -> str:
    lines = "".join(f"  {line}\n" for line in spec)
    return (
        "apiVersion: agentgateway.dev/v1alpha1\nkind: AgentgatewayBackend\n"
        f"metadata: {{name: tools, namespace: apps}}\nspec:\n{lines}"
    )


PLAIN = backend("static: {host: a, port: 1}")


def about_tools(kind: str, name: str, *rules: str, action: str = "Allow", namespace: str = "apps") -> str:
    group = "agentgateway.dev" if kind == "AgentgatewayBackend" else "gateway.networking.k8s.io"
    said = f"{{action: {action}, policy: {{matchExpressions: {json.dumps(rules)}}}}}"
    return f"""\
apiVersion: agentgateway.dev/v1alpha1
kind: AgentgatewayPolicy
metadata: {{name: on-{kind.lower()}, namespace: {namespace}}}
spec:
  targetRefs: [{{group: {group}, kind: {kind}, name: {name}}}]
  backend: {{mcp: {{authorization: {said}}}}}
"""


@pytest.mark.parametrize(
    ("spec", "kind", "url"),
    [
        (["static: {host: web.example, port: 80}"], HTTPBackend, "http://web.example"),
        (["static: {host: web.example, port: 443}", "policies: {tls: {}}"], HTTPBackend, "https://web.example"),
        ([MCP], MCPBackend, "http://tools:9000/mcp"),
        ([MCP.replace("9000", "9000, path: /a")], MCPBackend, "http://tools:9000/a"),
        (["a2a: {host: agent, port: 8001}"], A2ABackend, "http://agent:8001"),
        (["ai: {provider: {openai: {}}}"], LLMBackend, "https://api.openai.com/v1"),
        (["ai: {provider: {anthropic: {}}}", AUTH], LLMBackend, "https://api.anthropic.com"),
        (["ai: {provider: {gemini: {}, host: g, port: 90}}"], LLMBackend, "http://g:90"),
        (["ai: {provider: {openai: {}, host: g, port: 90, pathPrefix: /x/}}"], LLMBackend, "http://g:90/x"),
    ],
)
def test_a_document_becomes_a_backend(tmp_path: Path, spec: list[str], kind: type[Any], url: str) -> None:
    gateway = load(tmp_path, AGENT_ROUTE, LLM_KEY, backend(*spec), public_url="https://gate.example")
    found: Any = gateway.routes[0].backend
    assert type(found) is kind
    assert str(found.providers[0].url if kind is LLMBackend else found.url) == url
    assert CREDENTIAL not in repr(gateway)
    if AUTH in spec:
        assert found.providers[0].credential.reveal() == CREDENTIAL


NOT = "not supported by this version"


@pytest.mark.parametrize(
    ("documents", "expected"),
    [
        ([backend(MCP, "static: {host: a, port: 1}")], "spec: exactly one of static, mcp, ai, a2a, aws"),
        ([backend(MCP.replace("[{", "[{name: t, static: {host: a, port: 1}}, {"))], "targets[1].name: target names"),
        ([backend(MCP.replace("[{", "[{name: A, static: {host: a, port: 1}}, {"))], "spec.mcp.targets[0].name: "),
        ([backend(MCP.replace("[{", "[{name: 1a, static: {host: a, port: 1}}, {"))], "spec: target '1a' is not"),
        ([backend(MCP.replace("9000", "9000, protocol: SSE"))], f"static.protocol: SSE is {NOT}"),
        ([backend(MCP, "policies: {auth: {secretRef: {name: llm}}}")], f"for another backend than ai it is {NOT}"),
        ([backend("ai: {provider: {bedrock: {}}}")], f"spec.ai.provider.bedrock: {NOT}"),
        ([backend("ai: {provider: {openai: {model: x}}}")], f"spec.ai.provider.openai.model: {NOT}"),
        ([backend("ai: {provider: {openai: {}, host: a}}")], "spec.ai.provider: host and port are set together"),
        ([backend("ai: {provider: {openai: {}}}", "policies: {auth: {secretRef: {name: gone}}}")], "Secret apps/gone"),
        ([backend("static: {host: a, port: 443}")], "spec.static.port: 443 is a port of https: say so"),
        ([backend("a2a: {host: a, port: 443}")], "spec.a2a.port: 443 is a port of https"),
        ([backend(MCP.replace("9000", "443"))], "spec.mcp.targets[0].static.port: 443 is a port of https"),
        ([backend("ai: {provider: {openai: {}, host: a, port: 443}}", AUTH)], "spec.ai.provider.port: 443 is a port"),
        ([backend("static: {host: 'a/b', port: 1}")], "spec.static.host: a lower-case host name"),
        ([backend("a2a: {host: a, port: 1}")], "clients of apps/tools have to be told where this route is"),
        ([], "spec.rules[0].backendRefs[0]: there is no AgentgatewayBackend apps/tools"),
        ([backend(MCP), about_tools("HTTPRoute", "web", 'llm.x == "y"')], "matchExpressions[0]: 1:1: llm is not here"),
        ([PLAIN, about_tools("HTTPRoute", "web", "true")], "web has nothing that speaks"),
        ([PLAIN, about_tools("Gateway", "gw", "true", namespace="infra")], "gw has noth"),
        ([PLAIN, about_tools("AgentgatewayBackend", "tools", "true")], "tools has noth"),
        ([backend(MCP), about_tools("AgentgatewayBackend", "gone", "true")], "no AgentgatewayBackend apps/gone"),
    ],
)  # fmt: skip
def test_faults(tmp_path: Path, documents: list[str], expected: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, AGENT_ROUTE, LLM_KEY, *documents)
    assert any(expected in fault for fault in caught.value.faults), caught.value.faults
    assert CREDENTIAL not in str(caught.value)


@pytest.mark.parametrize("entry", ["Other: abc", "Authorization: 'Bearer '", "Authorization: 'sk-two words'"])
def test_a_credential_that_is_none_is_a_fault_and_is_not_shown(tmp_path: Path, entry: str) -> None:
    secret = LLM_KEY.replace(f"Authorization: Bearer {CREDENTIAL}", entry)
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, AGENT_ROUTE, secret, backend("ai: {provider: {openai: {}}}", AUTH))
    assert len(caught.value.faults) == 1
    assert "two words" not in str(caught.value)


GET_ONLY = 'mcp.tool.name.startsWith("get_")'


@pytest.mark.parametrize(
    ("policies", "tool", "effect"),
    [
        ([about_tools("AgentgatewayBackend", "tools", GET_ONLY)], "get_user", "allow"),
        ([about_tools("AgentgatewayBackend", "tools", GET_ONLY)], "drop_table", "deny"),
        ([about_tools("HTTPRoute", "web", GET_ONLY)], "drop_table", "deny"),
        ([about_tools("Gateway", "gw", GET_ONLY, namespace="infra")], "drop_table", "deny"),
        ([about_tools("HTTPRoute", "web", GET_ONLY), about_tools("AgentgatewayBackend", "tools", "true")], "x",
         "allow"),
        ([about_tools("HTTPRoute", "web", GET_ONLY, action="Deny")], "get_user", "deny"),
        ([about_tools("HTTPRoute", "web", 'mcp.tool.name == jwt.x', action="Deny")], "get_user", "deny"),
        ([about_tools("HTTPRoute", "web", "true").replace("  backend", "  traffic: {authorization: {policy: "
          "{matchExpressions: ['request.path == \"/no\"']}}}\n  backend")], "get_user", "deny"),
    ],
)  # fmt: skip
def test_who_may_call_what(tmp_path: Path, policies: list[str], tool: str, effect: str) -> None:
    gateway = load(tmp_path, AGENT_ROUTE, backend(MCP), *policies)
    assert gateway.explain(Request.tool(tool))[-1].effect == effect


@pytest.mark.anyio
async def test_a_caller_sees_and_calls_what_the_documents_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        message = json.loads(request.content)
        tools = [{"name": name, "inputSchema": {"type": "object"}} for name in ("get_user", "drop_table")]
        result = {"tools": tools} if message["method"] == "tools/list" else {"content": []}
        return httpx.Response(200, json={"jsonrpc": "2.0", "id": message["id"], "result": result})

    monkeypatch.setattr(made, "MCPBackend", lambda url, **_: MCPBackend(url, transport=httpx.MockTransport(answer)))
    rules = about_tools("AgentgatewayBackend", "tools", GET_ONLY)
    gateway = load(tmp_path, AGENT_ROUTE, SECRET, POLICY, backend(MCP), rules)

    async def call(key: str, method: str, **params: str) -> tuple[int | None, str]:
        headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
        headers["accept"] = "application/json, text/event-stream"
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        answered = await drive(gateway, http_scope("POST", "/mcp", headers=headers), body=body)
        return answered.status, answered.text

    assert (await call("nobody", "tools/list"))[0] == 401
    assert asked == []
    status, text = await call(KEY, "tools/list")
    assert (status, "get_user" in text, "drop_table" in text) == (200, True, False)
    assert (await call(KEY, "tools/call", name="get_user"))[0] == 200
    assert len(asked) == 2
    assert "Unknown tool: drop_table" in (await call(KEY, "tools/call", name="drop_table"))[1]
    assert len(asked) == 2
    assert all("authorization" not in request.headers for request in asked)


@pytest.mark.parametrize(("model", "effect"), [("small", "allow"), ("big", "deny")])
def test_a_key_is_good_for_the_models_that_it_says(tmp_path: Path, model: str, effect: str) -> None:
    gateway = load(tmp_path, AGENT_ROUTE, backend("ai: {provider: {openai: {}}}"))
    decision = gateway.explain(Request.model(model, api_key={"allowedModels": ["small"]}))[-1]
    assert decision.effect == effect
    assert gateway.explain(Request.model(model, api_key={}))[-1].effect == "allow"


@pytest.mark.parametrize(
    ("tool", "effect"), [("docs_get_page", "allow"), ("docs_drop_table", "deny"), ("tickets_get_page", "deny")]
)
def test_rules_know_the_targets_of_a_federation(tmp_path: Path, tool: str, effect: str) -> None:
    two = "mcp: {targets: [{name: docs, static: {host: a, port: 1}}, {name: tickets, static: {host: b, port: 1}}]}"
    rules = about_tools("AgentgatewayBackend", "tools", f'mcp.tool.target == "docs" && {GET_ONLY}')
    gateway = load(tmp_path, AGENT_ROUTE, backend(two), rules)
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool}}).encode()
    request = Request.http("POST", "/mcp", headers={"content-type": "application/json"}, body=body)
    assert gateway.explain(request)[-1].effect == effect


STACKS = [
    pytest.param([POLICY], {"authorization": f"Bearer {KEY}"}, id="a key"),
    pytest.param(
        [policy(), keys_in("x-key")], {"authorization": f"Bearer {TOKEN}", "x-key": KEY}, id="a token and a key"
    ),
]


@pytest.mark.parametrize(("wanted", "headers"), STACKS)
def test_rules_know_what_the_backend_is(tmp_path: Path, wanted: list[str], headers: dict[str, str]) -> None:
    rules = about_tools("HTTPRoute", "web", 'backend.type == "mcp" && backend.protocol == "mcp"')
    gateway = load(tmp_path, AGENT_ROUTE, SECRET, *wanted, backend(MCP), rules)
    assert gateway.explain(Request.tool("x", headers=headers))[-1].rule == "apps/on-httproute/mcp[0]"


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["{value: /a}", "{type: Exact, value: /a/.well-known/agent-card.json}"])
@pytest.mark.parametrize(("wanted", "headers"), STACKS)
async def test_a_card_leads_to_the_gateway_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: list[str], headers: dict[str, str], path: str
) -> None:
    card = {"protocolVersion": "0.3.0", "name": "a", "url": "http://agent:1/"}
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json=card))
    monkeypatch.setattr(made, "A2ABackend", lambda url: A2ABackend(url, transport=transport))
    route = AGENT_ROUTE.replace("- backendRefs", f"- matches: [{{path: {path}}}]\n      backendRefs")
    documents = (route, SECRET, *wanted, backend("a2a: {host: agent, port: 1}"))
    gateway = load(tmp_path, *documents, public_url="https://gate.example")
    answered = await drive(gateway, http_scope("GET", "/a/.well-known/agent-card.json", headers=headers))
    assert answered.status == 200
    assert json.loads(answered.text)["url"] == "https://gate.example/a/"


def test_replicas_with_one_key_know_each_other_s_sessions_but_no_server_those_of_another(tmp_path: Path) -> None:
    other = backend(MCP).replace("name: tools,", "name: others,")
    route = AGENT_ROUTE.replace("name: web,", "name: rest,").replace("name: tools}", "name: others}")

    def replica(key: str) -> dict[str, Sessions]:
        gateway = load(tmp_path, AGENT_ROUTE, route, SECRET, backend(MCP), other, session_key=Secret(key))
        protocols = {one.name: one.backend.protocol for one in gateway.routes}
        return {name: protocol._sessions for name, protocol in protocols.items() if isinstance(protocol, MCPProtocol)}

    one, another, stranger = replica(KEY), replica(KEY), replica(KEY[::-1])
    sealed = one["apps/web"].seal(b"session", b"alice")
    assert another["apps/web"].unseal(sealed, b"alice") == b"session"
    assert another["apps/rest"].unseal(sealed, b"alice") is None
    assert stranger["apps/web"].unseal(sealed, b"alice") is None
