"""`Gate(protocol="auto")`: a guess for the log, by which nothing is decided."""

import json
from typing import Any

import pytest

from agentgate import A2A, LLM, MCP, Authorizer, CELRules, ConfigurationError, Decision, Gate, Request, allow
from agentgate.protocols import protocol_of
from agentgate.protocols.guess import MAX_BYTES
from agentgate.testing import Recorder, drive, http_scope, websocket_scope

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/json"}


async def app(scope: Any, receive: Any, send: Any) -> None:
    more = scope["type"] == "http"
    while more:
        more = (await receive()).get("more_body", False)
    if scope["type"] == "websocket":
        await send({"type": "websocket.close"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


def rpc(method: str, **params: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()


@pytest.mark.parametrize(
    ("target", "headers", "body", "protocol", "details"),
    [
        (
            "/mcp",
            {},
            rpc("tools/call", name="add"),
            "mcp",
            {"mcp.method.name": "tools/call", "mcp.resource.type": "tool", "gen_ai.tool.name": "add"},
        ),
        ("/mcp", {}, rpc("initialize"), "mcp", {"mcp.method.name": "initialize"}),
        ("/mcp", {}, rpc("completion/complete", ref={"type": "x"}), "mcp", {}),
        (
            "/mcp",
            {"mcp-protocol-version": "2026-07-28"},
            rpc("server/discover"),
            "mcp",
            {"mcp.method.name": "server/discover"},
        ),
        ("/mcp", {"mcp-session-id": "s"}, b"", "mcp", {}),
        ("/mcp", {}, rpc("tools/call", name=7), "mcp", {}),
        ("/", {"a2a-version": "1.0"}, rpc("SendMessage"), "a2a", {"a2a.method": "SendMessage"}),
        ("/", {}, rpc("message/send"), "a2a", {"a2a.method": "SendMessage"}),
        ("/", {"a2a-version": "0.3"}, rpc("tasks/get", id="t"), "a2a", {"a2a.method": "GetTask"}),
        ("/", {"a2a-version": "1.0"}, rpc("ping"), "a2a", {}),
        ("/x/.well-known/agent-card.json", {}, b"", "a2a", {}),
        (
            "/v1/chat/completions",
            {},
            b'{"model": "gpt-4o"}',
            "llm",
            {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o"},
        ),
        ("/v1/chat/completions", {}, b"{", "llm", {}),
        ("/v1/chat/completions", {}, b'{"Model": "a", "model": "b"}', "llm", {}),
        ("/", {}, rpc("vendor/method"), "http", {}),
        ("/", {}, b'{"a": 1}', "http", {}),
        ("/", {}, b"[]", "http", {}),
        ("/", {}, b"\xff", "http", {}),
        ("/", {}, b"", "http", {}),
        ("/mcp", {}, rpc("tools/call", name="a" * MAX_BYTES), "http", {}),
    ],
)
async def test_the_log_is_told(
    target: str, headers: dict[str, str], body: bytes, protocol: str, details: dict[str, Any]
) -> None:
    recorder = Recorder()
    gate = Gate(app, observe=[recorder], protocol="auto")
    exchange = await drive(gate, http_scope("POST", target, headers={**JSON, **headers}), body=[body[:9], body[9:]])
    assert (exchange.status, exchange.text) == (200, "ok")
    assert recorder.last.protocol == protocol
    assert {key: recorder.last.details.get(key) for key in details} == details
    assert bool(recorder.last.details) == bool(details)


async def test_no_rule_relies_on_it() -> None:
    for rules in (CELRules(allow=["mcp.tool.name == 'add'"]), CELRules(deny=["mcp.tool.name == 'drop'"])):
        gate = Gate(app, authorize=[rules], protocol="auto")
        scope = http_scope("POST", "/mcp", headers=JSON)
        assert (await drive(gate, scope, body=rpc("tools/call", name="add"))).status == 403


async def test_with_a_policy_that_reads_the_body() -> None:
    class Reads(Authorizer):
        reads_body = True

        def check(self, request: Request) -> Decision:
            assert request.call is None
            return allow()

    recorder = Recorder()
    gate = Gate(app, authorize=[Reads()], observe=[recorder], protocol="auto")
    await drive(gate, http_scope("POST", "/mcp", headers=JSON), body=rpc("ping"))
    assert recorder.last.details == {"mcp.method.name": "ping"}


async def test_what_comes_after_the_body_is_passed_on() -> None:
    heard: list[str] = []

    async def waiting(scope: Any, receive: Any, send: Any) -> None:
        heard.append((await receive())["type"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})
        heard.append((await receive())["type"])

    gate = Gate(waiting, observe=[Recorder()], protocol="auto")
    await drive(gate, http_scope("POST", "/mcp", headers=JSON), body=rpc("ping"))
    assert heard == ["http.request", "http.disconnect"]


async def test_a_websocket_is_left_alone() -> None:
    recorder = Recorder()
    assert (await drive(Gate(app, observe=[recorder], protocol="auto"), websocket_scope())).close_code == 1000
    assert recorder.last.protocol == "http"


def test_protocols_by_name() -> None:
    assert [type(protocol_of(name)) for name in ("mcp", "llm", "a2a")] == [MCP, LLM, A2A]
    assert protocol_of(None) is protocol_of("auto") is None
    spoken = MCP()
    assert protocol_of(spoken) is spoken
    with pytest.raises(ConfigurationError, match="protocol is one of mcp, llm, a2a, auto, or a Protocol, not 'grpc'"):
        Gate(app, observe=[Recorder()], protocol="grpc")  # type: ignore[arg-type]


async def test_a_protocol_by_name_is_the_one() -> None:
    gate = Gate(app, authorize=[CELRules(allow=["mcp.tool.name == 'add'"])], protocol="mcp")
    scope = http_scope("POST", "/mcp", headers=JSON)
    denied = await drive(gate, scope, body=rpc("tools/call", name="drop"))
    assert json.loads(denied.body)["error"]["message"] == "Unknown tool: drop"
