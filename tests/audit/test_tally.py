"""Lines come in, rows come out."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentgate.audit import tally as bounds
from agentgate.audit.lines import Fields, Line
from agentgate.audit.names import SHORT, keys_of, short
from agentgate.audit.tally import Tally, has_failed, is_refused
from agentgate.audit.timeline import MAX_MOMENTS, STEPS, Timeline
from agentgate.errors import ConfigurationError


def tally(lines: list[Fields], by: str = "principal,called") -> Tally:
    found = Tally(keys_of(by))
    for number, fields in enumerate(lines):
        found.add(Line(f"2026-11-24T10:00:{number % 60:02}.000000Z", 29_925_240, fields))
    return found


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        ({"http.status": 200}, "answered"),
        ({"http.status": "404"}, "answered"),
        ({"http.status": 403}, "answered"),  # the upstream's own word
        ({"http.status": 200, "error": "client disconnected"}, "answered"),
        ({"http.status": 204, "reason": "DirectResponse"}, "answered"),
        ({"http.status": 401, "reason": "APIKeyAuth"}, "refused"),
        ({"http.status": 200, "reason": "MCP"}, "refused"),
        ({"http.status": 403, "reason": "Authorization"}, "refused"),
        ({"http.status": 404, "reason": "NotFound"}, "refused"),
        ({"http.status": 429, "reason": "RateLimit"}, "refused"),
        ({"http.status": 400, "reason": "InvalidRequest"}, "refused"),
        ({"http.status": 403, "reason": "SomethingNew"}, "refused"),
        ({"http.status": 403, "rule": "closed"}, "refused"),
        ({"http.status": 405, "reason": "Internal", "error": "method not allowed"}, "refused"),
        ({"http.status": 500, "reason": "Internal", "error": "internal error", "detail": "x: KeyError"}, "refused"),
        ({"http.status": 500, "reason": "Internal", "error": "request failed: KeyError at a.py:1"}, "failed"),
        ({"http.status": 502, "reason": "UpstreamFailure"}, "failed"),
        ({"http.status": 504, "reason": "Timeout"}, "failed"),
        ({"http.status": 503, "reason": "NoHealthyBackend"}, "failed"),
        ({"http.status": "500"}, "failed"),
        ({}, "answered"),
    ],
)
def test_outcome(fields: Fields, outcome: str) -> None:
    assert is_refused(fields) == (outcome == "refused")
    found = tally([fields]).total
    assert (found.calls, found.refused, found.failed) == (1, outcome == "refused", outcome == "failed")
    assert outcome == "refused" or has_failed(fields) == (outcome == "failed")


@pytest.mark.parametrize(
    ("fields", "by", "key"),
    [
        ({"principal": "a", "gen_ai.tool.name": "t", "mcp.method.name": "tools/call"}, "principal,tool", ("a", "t")),
        ({"principal": "a", "gen_ai.tool.name": "t"}, "called", ("tool t",)),
        ({"gen_ai.prompt.name": "p"}, "principal,called", (None, "prompt p")),
        ({"mcp.resource.uri": "file:///x", "mcp.method.name": "resources/read"}, "called", ("resource file:///x",)),
        ({"gen_ai.request.model": "m", "gen_ai.operation.name": "chat"}, "called,model", ("model m", "m")),
        ({"mcp.method.name": "tools/list", "route": "r"}, "called", ("mcp tools/list",)),
        ({"a2a.method": "SendMessage", "route": "r"}, "called", ("a2a SendMessage",)),
        ({"gen_ai.operation.name": "list_models"}, "called", ("llm list_models",)),
        ({"route": "r", "http.path": "/x?y"}, "called", ("route r",)),
        ({"http.path": "/x?y"}, "called,path", ("path /x", "/x?y")),
        ({}, "called", ("nothing",)),
        ({"http.status": 200}, "status", ("200",)),
        ({"http.status": "200"}, "http.status", ("200",)),
        ({"team": "blue"}, "team", ("blue",)),
        ({"team": ["a", 1, None]}, "team", ('["a", 1, null]',)),
        ({"team": True}, "team", ("true",)),
        ({"rule": "r", "reason": "MCP"}, "rule, reason", ("r", "MCP")),
    ],
)
def test_counted_by(fields: Fields, by: str, key: tuple[str | None, ...]) -> None:
    assert list(tally([fields], by).groups) == [key]


@pytest.mark.parametrize("by", ["", "principal,", "tool,tool", "tool,gen_ai.tool.name"])
def test_not_to_be_counted_by(by: str) -> None:
    with pytest.raises(ConfigurationError, match="--by: "):
        keys_of(by)


def test_text_and_numbers_of_json_are_counted_alike() -> None:
    found = tally(
        [
            {"gen_ai.usage.input_tokens": "12", "gen_ai.usage.output_tokens": "3", "duration": "7ms"},
            {"gen_ai.usage.input_tokens": 12, "gen_ai.usage.output_tokens": 3, "duration": "7ms"},
        ]
    ).total
    assert (found.input, found.output, found.quantile(0.5), found.quantile(0.99)) == (24, 6, 7, 7)


@pytest.mark.parametrize(
    "value", ["", "x", "-1", "1e3", "9" * 5000, -1, 1.5, float("inf"), True, None, [1], "²", 10**40]
)
def test_what_is_no_number_counts_as_none(value: Any) -> None:
    names = ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "duration")
    found = tally([dict.fromkeys(names, value), {"duration": f"{value}ms"}]).total
    assert (found.calls, found.input, found.output) == (2, 0, 0)
    assert found.quantile(0.5) is None


def test_refusals_are_counted_by_rule_or_where_it_has_no_name_by_why() -> None:
    refused = {"reason": "MCP", "error": "mcp: Unknown tool: x", "gen_ai.tool.name": "x"}
    found = tally(
        [
            {**refused, "rule": "r", "principal": "a"},
            {**refused, "rule": "r", "principal": "b", "detail": "differs", "gen_ai.tool.name": "y"},
            {**refused, "detail": "none of 2 allow rules matched"},
            {**refused, "principal": "a"},
        ]
    )
    causes = [(c.source, c.rule, c.calls, dict(c.who), dict(c.what)) for c in found.refusals.values()]
    assert causes == [
        ("MCP", "r", 2, {"a": 1, "b": 1}, {"tool x": 1, "tool y": 1}),
        ("MCP", None, 1, {None: 1}, {"tool x": 1}),
        ("MCP", None, 1, {"a": 1}, {"tool x": 1}),
    ]
    assert [c.text for c in found.refusals.values()][1:] == ["none of 2 allow rules matched", "mcp: Unknown tool: x"]
    first = next(iter(found.refusals.values()))
    assert (first.first[17:19], first.last[17:19]) == ("00", "01")


@pytest.mark.parametrize(
    ("fields", "causes"),
    [
        ({"shadow.policy": "p", "shadow.rule": "r", "shadow.detail": "d"}, [("p", "r", "d")]),
        ({"shadow.rule": "r"}, [(None, "r", "")]),
        ({"shadow.policy": "p", "shadow.detail": "d"}, [("p", None, "d")]),
        (
            {"shadow.policy": ["p", "q"], "shadow.rule": ["r", None], "shadow.detail": ["d", "e"]},
            [("p", "r", ""), ("q", None, "e")],
        ),
        (
            {"shadow.policy": json.dumps(["p", "q"]), "shadow.rule": json.dumps(["r", None])},  # as text has it
            [("p", "r", ""), ("q", None, "")],
        ),
        ({"shadow.rule": ["r", "r"]}, [(None, "r", "")]),  # of one request, once
        ({"shadow.rule": "[oh"}, [(None, "[oh", "")]),
    ],
)
def test_shadows_are_apart_from_refusals(fields: Fields, causes: list[tuple[str | None, str | None, str]]) -> None:
    found = tally([{**fields, "http.status": 200}])
    assert (found.total.calls, found.total.refused, found.total.shadow) == (1, 0, 1)
    assert found.refusals == {}
    assert [(cause.source, cause.rule) for cause in found.shadows.values()] == [cause[:2] for cause in causes]
    assert all(cause.calls == 1 for cause in found.shadows.values())


def test_who_was_refused_for_real_needs_no_shadow() -> None:
    found = tally([{"reason": "MCP", "shadow.rule": "r"}])
    assert (found.total.refused, found.total.shadow, found.shadows) == (1, 0, {})


def test_groups_are_bounded_and_the_heaviest_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MAX_GROUPS", 20)
    monkeypatch.setattr(bounds, "MAX_CAUSES", 10)
    monkeypatch.setattr(bounds, "MAX_NAMES", 5)
    lines: list[Fields] = []
    for number in range(1000):
        lines.append({"principal": f"flood-{number}", "error": f"no {number}", "reason": "MCP", "duration": "5ms"})
        lines.append({"principal": "alice", "rule": "r", "reason": "MCP", "gen_ai.tool.name": f"t{number % 3}"})
        lines.append({"principal": f"flood-{number}", "rule": "r", "reason": "MCP", "shadow.rule": f"s{number}"})
        lines.append({"principal": "bob", "shadow.rule": f"s{number}", "gen_ai.usage.input_tokens": 2})
    found = tally(lines, "principal")
    assert len(found.groups) <= 40
    assert len(found.refusals) <= 21
    assert len(found.shadows) <= 21
    assert all(len(cause.who) <= 10 and len(cause.what) <= 10 for cause in found.refusals.values())
    assert found.heaviest()[0][1].calls == found.heaviest()[1][1].calls == 1000
    assert {key for key, _ in found.heaviest()[:2]} == {("alice",), ("bob",)}
    groups = [*found.groups.values(), found.others]
    assert sum(group.calls for group in groups) == found.total.calls == 4000
    assert sum(group.refused for group in groups) == found.total.refused == 3000
    assert sum(group.input for group in groups) == found.total.input == 2000
    assert sum(cause.calls for cause in found.refusals.values()) == 3000
    assert sum(cause.calls for cause in found.shadows.values()) == 1000
    assert found.folded


KEYS = [*SHORT.values(), "duration", "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"]
KEYS += ["shadow.policy", "shadow.rule", "shadow.detail"]
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@settings(max_examples=40)
@given(st.lists(st.dictionaries(st.sampled_from(KEYS), values, max_size=5), max_size=5))
def test_a_value_of_json_may_be_anything(lines: list[Fields]) -> None:
    """A log that was added to has fields of any type under any name."""
    found = tally(lines, ",".join(SHORT))
    assert found.total.calls == len(lines) == sum(group.calls for group in found.groups.values())


def test_long_values_are_counted_as_one() -> None:
    assert len(tally([{"principal": "x" * 300 + str(n)} for n in range(5)], "principal").groups) == 1
    nested: Any = []
    for _ in range(100_000):
        nested = [nested]
    assert short(nested) == "(nested too deeply)"


def test_time_is_bounded() -> None:
    timeline = Timeline()
    for minute in range(0, 400_000, 7):
        timeline.at(minute).calls += 1
    assert len(timeline.moments) <= MAX_MOMENTS
    step, moments = timeline.spread(96)
    assert step in STEPS
    assert len(moments) <= 97
    assert sum(moment.calls for _, moment in moments) == len(range(0, 400_000, 7))
    assert [start for start, _ in moments] == list(range(moments[0][0], moments[-1][0] + 1, step))


def test_the_whole_of_time_has_steps() -> None:
    timeline = Timeline()
    for minute in range(-1_035_000_000, 4_223_000_000, 1_000_003):  # the years 1 to 9999
        timeline.at(minute).calls += 1
    assert len(timeline.moments) <= MAX_MOMENTS
    assert len(timeline.spread(96)[1]) <= 110
    assert all(later % step == 0 for step, later in pairwise(STEPS))
