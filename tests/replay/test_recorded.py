"""A request out of a log: what was not recorded raises where it is read, and nowhere else."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from agentgate import MCP, AllowedModels, CELRules, Gate, Request
from agentgate.call import Call
from agentgate.observe.replay_fields import replay_fields
from agentgate.record import Record
from agentgate.replay.judging import Judge
from agentgate.replay.reading import request_of
from agentgate.replay.recorded import NotRecorded, Recorded, unknown_call
from agentgate.request import routed
from agentgate.strict_json import StrictJSONError
from agentgate.testing import replay

from .logged import Fixed, gate, get, line, post, tool

pytestmark = pytest.mark.anyio

CALLER = {"id": "alice", "source": "apiKey", "attributes": {"group": "dev"}}


def recorded(request: Request = get("/a?b=1&token=2", cookie="c=1", connection="x"), **changes: Any) -> Recorded:  # noqa: B008
    made = Record(request)
    made.edge, made.route = object(), "r"
    routed(made.view, {"name": "b", "type": "mcp", "protocol": "mcp"}, "r")
    found = json.loads(json.dumps(replay_fields(made)))
    return request_of({**found, "callers": [CALLER], **changes})


def key(request: Recorded) -> Any:
    return request.api_key


def value(request: Recorded, name: bytes) -> Any:
    return request.by_name[name]


UNKNOWN: list[tuple[str, Callable[[Recorded], Any]]] = [
    ("request.query", lambda one: one.query),
    ("request.query", lambda one: one.target),
    ("request.query", lambda one: one.query_string.split(b"&")),
    ("request.query", lambda one: one.query_string == b"b=1"),
    ("request.body", lambda one: one.json()),
    ("request.headers.cookie", lambda one: one.headers["cookie"]),
    ("request.headers.cookie", lambda one: one.headers.getlist("cookie")),
    ("request.headers.cookie", lambda one: value(one, b"cookie") == b"c=1"),
    ("request.headers.cookie", lambda one: value(one, b"cookie") != b"c=1"),
    ("request.headers.cookie", lambda one: value(one, b"cookie")[:2]),
    ("request.headers.cookie", lambda one: value(one, b"cookie") + b""),
    ("request.headers.cookie", lambda one: b"" + value(one, b"cookie")),
    ("request.headers.cookie", lambda one: b"c" in value(one, b"cookie")),
    ("request.headers.cookie", lambda one: len(value(one, b"cookie"))),
    ("request.headers.cookie", lambda one: {value(one, b"cookie")}),
    ("request.headers.cookie", lambda one: [*value(one, b"cookie")]),
    ("request.headers.cookie", lambda one: value(one, b"cookie").startswith(b"c")),
    ("request.headers.connection", lambda one: value(one, b"connection").lower()),
    ("apiKey", lambda one: [*key(one)]),
    ("apiKey", lambda one: len(key(one))),
    ("apiKey.tier", lambda one: key(one)["tier"]),
    ("apiKey.tier", lambda one: "tier" in key(one)),
    ("apiKey.tier", lambda one: key(one).get("tier")),
]


@pytest.mark.parametrize(("name", "read"), UNKNOWN)
def test_what_was_not_recorded_raises(name: str, read: Callable[[Recorded], Any]) -> None:
    request = recorded(unknown=["request.body", "request.query", "apiKey.tier"], httpVersion="2")
    request.notes.look()
    with pytest.raises(NotRecorded):
        read(request)
    assert [*request.notes.touched] == [name]


def test_what_was_recorded_is_read() -> None:
    request = recorded(unknown=["apiKey.tier"])
    assert (request.method, request.path, request.host, request.peer) == (
        "GET",
        "/a",
        "localhost",
        ("127.0.0.1", 50000),
    )
    assert request.principal is not None
    assert request.api_key is not None
    assert (request.principal.id, request.api_key["group"]) == ("alice", "dev")
    assert request.api_key.get("other") is None
    assert "cookie" in request.headers
    assert "x-other" not in request.headers
    assert (request.body, request.route, request.backend and request.backend["name"]) == (b"", "r", "b")
    assert request.jwt is None
    assert not request.notes.touched
    assert repr(request.api_key) == "<apiKey, not all of it recorded>"
    shown = f"{request.raw_headers}"
    assert "<not recorded>" in shown
    assert "c=1" not in shown
    with pytest.raises(StrictJSONError):
        request.json()


def test_a_request_without_a_peer_has_no_source() -> None:
    request = recorded(Request.http(client=None))
    assert (request.peer, request.source) == (None, None)


def test_of_an_unknown_call_nothing_is_known() -> None:
    call: Call = unknown_call(recorded().notes)
    assert issubclass(call.__class__, Call)
    assert repr(call) == "<call that is not known>"
    for field in ("protocol", "method", "tool", "attributes", "provisional"):
        with pytest.raises(NotRecorded):
            getattr(call, field)


async def test_models_of_a_key_of_which_a_part_is_unknown() -> None:
    old, fixed = gate("true", authenticate=[Fixed("a", "apiKey", {"allowedModels": object()})]), Fixed("a", "apiKey")
    found = replay([await line(old, get(key=None))], gate(AllowedModels(), authenticate=[fixed]))
    assert [one.after for one in found.undecided] == ["apiKey.allowedModels"]


RULES = Gate(authorize=[CELRules(allow=['llm.requestModel == "a"'])])
LOOKS = Gate(authorize=[CELRules(allow=['llm.requestModel == "a"', 'request.headers["x-team"] == "a"'])])
A, B = ({"protocol": "llm", "method": "chat", "provisional": False, "model": m, "attributes": {}} for m in "ab")


@pytest.mark.parametrize(
    ("posture", "changes", "effect"),
    [
        (RULES, {"calls": [A]}, "allow"),
        (RULES, {"calls": [A, A]}, "allow"),
        (RULES, {"calls": [A, B]}, "deny"),
        (LOOKS, {"calls": [A, B, A]}, None),
        (RULES, {"calls": None, "unknown": ["mcp", "llm", "a2a"]}, None),
        (RULES, {"calls": None}, "deny"),
        (RULES, {"calls": [A], "callers": [], "decision": {"effect": "deny", "policy": "APIKeyAuth"}}, None),
    ],
)
def test_a_gate_of_rules_is_told_of_callers_and_calls(posture: Gate, changes: Any, effect: str | None) -> None:
    decision = Judge(posture).judge(recorded(get(x_team="b"), **changes)).decision
    assert (None if decision is None else decision.effect) == effect


async def test_what_lets_pass_without_a_rule_is_named() -> None:
    found = replay([await line(gate("false"), get())], gate())
    assert [(one.outcome, one.after) for one in found.changed] == [("allowed", "APIKeyAuth")]
    found = replay([await line(gate("false"), get(key=None))], gate(mode="optional"))
    assert [(one.outcome, one.after) for one in found.changed] == [("allowed", "gate")]


async def test_a_provisional_call_is_open_as_it_was() -> None:
    """A list is let through, as each of its items will be judged; but not where a header leaves it open."""
    listed = post({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, "/mcp", x_team="a")
    logged = [await line(gate("true", protocol=MCP()), listed)]
    assert replay(logged, gate('mcp.tool.name == "a"', protocol=MCP())).unchanged == 1
    new = gate('mcp.tool.name == "a" && request.headers["x-team"] == "a"', protocol=MCP())
    assert len(replay(logged, new).undecided) == 1
    assert tool("a").call is None
