"""What is made of the lines of a log: counted, grouped, and never more than there is."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentgate import MCP, CELRules, ConfigurationError, Gate
from agentgate.call import Call
from agentgate.observe.replay_fields import replay_fields
from agentgate.record import Record
from agentgate.replay import differences
from agentgate.replay.differences import OTHERS, replay_files
from agentgate.replay.reading import OtherVersion, request_of
from agentgate.replay.report import document, report
from agentgate.request import Request
from agentgate.testing import Recorder, replay

from .logged import OPEN, gate, get, line, tool

pytestmark = pytest.mark.anyio

READERS = gate(CELRules(allow={"readers": 'mcp.tool.name.startsWith("get_")'}), protocol=MCP())
MIXED = gate(OPEN, protocol=MCP())


async def day() -> list[str]:
    calls = [tool("get_a"), tool("drop"), tool("drop"), tool("get_b")]
    return [await line(MIXED, call) for call in calls]


async def test_they_are_grouped_by_who_called_what_and_which_rule() -> None:
    found = replay(await day(), READERS)
    (one,) = found.changed
    assert (found.lines, found.replayed, found.unchanged, found.undecided) == (4, 4, 2, [])
    assert (one.caller, one.called, one.outcome, one.count, one.line) == ("alice", "tool drop", "refused", 2, 2)
    assert one.before == "CELRules: allow[0]"
    assert one.after == "CELRules: none of 1 allow rules matched"


async def test_a_rule_that_refuses_is_named_and_so_is_one_that_allows() -> None:
    dropping = gate(CELRules(allow=["true"], deny={"nobody drops": 'mcp.tool.name == "drop"'}), protocol=MCP())
    logged = [await line(dropping, tool("drop"))]
    (one,) = replay(logged, gate(CELRules(allow={"all": "true"}), protocol=MCP())).changed
    assert (one.outcome, one.before, one.after) == ("allowed", "CELRules: nobody drops", "CELRules: all")
    (one,) = replay(await day(), dropping).changed
    assert one.after == "CELRules: nobody drops"


async def test_what_failed_upstream_was_let_through() -> None:
    found = json.loads((await day())[0])
    for decision, expected in (
        ({"effect": "deny", "policy": "forward", "code": "upstream_failure", "reason": "UpstreamFailure"}, []),
        ({"effect": "deny", "policy": "mcp", "code": "upstream_failure", "reason": "UpstreamFailure"}, []),
        ({"effect": "deny", "reason": "DirectResponse"}, []),
        ({"effect": "deny", "policy": "RateLimit", "code": "rate_limited", "reason": "RateLimit"}, ["allowed"]),
        ({"effect": "deny", "policy": "mine", "code": "upstream_failure"}, ["allowed"]),
    ):
        found["replay"]["decision"] = decision
        assert [one.outcome for one in replay([json.dumps(found)], MIXED).changed] == expected


async def test_files_are_read_however_they_are_packed(tmp_path: Path) -> None:
    text = "\n".join(await day()) + "\n"
    plain, packed = tmp_path / "a.log", tmp_path / "a.log.1.gz"
    plain.write_text(text)
    packed.write_bytes(gzip.compress(text.encode()))
    seen: list[int] = []
    found = replay_files([str(plain), str(packed)], READERS, lambda done, size: seen.append(size))
    assert (found.lines, found.changed[0].count, found.changed[0].file) == (8, 4, str(plain))
    assert seen
    assert replay(str(packed), READERS).changed[0].line == 2
    assert replay(plain, READERS).changed == replay([plain], READERS).changed
    with pytest.raises(ConfigurationError, match=r"cannot read .*nothing.log"):
        replay(tmp_path / "nothing.log", READERS)


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ([], "none of 0 lines is of an access log"),
        (["", "  "], "none of 2 lines"),
        (["GET / 200"], "none of 1 lines"),
        (['{"level": "info", "time": "2026-01-01T00:00:00.0Z", "scope": "request"}'], "1 lines have no replay fields"),
        (
            ['{"level": "info", "time": "2026-01-01T00:00:00.0Z", "scope": "request", "replay": {"version": 2}}'],
            "1 lines have replay fields of another version",
        ),
        (['{"level": "info", "time": "2026-01-01T00:00:00.0Z", "scope": "request", "replay": 1}'], "none of 1 lines"),
    ],
)
def test_that_nothing_changed_is_not_said_of_nothing(lines: list[str], fault: str) -> None:
    with pytest.raises(ConfigurationError, match=fault):
        replay(lines, READERS)


async def test_what_is_passed_over_is_counted_and_shown() -> None:
    logged = await day()
    without, other, damaged = (json.loads(logged[0]) for _ in range(3))
    del without["replay"]
    other["replay"]["version"] = 9
    damaged["replay"]["calls"] = []
    dropped = '{"level": "warn", "time": "2026-01-01T00:00:00.0Z", "scope": "access_log", "dropped": 7, "x": 1}'
    text = "2026-01-01T00:00:00.000000Z\tinfo\trequest http.method=GET"
    given = [*map(json.dumps, (without, other, damaged)), "Traceback", "", dropped, text, *logged]
    found = replay(given, READERS)
    assert (found.without, found.other_version, found.malformed, found.other, found.missing) == (2, 1, 1, 1, 7)
    assert found.examples == {
        "without": "(lines):1",
        "other_version": "(lines):2",
        "malformed": "(lines):3",
        "other": "(lines):4",
    }
    shown = "\n".join(report(found, 100))
    assert "4 calls: 2 unchanged, 2 now refused, 0 now allowed, 0 undecided" in shown
    assert "2 lines have no replay fields: log with --log-replay (first: (lines):1)." in shown
    assert "7 lines are missing" in shown
    assert json.loads(json.dumps(document(found)))["changed"][0]["called"] == "tool drop"


async def test_there_are_not_more_groups_than_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is past them is counted, and is a change all the same."""
    monkeypatch.setattr(differences, "MAX_GROUPS", 3)
    found = json.loads((await day())[1])
    logged = []
    for number in range(9):
        found["replay"]["calls"][0]["tool"] = f"t{number}"
        logged.append(json.dumps(found))
    changed = replay(logged, READERS).changed
    assert [one.count for one in changed] == [1, 1, 1, 6]
    assert (changed[-1].caller, changed[-1].outcome) == (OTHERS, "refused")


async def test_nothing_that_a_terminal_would_obey_is_shown() -> None:
    found = json.loads((await day())[1])
    found["replay"]["calls"][0]["tool"] = "drop\x1b[2J\n\u202e" + "x" * 900_000
    found["replay"]["callers"][0]["id"] = "\x1b]0;root\x07\ud800"
    result = replay([json.dumps(found)], READERS)
    shown = "\n".join(report(result, 100))
    assert not any(character in shown for character in "\x1b\x07\u202e\ud800")
    assert max(map(len, shown.split("\n"))) < 200
    assert len(json.dumps(document(result))) < 3000


@pytest.mark.parametrize(
    "calls",
    [
        [Call("mcp", "tools/call", tool="a", target="s")],
        [Call("mcp", "resources/read", resource="file:///a")],
        [Call("a2a", "SendMessage")],
        [Call("llm", "chat", model="m"), Call("llm", "chat", model="n")],
        None,
    ],
)
def test_what_was_called_is_named(calls: Any) -> None:
    made = Record(Request.http("GET", "/a?b=1"))
    made.edge, made.calls = object(), calls and tuple(calls)
    text = {"level": "info", "time": "2026-01-01T00:00:00.0Z", "scope": "request", "replay": replay_fields(made)}
    (one,) = replay([json.dumps(text)], Gate(authorize=[CELRules(allow=["false"])])).changed
    assert one.called in ("tool s/a", "resource file:///a", "a2a SendMessage", "model m and 1 more", "GET /a")


# -- forgeries -------------------------------------------------------------------------------------------------------

BASE: dict[str, Any] = replay_fields(Record(Request.http()))
CALLER = {"id": "a", "source": "jwt", "attributes": {}}
CALL = {"protocol": "mcp", "method": "tools/call", "provisional": False, "attributes": {}}


@pytest.mark.parametrize(
    "change",
    [
        {"version": True},
        {"version": "1"},
        {"version": 1.0},
        {"version": None},
        {"type": "lifespan"},
        {"time": "now"},
        {"time": float("nan")},
        {"time": float("inf")},
        {"time": -1},
        {"time": True},
        {"time": 1e300},
        {"time": 10**400},
        {"method": 5},
        {"path": ["/"]},
        {"path": "/\u0394"},
        {"path": "/\ud800"},
        {"query": {}},
        {"host": "h\u0394", "headers": {}},
        {"headers": [["a", "b"]]},
        {"headers": {"a": "b"}},
        {"headers": {"a": []}},
        {"headers": {"a": [1]}},
        {"headers": {"a": ["\u0394"]}},
        {"peer": ["1.1.1.1"]},
        {"peer": ["1.1.1.1", "1"]},
        {"peer": [None, 1]},
        {"source": "1.1.1.1"},
        {"backend": {"name": 1}},
        {"callers": None},
        {"callers": {}},
        {"callers": [None]},
        {"callers": [{**CALLER, "id": 1}]},
        {"callers": [{**CALLER, "source": None}]},
        {"callers": [{**CALLER, "attributes": []}]},
        {"calls": {}},
        {"calls": []},
        {"calls": [CALL, 1]},
        {"calls": [{**CALL, "provisional": 1}]},
        {"calls": [{**CALL, "tool": 1}]},
        {"calls": [{**CALL, "arguments": [1]}]},
        {"calls": [{**CALL, "attributes": None}]},
        {"decision": None},
        {"decision": {}},
        {"decision": {"effect": "abstain"}},
        {"decision": {"effect": "deny", "policy": 1}},
        {"unknown": None},
        {"unknown": [1]},
        {"unknown": "request.body"},
    ],
)
def test_what_is_no_replay_object_is_refused(change: dict[str, Any]) -> None:
    request_of(BASE)
    with pytest.raises(ValueError, match="a replay object"):
        request_of({**BASE, **change})


@pytest.mark.parametrize("version", [0, 2, 10**9, -1])
def test_what_another_version_has_written_is_not_read(version: int) -> None:
    with pytest.raises(OtherVersion):
        request_of({**BASE, "version": version})


@pytest.mark.parametrize("nothing", [None, [], "replay", 1, {}])
def test_what_is_no_object_is_refused(nothing: Any) -> None:
    with pytest.raises(ValueError, match="a replay object"):
        request_of(nothing)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("request.path"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(st.text(max_size=5), anything)
callers = st.lists(st.builds(lambda found: {**CALLER, "attributes": found}, objects), max_size=2)
calls_made = st.lists(st.builds(lambda found: {**CALL, "tool": "t", "arguments": found}, objects), max_size=2)
forged = st.builds(
    lambda *parts: {**BASE, **{name: value for part in parts for name, value in part.items()}},
    st.dictionaries(st.sampled_from(sorted({*BASE, "query", "backend", "route", "host"})), anything, max_size=2),
    st.dictionaries(st.just("callers"), callers),
    st.dictionaries(st.just("calls"), calls_made),
)
SOUND = json.dumps({"level": "info", "time": "2026-01-01T00:00:00.0Z", "scope": "request", "replay": BASE})
WARY = gate(
    CELRules(
        allow=['request.path == "/" && mcp.tool.name == "t" && mcp.tool.arguments.a == 1', 'jwt.sub == "a"'],
        deny=['request.headers["x"] == "b"', "size(toJson(jwt)) > 30"],
    ),
    protocol=MCP(),
)


@given(forged)
@settings(max_examples=150, deadline=None)
def test_no_forgery_breaks_a_replay(replay_object: Any) -> None:
    text = {"level": "info", "time": "2026-01-01T00:00:00.0Z", "scope": "request", "replay": replay_object}
    found = replay([SOUND, json.dumps(text)], WARY)
    assert found.replayed + found.malformed + found.other_version == 2
    assert [*report(found, 80)]


async def test_nothing_is_asked_of_the_app_or_of_observers() -> None:
    recorder = Recorder()
    new = gate(OPEN, observe=[recorder])
    replay([await line(gate(OPEN), get())], new)
    assert recorder.records == []
