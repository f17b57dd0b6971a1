"""A2A calls behind a Gate: what is denied is said as clients know it, and what is allowed goes on as it came."""

import json
from typing import Any

import pytest

from agentgate import A2A, CELRules, Decision, Gate, Request, authorizer, deny
from agentgate.testing import Recorder, drive, http_scope

from .test_a2a_requests import CALL_BACK, HELLO, JSON, rpc

pytestmark = pytest.mark.anyio


class Agent:
    asked = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked += 1
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": b'{"jsonrpc": "2.0", "id": 7, "result": {}}'})


RULES = CELRules(
    allow=['a2a.method in ["SendMessage", "GetTask", "GetAgentCard", "GetExtendedAgentCard"]'],
    deny=['has(a2a.taskId) && a2a.taskId == "secret"'],
)


def details(reason: str) -> list[dict[str, Any]]:
    return [
        {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": reason,
            "domain": "a2a-protocol.org",
            "metadata": {},
        }
    ]


NOT_FOUND = {"code": -32001, "message": "Task not found", "data": details("TASK_NOT_FOUND")}


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (rpc("GetTask", {"id": "secret"}), NOT_FOUND),
        (rpc("tasks/get", {"id": "secret"}), {"code": -32001, "message": "Task not found"}),
        (rpc("CancelTask", {"id": "mine"}), NOT_FOUND),
        (
            rpc("SendMessage", {"message": {**HELLO, "taskId": "secret"}}),
            {**NOT_FOUND, "message": "Task secret not found"},
        ),
        (
            rpc("SendStreamingMessage", {"message": HELLO}),
            {"code": -32004, "message": "authorization failed", "data": details("UNSUPPORTED_OPERATION")},
        ),
        (
            rpc("message/stream", {"message": HELLO}),
            {"code": -32004, "message": "authorization failed"},
        ),
        (
            rpc("tasks/nudge", {"id": "t"}),
            {"code": -32601, "message": "Method not found", "data": details("METHOD_NOT_FOUND")},
        ),
    ],
)
async def test_a_denied_call_is_an_error_that_clients_of_json_rpc_know(body: bytes, error: Any) -> None:
    agent, recorder = Agent(), Recorder()
    gate = Gate(agent, authorize=[RULES], observe=[recorder], protocol=A2A())
    exchange = await drive(gate, http_scope("POST", "/", headers=JSON), body=body)
    assert (exchange.status, exchange.headers["content-type"], agent.asked) == (200, "application/json", 0)
    assert json.loads(exchange.body) == {"jsonrpc": "2.0", "id": 7, "error": error}
    record = recorder.last
    assert (record.protocol, record.error, record.reason) == ("a2a", error["message"], "Authorization")
    assert record.details["a2a.method"]
    assert record.refusal is not None
    assert record.refusal.detail


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "error"),
    [
        ("GET", "/tasks/secret", b"", 404, ("NOT_FOUND", "Task not found", "TASK_NOT_FOUND")),
        ("POST", "/tasks/mine:cancel", b"", 404, ("NOT_FOUND", "Task not found", "TASK_NOT_FOUND")),
        ("GET", "/tasks", b"", 403, ("PERMISSION_DENIED", "authorization failed", "UNSUPPORTED_OPERATION")),
        ("GET", "/v1/tasks/secret", b"", 404, ("NOT_FOUND", "Task not found", "TASK_NOT_FOUND")),
    ],
)
async def test_a_denied_call_is_a_status_that_clients_of_rest_know(
    method: str, target: str, body: bytes, status: int, error: tuple[str, str, str]
) -> None:
    agent = Agent()
    gate = Gate(agent, authorize=[RULES], protocol=A2A())
    exchange = await drive(gate, http_scope(method, target), body=body)
    assert (exchange.status, agent.asked) == (status, 0)
    code, message, reason = error
    assert json.loads(exchange.body) == {
        "error": {"code": status, "status": code, "message": message, "details": details(reason)}
    }


async def test_what_is_allowed_goes_on_as_it_came() -> None:
    agent, recorder = Agent(), Recorder()
    gate = Gate(agent, authorize=[RULES], observe=[recorder], protocol=A2A())
    for method, target, body in (
        ("POST", "/", rpc("GetTask", {"id": "mine"})),
        ("GET", "/tasks/mine", b""),
        ("GET", "/.well-known/agent-card.json", b""),
        ("POST", "/", rpc("GetExtendedAgentCard")),
    ):
        exchange = await drive(gate, http_scope(method, target, headers=JSON if body else {}), body=body)
        assert (exchange.status, exchange.body) == (200, b'{"jsonrpc": "2.0", "id": 7, "result": {}}')
    assert agent.asked == 4
    assert recorder.last.details == {"a2a.method": "GetExtendedAgentCard", "a2a.response.outcome": "success"}


async def test_a_rule_against_being_called_back_is_not_passed_by() -> None:
    rules = CELRules(allow=['a2a.method == "SendMessage"'])
    gate = Gate(Agent(), authorize=[rules], protocol=A2A(push_notifications=True))
    for configuration, code in (({}, None), ({"pushNotificationConfig": CALL_BACK}, -32004)):
        body = rpc("SendMessage", {"message": HELLO, "configuration": configuration})
        exchange = await drive(gate, http_scope("POST", "/", headers=JSON), body=body)
        assert json.loads(exchange.body).get("error", {}).get("code") == code


@pytest.mark.parametrize(
    ("scope", "body", "status", "answer"),
    [
        (http_scope("POST", "/", headers=JSON), b"{", 200, {"jsonrpc": "2.0", "id": None, "error": -32700}),
        (
            http_scope("POST", "/", headers=JSON),
            b'{"id": 1, "id": 2}',
            200,
            {"jsonrpc": "2.0", "id": None, "error": -32700},
        ),
        (http_scope("POST", "/", headers={"content-type": "text/plain"}), rpc("GetTask", {"id": "t"}), 415, None),
        (http_scope("POST", "/", headers={}), rpc("GetTask", {"id": "t"}), 415, None),
        (http_scope("POST", "/", headers={**JSON, "content-encoding": "gzip"}), b"x", 415, None),
        (http_scope("POST", "/", headers=JSON), b" " * (2 * 1024 * 1024 + 1), 413, None),
        (http_scope("POST", "/message:send", headers=JSON), b"{", 400, {"error": 400}),
        (http_scope("POST", "/message:send", headers={"content-type": "text/plain"}), b"{}", 415, {"error": 415}),
        (
            http_scope("GET", "/tasks/t", headers=[(b"a2a-version", b"1.0"), (b"a2a-version", b"0.3")]),
            b"",
            400,
            {"error": 400},
        ),
        (http_scope("GET", "/.well-known/agent-card.json", headers=[(b"a2a-version", b"1.0")] * 2), b"", 400, None),
    ],
)
async def test_refusals_before_the_call(scope: Any, body: bytes, status: int, answer: Any) -> None:
    agent = Agent()
    gate = Gate(agent, authorize=[RULES], protocol=A2A())
    exchange = await drive(gate, scope, body=body)
    assert (exchange.status, agent.asked) == (status, 0)
    if answer is None:
        assert exchange.headers["content-type"] == "text/plain"
    else:
        found = json.loads(exchange.body)
        assert {**found, "error": found["error"]["code"]} == answer


async def test_denials_that_are_about_http_stay_what_they_are() -> None:
    @authorizer
    def limited(request: Request) -> Decision:
        return deny("slow down", status=429, headers=((b"retry-after", b"3"),))

    gate = Gate(Agent(), authorize=[limited], protocol=A2A())
    exchange = await drive(gate, http_scope("POST", "/", headers=JSON), body=rpc("GetTask", {"id": "t"}))
    assert (exchange.status, exchange.headers["retry-after"]) == (429, "3")
    assert json.loads(exchange.body) == {
        "jsonrpc": "2.0",
        "id": 7,
        "error": {"code": -32600, "message": "slow down"},
    }
    exchange = await drive(gate, http_scope("GET", "/tasks/t"))
    assert (exchange.status, exchange.headers["retry-after"]) == (429, "3")
    assert json.loads(exchange.body) == {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "slow down"}}
    exchange = await drive(gate, http_scope("GET", "/.well-known/agent-card.json"))
    assert (exchange.status, exchange.text) == (429, "slow down")


async def test_a_fault_of_the_gateway_is_no_answer_to_the_call() -> None:
    later = authorizer(lambda request: deny("later", status=503))
    gate = Gate(Agent(), authorize=[later], protocol=A2A())
    exchange = await drive(gate, http_scope("POST", "/", headers=JSON), body=rpc("GetTask", {"id": "t"}))
    assert (exchange.status, exchange.text, exchange.headers["content-type"]) == (503, "later", "text/plain")


async def test_the_id_of_the_request_is_in_its_error_whatever_it_is() -> None:
    gate = Gate(Agent(), authorize=[RULES], protocol=A2A())
    for id in ("a", 0, "", -3):
        exchange = await drive(
            gate, http_scope("POST", "/", headers=JSON), body=rpc("CancelTask", {"id": "secret"}, id=id)
        )
        assert json.loads(exchange.body)["id"] == id
