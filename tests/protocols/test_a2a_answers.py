"""What an agent answers: cards come whole or not at all; of everything else the log is told, and nothing changes."""

import json
from typing import Any

import pytest

from agentgate import A2A, BEARER, Gate, Query
from agentgate.protocols.a2a.answers import MAX_NOTED, facts
from agentgate.protocols.a2a.cards import MAX_BYTES, Base, Cards
from agentgate.testing import Exchange, Recorder, drive, http_scope

pytestmark = pytest.mark.anyio

PLANNER = Base.of("http://planner:8001")
assert PLANNER is not None
GATEWAY = "https://gateway.example.com/planner"
CARD = {"supportedInterfaces": [{"url": "http://planner:8001/", "protocolBinding": "JSONRPC"}]}
REWRITTEN = {"supportedInterfaces": [{"url": f"{GATEWAY}/", "protocolBinding": "JSONRPC"}]}
JSON = [(b"content-type", b"application/json")]


class Agent:
    """Answers with what it is given."""

    def __init__(self, *chunks: bytes, status: int = 200, headers: Any = JSON) -> None:
        self.chunks = chunks or (b"",)
        self.status = status
        self.headers = headers
        self.asked: dict[bytes, bytes] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked = dict(scope["headers"])
        await receive()
        await send({"type": "http.response.start", "status": self.status, "headers": [*self.headers]})
        for chunk in self.chunks[:-1]:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": self.chunks[-1]})


class Asked:
    """Agent and log of one request that was answered."""

    def __init__(self, agent: Agent, recorder: Recorder, exchange: Exchange) -> None:
        self.agent = agent
        self.record = recorder.last
        self.exchange = exchange
        self.details = self.record.details


async def ask(
    agent: Agent, method: str = "GET", target: str = "/", body: Any = None, *, headers: Any = (), cards: bool = True
) -> Asked:
    protocol = A2A()
    if cards:
        assert PLANNER is not None
        protocol.cards = Cards([PLANNER], GATEWAY, [""])
    recorder = Recorder()
    gate = Gate(agent, observe=[recorder], protocol=protocol)
    sent = {"content-type": "application/json"} if body is not None else {}
    scope = http_scope(method, target, headers={**sent, **dict(headers)})
    exchange = await drive(gate, scope, body=b"" if body is None else json.dumps(body).encode())
    return Asked(agent, recorder, exchange)


WELL_KNOWN = "/.well-known/agent-card.json"
EXTENDED = {"jsonrpc": "2.0", "id": 1, "method": "GetExtendedAgentCard"}
GET_TASK = {"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": {"id": "t"}}


@pytest.mark.parametrize(
    ("method", "target", "body", "answer", "expected"),
    [
        ("GET", WELL_KNOWN, None, CARD, REWRITTEN),
        ("GET", "/.well-known/agent.json", None, CARD, REWRITTEN),
        ("GET", "/extendedAgentCard", None, CARD, REWRITTEN),
        ("GET", "/v1/card", None, CARD, REWRITTEN),
        ("POST", "/", EXTENDED, {"id": 1, "result": CARD}, {"id": 1, "result": REWRITTEN}),
        ("POST", "/", EXTENDED, {"id": 1, "error": {"code": -32007}}, {"id": 1, "error": {"code": -32007}}),
        (
            "POST",
            "/",
            {**EXTENDED, "method": "agent/getAuthenticatedExtendedCard"},
            {"id": 1, "result": CARD},
            {"id": 1, "result": REWRITTEN},
        ),
    ],
)
async def test_cards_are_rewritten_however_they_come(
    method: str, target: str, body: Any, answer: Any, expected: Any
) -> None:
    data = json.dumps(answer).encode()
    for chunks in ((data,), (data[:9], data[9:], b""), tuple(data[i : i + 1] for i in range(len(data)))):
        asked = await ask(Agent(*chunks), method, target, body)
        assert (asked.exchange.status, json.loads(asked.exchange.body)) == (200, expected)
        assert asked.exchange.headers["content-length"] == str(len(asked.exchange.body))
        assert asked.exchange.complete


async def test_headers_about_the_card_that_was_are_dropped() -> None:
    """Nor is the agent asked for a part of it, for one in a coding, or whether it is still the same."""
    headers = [
        *((b"content-length", b"7"), (b"etag", b'"x"'), (b"last-modified", b"now"), (b"digest", b"x"), (b"age", b"3")),
        *((b"cache-control", b"public, max-age=9"), (b"x-more", b"1"), (b"content-encoding", b"identity"), *JSON),
    ]
    conditions = {"if-none-match": '"x"', "range": "bytes=1-", "accept-encoding": "gzip", "x-kept": "1"}
    asked = await ask(Agent(json.dumps(CARD).encode(), headers=headers), "GET", WELL_KNOWN, headers=conditions)
    length = str(len(asked.exchange.body))
    etag = asked.exchange.headers["etag"]
    assert asked.exchange.headers == {
        "content-type": "application/json",
        "etag": etag,
        "cache-control": "public, max-age=9",
        "age": "3",
        "x-more": "1",
        "content-length": length,
    }
    assert set(asked.agent.asked) == {b"host", b"x-kept"}
    for known in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        asked = await ask(
            Agent(json.dumps(CARD).encode(), headers=headers), "GET", WELL_KNOWN, headers={"if-none-match": known}
        )
        assert (asked.exchange.status, asked.exchange.body, asked.exchange.headers["etag"]) == (304, b"", etag)
        assert "content-length" not in asked.exchange.headers
    asked = await ask(Agent(json.dumps(CARD).encode(), headers=headers), "GET", "/extendedAgentCard")
    assert asked.exchange.headers["cache-control"] == "private, no-cache"
    assert "age" not in asked.exchange.headers


async def test_a_head_of_a_card() -> None:
    asked = await ask(Agent(headers=[*JSON, (b"content-length", b"99"), (b"etag", b'"x"')]), "HEAD", WELL_KNOWN)
    assert (asked.exchange.status, asked.exchange.body) == (200, b"")
    assert asked.exchange.headers == {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("agent", "why"),
    [
        (Agent(b"<html>"), "not one reading as JSON: not valid JSON"),
        (Agent(b'{"url": "http://evil/"}'), "no interface that the card names is served here"),
        (Agent(json.dumps(CARD).encode(), status=203), "its status is not 200"),
        (Agent(json.dumps(CARD).encode(), status=206), "its status is not 200"),
        (Agent(status=302, headers=[(b"location", b"http://evil/")]), "its status is not 200"),
        (Agent(status=304), "its status is not 200"),
        (Agent(b"x", headers=[*JSON, (b"content-encoding", b"gzip")]), "it has a content-encoding"),
        (Agent(b" " * (MAX_BYTES + 1)), "too large"),
        (Agent(b" " * MAX_BYTES, b" ", b" "), "too large"),
    ],
)
async def test_a_card_that_cannot_be_rewritten_is_502(agent: Agent, why: str) -> None:
    asked = await ask(agent, "GET", WELL_KNOWN)
    assert (asked.exchange.status, asked.exchange.text) == (502, "upstream call failed")
    assert asked.record.refusal is not None
    assert asked.record.refusal.detail == f"the agent's card: {why}"
    assert asked.record.reason == "UpstreamFailure"


@pytest.mark.parametrize("answer", [b'{"id": 1, "result": {}}', b"[]", b'data: {"result": {}}\n\n', b""])
async def test_an_extended_card_that_cannot_be_rewritten_is_502(answer: bytes) -> None:
    asked = await ask(Agent(answer), "POST", "/", EXTENDED)
    assert (asked.exchange.status, asked.exchange.text) == (502, "upstream call failed")


@pytest.mark.parametrize("status", [400, 401, 404, 500])
async def test_an_error_in_place_of_a_card_is_an_error(status: int) -> None:
    asked = await ask(Agent(b"no ", b"card", status=status), "GET", WELL_KNOWN)
    assert (asked.exchange.status, asked.exchange.body) == (status, b"no card")


async def test_a_credential_that_nobody_asked_for_stays_here() -> None:
    """A client sends it along for the card, too; where the card is public, nobody has taken it off."""
    protocol = A2A()
    assert PLANNER is not None
    protocol.cards = Cards([PLANNER], GATEWAY, [""])
    protocol.credentials = (BEARER, Query("key"))
    agent = Agent(json.dumps(CARD).encode())
    gate = Gate(agent, observe=[Recorder()], protocol=protocol)
    exchange = await drive(gate, http_scope("GET", WELL_KNOWN, headers={"authorization": "Bearer x"}))
    assert (exchange.status, set(agent.asked)) == (200, {b"host"})
    assert (await drive(gate, http_scope("GET", f"{WELL_KNOWN}?key=x"))).status == 400


async def test_the_card_of_the_apps_own_stays() -> None:
    data = json.dumps(CARD).encode()
    headers = [*JSON, (b"etag", b'"x"')]
    asked = await ask(Agent(data, headers=headers), "GET", WELL_KNOWN, headers={"range": "bytes=1-"}, cards=False)
    assert (asked.exchange.body, asked.exchange.headers["etag"]) == (data, '"x"')
    assert asked.agent.asked[b"range"] == b"bytes=1-"
    redirect = [(b"location", b"http://elsewhere/")]
    asked = await ask(Agent(status=307, headers=redirect), "POST", "/", GET_TASK, cards=False)
    assert asked.exchange.headers["location"] == "http://elsewhere/"


@pytest.mark.parametrize(
    ("location", "led"),
    [
        (b"http://planner:8001/a2a/", f"{GATEWAY}/a2a/"),
        (b"http://planner:8001", GATEWAY),
        (b"http://evil/", None),
        (b"//evil/", None),
        (b"/a2a/", None),
        (b"http://planner:8001/%2e%2e/", None),
    ],
)
async def test_a_redirect_does_not_lead_past_the_gateway(location: bytes, led: str | None) -> None:
    headers = [(b"x-more", b"1"), (b"location", b"http://evil/"), (b"location", location)]
    asked = await ask(Agent(status=307, headers=headers), "POST", "/", GET_TASK)
    if led is None:
        assert asked.exchange.status == 502
        assert asked.record.refusal is not None
        assert asked.record.refusal.detail == "the agent redirects to a URL that is not its own"
    else:
        assert (asked.exchange.status, asked.exchange.headers) == (307, {"x-more": "1", "location": led})


# -- what the log is told ---------------------------------------------------------------------------------------------

TASK = {"id": "t", "contextId": "c", "status": {"state": "TASK_STATE_WORKING"}}
DONE = {"taskId": "t", "contextId": "c", "status": {"state": "TASK_STATE_COMPLETED"}}


def told(outcome: str, kind: str = "", state: str = "", context: str = "", code: int | None = None) -> dict[str, Any]:
    names = {"a2a.result.kind": kind, "a2a.task.state": state, "a2a.context.id": context}
    found: dict[str, Any] = {"a2a.response.outcome": outcome, **{key: text for key, text in names.items() if text}}
    return found if code is None else {**found, "a2a.response.error_code": code}


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ({"task": TASK}, told("success", "task", "TASK_STATE_WORKING", "c")),
        ({"message": {"contextId": "c", "parts": []}}, told("success", "message", "", "c")),
        ({"statusUpdate": DONE}, told("success", "status-update", "TASK_STATE_COMPLETED", "c")),
        ({"artifactUpdate": {"taskId": "t", "contextId": "c"}}, told("success", "artifact-update", "", "c")),
        (TASK, told("success", "task", "TASK_STATE_WORKING", "c")),
        ({"kind": "task", "status": {"state": "working"}, "contextId": "c"}, told("success", "task", "working", "c")),
        ({"kind": "status-update", "status": {"state": "working"}}, told("success", "status-update", "working")),
        ({"kind": "message", "contextId": "c"}, told("success", "message", "", "c")),
        ({"tasks": [TASK]}, told("success")),
        ({"kind": 7, "status": "x", "contextId": ["c"]}, told("success")),
        ({"task": "x"}, told("success")),
        ([TASK], told("success")),
        ("x", told("success")),
        (None, {}),
    ],
)
def test_results(result: Any, expected: dict[str, Any]) -> None:
    assert facts({"jsonrpc": "2.0", "id": 1, "result": result}, rpc=True) == expected
    if isinstance(result, dict):
        assert facts(result, rpc=False) == expected


@pytest.mark.parametrize(
    ("value", "failed", "code"),
    [
        ({"error": {"code": -32001, "message": "x"}}, False, -32001),
        ({"error": {"code": True}}, False, None),
        ({"error": {"code": "x"}}, False, None),
        ({"error": "x"}, False, None),
        ({"error": {"code": 404, "status": "NOT_FOUND"}}, True, 404),
        ({"message": "x"}, True, None),
    ],
)
def test_errors(value: Any, failed: bool, code: int | None) -> None:
    assert facts(value, rpc=True, failed=failed) == told("error", code=code)


async def test_an_answer_passes_as_it_is_and_is_told_of() -> None:
    data = json.dumps({"jsonrpc": "2.0", "id": 1, "result": TASK}).encode()
    for headers in (JSON, [(b"content-type", b"application/a2a+json; charset=utf-8")]):
        asked = await ask(Agent(data[:20], data[20:], headers=headers), "POST", "/", GET_TASK)
        assert asked.exchange.chunks == [data[:20], data[20:]]
        assert asked.details == {"a2a.method": "GetTask", **told("success", "task", "TASK_STATE_WORKING", "c")}
    asked = await ask(Agent(b'{"error": {"code": 404}}', status=404), "GET", "/tasks/t")
    assert asked.details == {"a2a.method": "GetTask", **told("error", code=404)}


EVENT = b'data: {"result": {"statusUpdate": {"status": {"state": "%s"}, "contextId": "c"}}}\n\n'


async def test_of_a_stream_the_last_word_counts() -> None:
    stream = [(b"content-type", b"text/event-stream; charset=utf-8")]
    body = {"jsonrpc": "2.0", "id": 1, "method": "SubscribeToTask", "params": {"id": "t"}}
    chunks = (b": hello\n\n", EVENT % b"working", (EVENT % b"completed")[:30], (EVENT % b"completed")[30:], b"")
    asked = await ask(Agent(*chunks, headers=stream), "POST", "/", body)
    assert asked.exchange.chunks == [*chunks]
    assert asked.details == {"a2a.method": "SubscribeToTask", **told("success", "status-update", "completed", "c")}
    error = b'event: error\ndata: {"error": {"code": -32603}}\n\n'
    asked = await ask(Agent(EVENT % b"working", error, headers=stream), "POST", "/", body)
    assert asked.details["a2a.response.outcome"] == "error"
    assert (asked.details["a2a.response.error_code"], asked.details["a2a.task.state"]) == (-32603, "working")


@pytest.mark.parametrize(
    "agent",
    [
        Agent(b"{"),
        Agent(b"[1]"),
        Agent(b"[" * 100_000),
        Agent(b"\xff"),
        Agent(b'{"result": {"task": 1}}', headers=[(b"content-type", b"text/plain")]),
        Agent(b'{"result": {"task": 1}}', headers=[]),
        Agent(b"x", headers=[*JSON, (b"content-encoding", b"gzip")]),
        Agent(b'{"result": "%s"}' % (b"x" * MAX_NOTED)),
        Agent(b"x" * MAX_NOTED, b"x", b"x"),
        Agent(b"data: " + b"x" * MAX_NOTED, b"x", b"\n\n", headers=[(b"content-type", b"text/event-stream")]),
        Agent(b"data: {\n\nevent: x\n\n", headers=[(b"content-type", b"text/event-stream")]),
    ],
)
async def test_what_cannot_be_read_passes_untold(agent: Agent) -> None:
    asked = await ask(agent, "POST", "/", GET_TASK)
    assert (asked.exchange.status, asked.exchange.chunks) == (200, [*agent.chunks])
    assert asked.details == {"a2a.method": "GetTask", "a2a.response.outcome": "unknown"}
