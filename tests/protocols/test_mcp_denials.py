"""How MCP says no: clients live on, and learn nothing; the log is told all of it."""

import json
from typing import Any

import pytest

from agentgate import MCP, APIKeyAuth, CELRules, Decision, Gate, Reason, Request, authorizer, deny, new_key
from agentgate.observe.fields import fields
from agentgate.testing import Recorder

from .mcp_messages import LEGACY, MODERN, Server, error_of, gated, message, modern, send

pytestmark = pytest.mark.anyio

RULES = CELRules(
    allow={"tools": 'mcp.tool.name == "add"', "prompts": 'mcp.prompt.name == "hi"', "ping": 'mcp.methodName != "ping"'},
    deny={"nobody drops": 'has(mcp.tool) && mcp.tool.name == "drop"', "no GET": 'mcp.methodName in ["GET", "DELETE"]'},
    require={"known": "!has(mcp.task)", "public": '!has(mcp.resource) || mcp.resource.name.startsWith("file:///pub/")'},
)
HIDDEN: dict[str, tuple[str, dict[str, Any], str]] = {
    "a tool": ("tools/call", {"name": "drop"}, "Unknown tool: drop"),
    "a prompt": ("prompts/get", {"name": "bye"}, "Unknown prompt: bye"),
    "a resource": ("resources/read", {"uri": "file:///s"}, "Unknown resource: file:///s"),
    "a task": ("tasks/get", {"taskId": "t"}, "Unknown task: t"),
    "what completion is about": (
        "completion/complete",
        {"ref": {"type": "ref/resource", "uri": "file:///{a}"}},
        "Unknown resource: file:///{a}",
    ),
}
NAMES_ONLY = CELRules(
    allow=['mcp.tool.name == "add" || mcp.prompt.name == "hi" || mcp.resource.name == "file:///pub/a"']
)


@pytest.mark.parametrize("name", HIDDEN)
async def test_what_is_forbidden_looks_like_what_is_not_there(name: str) -> None:
    method, params, text = HIDDEN[name]
    server, recorder = Server(), Recorder()
    gate = gated(server, authorize=[NAMES_ONLY], observe=[recorder])
    for id in (7, "seven", ""):
        exchange = await send(gate, message(method, params, id=id))
        assert (exchange.status, error_of(exchange)) == (200, (-32602, text))
        assert json.loads(exchange.body)["id"] == id
        exchange = await send(gate, message(method, params, id=id), {"mcp-protocol-version": LEGACY})
        assert (exchange.status, error_of(exchange)) == (200, (-32602, text))
        exchange = await send(gate, *modern(method, params, id=id))
        assert (exchange.status, error_of(exchange)) == (400, (-32602, text))
        assert json.loads(exchange.body)["id"] == id
    assert server.asked == []
    assert (recorder.last.error, recorder.last.reason) == (f"mcp: {text}", Reason.MCP)


async def test_the_log_tells_forbidden_from_unknown() -> None:
    recorder = Recorder()
    gate = gated(Server(), authorize=[RULES], observe=[recorder])
    await send(gate, message("tools/call", {"name": "drop"}))
    line = fields(recorder.last)
    assert (line["error"], line["reason"], line["rule"]) == ("mcp: Unknown tool: drop", "MCP", "nobody drops")
    assert (line["mcp.method.name"], line["gen_ai.tool.name"]) == ("tools/call", "drop")


@pytest.mark.parametrize("body", [message("tools/call", {"name": "drop"}, id=...), message("tools/drop", id=...)])
async def test_nobody_waits_for_the_answer_to_a_notification(body: Any) -> None:
    server, recorder = Server(), Recorder()
    gate = gated(server, authorize=[NAMES_ONLY], observe=[recorder])
    exchange = await send(gate, body)
    assert (exchange.status, exchange.body, server.asked) == (202, b"", [])
    assert recorder.last.error is not None
    method = body["method"]
    exchange = await send(gate, *modern(method, body.get("params"), id=...))
    assert exchange.status == (400 if method == "tools/call" else 404)
    assert json.loads(exchange.body)["id"] is None
    assert server.asked == []


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_stream_or_an_end_that_is_forbidden_is_an_http_refusal(method: str) -> None:
    server, recorder = Server(), Recorder()
    gate = gated(server, authorize=[RULES], observe=[recorder])
    exchange = await send(gate, method=method)
    assert (exchange.status, exchange.text, server.asked) == (403, "authorization failed", [])
    assert recorder.last.details == {}


async def test_a_method_that_everybody_has_is_forbidden_in_plain_words() -> None:
    gate = gated(Server(), authorize=[CELRules(deny=['mcp.methodName == "initialize"'])])
    exchange = await send(gate, message("initialize", {}))
    assert (exchange.status, error_of(exchange)) == (200, (-32600, "authorization failed"))
    gate = gated(Server(), authorize=[CELRules(deny=['mcp.methodName == "tools/list"'])])
    exchange = await send(gate, *modern("tools/list"))
    assert (exchange.status, error_of(exchange)) == (403, (-32600, "authorization failed"))


def denying(**options: Any) -> Gate:
    @authorizer
    def policy(request: Request) -> Decision:
        return deny(**options)

    return gated(Server(), authorize=[policy], observe=[RECORDER])


RECORDER = Recorder()
CALL = {"name": "add"}


@pytest.mark.parametrize(
    ("denial", "error", "status"),
    [
        ({"message": "closed", "code": "closed"}, (-32600, "closed"), 403),
        ({"message": "closed"}, (-32602, "Unknown tool: add"), 400),  # whatever a plain no says, it is hidden
        (
            {"message": "rate limit exceeded", "status": 429, "code": "rate_limited"},
            (-32600, "rate limit exceeded"),
            429,
        ),
        ({"message": "internal error", "status": 500, "code": "policy_error"}, (-32603, "internal error"), 500),
        ({"message": "later", "status": 503, "code": "later"}, (-32603, "later"), 503),
    ],
)
async def test_other_denials_say_what_they_say(denial: Any, error: Any, status: int) -> None:
    denial["headers"] = ((b"retry-after", b"7"), (b"Content-Type", b"text/html"))
    gate = denying(**denial)
    exchange = await send(gate, message("tools/call", CALL))
    assert (exchange.status, error_of(exchange), exchange.headers["retry-after"]) == (200, error, "7")
    exchange = await send(gate, *modern("tools/call", CALL))
    assert (exchange.status, error_of(exchange), exchange.headers["retry-after"]) == (status, error, "7")


@pytest.mark.parametrize(
    "denial",
    [
        {"message": "more scope", "code": "insufficient_scope"},
        {"message": "log in", "status": 401, "code": "log_in"},
        {"message": "step up", "headers": ((b"WWW-Authenticate", b'Bearer error="insufficient_scope"'),)},
    ],
)
async def test_a_challenge_stays_an_http_refusal(denial: Any) -> None:
    for body, headers in ((message("tools/call", CALL), {}), modern("tools/call", CALL)):
        exchange = await send(denying(**denial), body, headers)
        assert (exchange.status, exchange.text) == (denial.get("status", 403), denial["message"])


KEY = new_key()


async def test_who_is_not_known_gets_a_401_as_ever() -> None:
    server, recorder = Server(), Recorder()
    gate = gated(server, authenticate=[APIKeyAuth({"alice": KEY})], authorize=[RULES], observe=[recorder])
    for body, headers in ((message("tools/call", CALL), {}), modern("tools/call", CALL), (b"", {}), (b"{", {})):
        exchange = await send(gate, body, headers)
        assert (exchange.status, exchange.text) == (401, "api key authentication failure: no API Key found")
        assert exchange.headers["www-authenticate"] == "Bearer"
    assert (await send(gate, method="GET")).status == 401
    assert server.asked == []
    assert recorder.last.reason == Reason.API_KEY_AUTH


async def test_what_the_edge_refuses_is_an_http_refusal() -> None:
    exchange = await send(gated(Server(), authorize=[RULES]), message("ping"), target="/a/../mcp")
    assert (exchange.status, exchange.text) == (400, "invalid request: the path has a dot segment")


LOGGED: dict[str, tuple[Any, dict[str, Any]]] = {
    "a tool": (message("tools/call", CALL), {"mcp.resource.type": "tool", "gen_ai.tool.name": "add"}),
    "a prompt": (message("prompts/get", CALL), {"mcp.resource.type": "prompt", "gen_ai.prompt.name": "add"}),
    "a resource": (
        message("resources/read", {"uri": "file:///a"}),
        {"mcp.resource.type": "resource", "mcp.resource.uri": "file:///a"},
    ),
    "a task": (message("tasks/get", {"taskId": "t"}), {"mcp.resource.type": "task"}),
    "a list": (message("tools/list"), {"mcp.resource.type": "tool"}),
    "a list of templates": (message("resources/templates/list"), {"mcp.resource.type": "templates"}),
    "none of them": (message("ping"), {}),
}


@pytest.mark.parametrize("name", LOGGED)
@pytest.mark.parametrize("allowed", [True, False])
async def test_what_the_log_is_told(name: str, allowed: bool) -> None:
    """Of a call that is refused as much as of one that is not."""
    body, details = LOGGED[name]
    recorder = Recorder()
    gate = gated(Server(), authorize=[CELRules(allow=["true" if allowed else "false"])], observe=[recorder])
    await send(gate, body)
    assert recorder.last.details == {"mcp.method.name": body["method"], **details}
    assert recorder.last.protocol == "mcp"


async def test_the_error_of_the_server_is_logged() -> None:
    answer = {"jsonrpc": "2.0", "id": 1, "error": {"code": -32000, "message": "out of order"}}
    recorder = Recorder()
    gate = gated(Server(answer), authorize=[CELRules(allow=["true"])], observe=[recorder])
    exchange = await send(gate, message("ping"))
    assert json.loads(exchange.body) == answer
    assert recorder.last.details["mcp.error.code"] == -32000
    assert recorder.last.details["mcp.error.message"] == "out of order"
    for odd in ({"code": "x", "message": "y"}, {"code": 1}, "no"):
        gate = gated(Server({**answer, "error": odd}), authorize=[CELRules(allow=["true"])], observe=[recorder])
        await send(gate, message("ping"))
        assert "mcp.error.code" not in recorder.last.details


def test_the_target_of_a_federated_call_is_logged() -> None:
    from agentgate.call import Call
    from agentgate.protocols.mcp.protocol import details_of

    assert details_of(Call("mcp", "tools/call", tool="add", target="maths"), None)["mcp.target"] == "maths"


async def test_explain_tells_which_rule_it_was() -> None:
    gate = Gate(authorize=[RULES], protocol=MCP())
    assert gate.explain(Request.tool("drop"))[-1].rule == "nobody drops"
    body = json.dumps(message("tools/call", {"name": "drop"})).encode()
    request = Request.http("POST", "/mcp", headers={"content-type": "application/json"}, body=body)
    assert gate.explain(request)[-1].rule == "nobody drops"
    assert gate.explain(Request.http("POST", "/mcp", body=b""))[-1].status == 415
    assert MODERN not in repr(gate)


def test_a_server_that_did_not_answer_is_an_error_of_the_call() -> None:
    """What the backend says, under the id that the client waits for."""
    failed = deny("upstream call failed", status=503, reason=Reason.UPSTREAM_FAILURE, policy="forward")
    body = b'{"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "add"}}'
    said = MCP().refuse(failed, Request.http("POST", "/mcp", body=body))
    assert (said.status, said.message, said.reason) == (503, "upstream call failed", Reason.UPSTREAM_FAILURE)
    assert said.body is not None
    answer = json.loads(said.body)
    assert (answer["id"], answer["error"]["code"]) == (7, -32603)
