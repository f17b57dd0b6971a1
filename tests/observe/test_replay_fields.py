"""What a log says for a replay: enough to decide again, no credential, and what is not there is told."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentgate import (
    A2A,
    LLM,
    MCP,
    AccessLog,
    APIKeyAuth,
    Authorizer,
    CELRules,
    Edge,
    Gate,
    Header,
    Key,
    Principal,
    Request,
    deny,
    new_key,
)
from agentgate.call import Call
from agentgate.observe.replay_fields import MAX_PART, MAX_REPLAY, VERSION, replay_fields
from agentgate.record import Record
from agentgate.replay.reading import request_of
from agentgate.replay.recorded import NotRecorded
from agentgate.request import authenticated, called, routed
from agentgate.testing import Recorder, drive

pytestmark = pytest.mark.anyio

KEY = new_key()
RULES = CELRules(
    allow={"devs read": 'apiKey.group == "dev" && mcp.tool.name.startsWith("get_")'},
    deny={"nobody drops": 'mcp.tool.name == "drop_table"', "not from there": 'source.address == "10.9.9.9"'},
)


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": b"{}"})


def gated(*authorize: Authorizer, observe: Any = (), **options: Any) -> Gate:
    keys = APIKeyAuth([Key("alice", KEY, {"group": "dev"})], location=options.pop("location", Header("x-badge")))
    return Gate(hello, authenticate=[keys], authorize=authorize, observe=observe, **options)


def posted(message: dict[str, Any], target: str = "/mcp", **headers: str) -> Request:
    given = {"x-badge": KEY, "content-type": "application/json", "accept": "application/json, text/event-stream"}
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return Request.http("POST", target, headers={**given, **more}, body=json.dumps(message).encode(), now=1000.5)


def tool(name: str, **arguments: Any) -> Request:
    params = {"name": name, "arguments": arguments}
    return posted({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})


async def replayed(gate: Gate, request: Request, **options: Any) -> dict[str, Any]:
    """What the log says of the request, as a reader finds it."""
    lines: list[str] = []
    gate.observe = (AccessLog(lines.append, format="json", replay=True, **options),)
    await drive(gate, request)
    (line,) = lines
    assert KEY not in line
    found: dict[str, Any] = json.loads(line)["replay"]
    assert list(json.loads(line))[-1] == "replay"
    return found


async def test_everything_that_is_recorded() -> None:
    gate = gated(RULES, protocol=MCP(), edge=Edge(trusted_proxies=["127.0.0.1"]))
    request = tool("get_user", id=7)
    request.raw_headers += (
        (b"x-forwarded-for", b"192.0.2.1"),
        (b"cookie", b"session=hunter2"),
        (b"x-team", b"hunter2"),
    )
    found = await replayed(gate, request)
    assert found.pop("time") > 1_700_000_000
    assert found == {
        "version": 1,
        "type": "http",
        "method": "POST",
        "scheme": "http",
        "httpVersion": "1.1",
        "host": "localhost",
        "path": "/mcp",
        "rootPath": "",
        "headers": {
            "host": ["localhost"],
            "x-badge": None,
            "content-type": ["application/json"],
            "accept": ["application/json, text/event-stream"],
            "x-forwarded-for": ["192.0.2.1"],
            "cookie": None,
            "x-team": None,
        },
        "peer": ["127.0.0.1", 50000],
        "source": ["192.0.2.1", None],
        "callers": [{"id": "alice", "source": "apiKey", "attributes": {"group": "dev"}}],
        "calls": [
            {"protocol": "mcp", "method": "tools/call", "provisional": False, "tool": "get_user", "attributes": {}}
        ],
        "decision": {"effect": "allow", "status": 200, "policy": "CELRules", "rule": "devs read"},
        "unknown": ["request.body", "mcp.tool.arguments"],
    }


CALLS = {
    "a tool that may be called": tool("get_user", id=7),
    "one that may not": tool("drop_table"),
    "one that nobody may": tool("set_user"),
    "a list": posted({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}),
    "a query": posted({"jsonrpc": "2.0", "id": 1, "method": "ping"}, target="/mcp?token=hunter2&a=1"),
}


@pytest.mark.parametrize("name", CALLS)
async def test_what_was_decided_is_decided_again(name: str) -> None:
    """By the same rules: the Request that the line tells of meets the decision that the line tells of."""
    gate = gated(RULES, protocol=MCP())
    found = await replayed(gate, CALLS[name])
    assert "hunter2" not in json.dumps(found)
    again = gate.explain(request_of(found))[-1]
    assert found["decision"] == {
        key: value
        for key in ("effect", "status", "policy", "rule", "code", "reason")
        if (value := getattr(again, key)) is not None and value != ""
    }


@pytest.mark.parametrize(
    ("protocol", "request_", "arguments", "call", "unknown"),
    [
        (MCP(), tool("get_user", id=7), True, Call("mcp", "tools/call", tool="get_user", arguments={"id": 7}), []),
        (
            MCP(),
            tool("get_user", text="x" * MAX_PART),
            True,
            Call("mcp", "tools/call", tool="get_user"),
            ["mcp.tool.arguments"],
        ),
        (
            LLM(),
            posted({"model": "gpt-4o", "messages": [], "temperature": 1, "stream": True}, "/v1/chat/completions"),
            False,
            Call(
                "llm",
                "chat",
                model="gpt-4o",
                attributes={"provider": "openai", "streaming": True, "params": {"temperature": 1}},
            ),
            [],
        ),
    ],
)
async def test_calls_are_read_back_as_they_were(
    protocol: Any, request_: Request, arguments: bool, call: Call, unknown: list[str]
) -> None:
    found = await replayed(gated(protocol=protocol), request_, replay_arguments=arguments)
    again = request_of(found)
    assert again.calls is not None
    (read,) = again.calls
    assert again.call is read
    if "mcp.tool.arguments" in unknown:
        with pytest.raises(NotRecorded):
            read.arguments["id"]
        read = replace(read, arguments={})
    assert read == call
    assert found["unknown"] == ["request.body", *unknown]


async def test_the_metadata_of_a_message_may_hold_anything() -> None:
    message = {
        "messageId": "m",
        "role": "ROLE_USER",
        "parts": [{"text": "hunter2"}],
        "contextId": "c1",
        "metadata": {"note": "hunter3"},
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": message}}
    request = posted(body, "/", a2a_version="1.0")
    found = await replayed(gated(protocol=A2A()), request)
    assert "a2a.metadata" in found["unknown"]
    assert "hunter" not in json.dumps(found)
    found = await replayed(gated(protocol=A2A()), request, replay_arguments=True)
    assert found["calls"][0]["attributes"]["metadata"] == {"note": "hunter3"}
    assert "hunter2" not in json.dumps(found)


async def test_a_call_that_nobody_read_is_unknown() -> None:
    """A refusal on the way in leaves open what would have been called."""
    request = tool("get_user")
    request.raw_headers = tuple(pair for pair in request.raw_headers if pair[0] != b"x-badge")
    found = await replayed(gated(RULES, protocol=MCP()), request)
    assert (found["callers"], found["calls"], found["decision"]["reason"]) == ([], None, "APIKeyAuth")
    assert {"mcp", "llm", "a2a"} <= {*found["unknown"]}


def record(request: Request, *principals: Principal) -> Record:
    made = Record(request)
    made.edge, made.status, made.duration = object(), 200, 0.0
    for principal in principals:
        authenticated(made.view, principal)
    return made


def test_several_calls_are_several() -> None:
    """And none of them is the request's own."""
    made = record(Request.http())
    made.calls = (Call("llm", "chat", model="a"), Call("llm", "chat", model="b"))
    found = replay_fields(made)
    assert request_of(found).calls == made.calls
    assert request_of(found).call is None


@pytest.mark.parametrize(
    ("record_", "unknown", "absent"),
    [
        (
            record(Request.http("GET", "/" + "a" * 9000)),
            ["request.path", "request.uri", "request.pathAndQuery"],
            "path",
        ),
        (record(Request.http("GET", "/?" + "a" * 9000)), ["request.query", "request.uri"], "query"),
        (record(Request.http("G" * 9000)), ["request.method"], "method"),
        (record(Request.http(headers={f"x-{n}-{'a' * 99}": "" for n in range(90)})), ["request.headers"], "headers"),
        (record(Request.http(host="h" * 9000)), ["request.host", "request.uri", "request.headers"], "host"),
        (record(Request.http(), Principal("a", "jwt", {"sub": "a", "groups": ["g" * 99] * 99})), ["jwt.groups"], ""),
        (record(Request.http(), Principal("a", "custom", {"thing": object()})), ["custom.thing"], ""),
        (record(Request.http(), Principal("a", "jwt", {"nan": float("nan")})), ["jwt.nan"], ""),
    ],
)
def test_what_is_too_large_or_no_json_is_unknown(record_: Record, unknown: list[str], absent: str) -> None:
    """Nothing is cut, as half of it could be decided differently."""
    found = replay_fields(record_)
    assert {*unknown} <= {*found["unknown"]}
    assert absent not in found
    json.dumps(found, allow_nan=False)
    request_of(found)


def test_it_has_a_size() -> None:
    """However much a token says, the object stays within its bounds."""
    tokens = [Principal(f"t{n}", "jwt", {f"claim {m}": "x" * 999 for m in range(99)}) for n in range(3)]
    found = replay_fields(record(Request.http("GET", "/" + "a" * 4000), *tokens))
    told = sum(len(json.dumps(caller["attributes"])) for caller in found["callers"])
    assert 0 < told <= MAX_REPLAY
    assert len(json.dumps(found)) < 2 * MAX_REPLAY
    assert "jwt.claim 98" in found["unknown"]


names = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=9)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


@given(
    path=names,
    query=names,
    claims=st.dictionaries(names, values, max_size=5),
    headers=st.dictionaries(names.map(str.lower), names, max_size=4),
    arguments=st.dictionaries(names, values, max_size=3),
)
@settings(max_examples=60, deadline=None)
def test_what_was_written_is_read_back(
    path: str, query: str, claims: Any, headers: dict[str, str], arguments: Any
) -> None:
    """Through JSON and back: the same request, but for what is said to be unknown."""
    request = Request.http("GET", f"/{path.replace('?', '')}?a={query}", headers=headers)
    made = record(request, Principal("alice", "jwt", claims))
    call = Call("mcp", "tools/call", tool="t", target="s", arguments=arguments)
    called(made.view, call)
    made.calls = (call,)
    routed(made.view, {"name": "b", "type": "mcp", "protocol": "mcp"})
    found = json.loads(json.dumps(replay_fields(made, arguments=True)))
    again = request_of(found)
    assert (again.method, again.raw_path, again.path) == (request.method, request.raw_path, request.path)
    assert (again.peer, again.source, again.now, again.host) == (
        request.peer,
        request.source,
        request.now,
        request.host,
    )
    assert (again.jwt, again.call, again.backend) == (claims, call, made.view.backend)
    assert [*again.headers] == [*request.headers]
    if "request.query" not in found["unknown"]:
        assert again.query_string == request.query_string


@pytest.mark.parametrize(
    "change", [{"version": 2}, {"version": None}, {"callers": None}, {"headers": 5}, {"calls": [{}]}]
)
def test_what_is_no_replay_object_is_refused(change: dict[str, Any]) -> None:
    found = {**replay_fields(record(Request.http())), **change}
    with pytest.raises(ValueError, match="a replay object"):
        request_of(found)
    assert VERSION == 1


async def test_what_ended_an_answer_is_the_decision_that_stood() -> None:
    """A refusal that no policy made is told as well."""
    made = record(Request.http())
    made.refuse(deny("upstream call failed", status=502, code="upstream_failure", policy="forward"))
    assert replay_fields(made)["decision"] == {
        "effect": "deny",
        "status": 502,
        "policy": "forward",
        "code": "upstream_failure",
        "reason": "Authorization",
    }
    recorder = Recorder()
    gate = gated(observe=[recorder], mode="optional")
    await drive(gate, Request.http())
    assert replay_fields(recorder.last)["decision"] == {"effect": "allow", "status": 200, "policy": "gate"}


class Broken(dict[str, Any]):
    def items(self) -> Any:
        raise LookupError("hunter2")


def test_a_caller_that_cannot_be_told_costs_the_object_and_not_the_line(caplog: pytest.LogCaptureFixture) -> None:
    lines: list[str] = []
    around: list[Any] = []
    around.append(around)
    for attributes in (Broken(), {"a": around}):
        made = record(Request.http(), Principal("a", "custom", attributes))
        AccessLog(lines.append, format="json", replay=True, add={"path": "request.path"}).end(None, made)
    for line in lines:
        assert json.loads(line)["path"] == "/"
        assert "replay" not in json.loads(line)
    assert len(caplog.records) == len(lines) == 2
    assert "hunter2" not in caplog.text
