"""The report for terminals: what it says, that it fits, and that a terminal obeys nothing in it."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from agentgate.audit import shown
from agentgate.audit.findings import Findings, find
from agentgate.audit.names import keys_of
from agentgate.audit.report import ROWS, report

from .day import day

HOSTILE = "\x1b]0;owned\x07\x9b31m\u202elatot\u2028\n<script>alert(1)</script>"


def found(tmp_path: Path, lines: Iterable[str], by: str = "principal,called") -> Findings:
    path = tmp_path / "access.log"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return find([str(path)], keys_of(by), since=None, until=None, told=lambda done, size: None)


def line(fields: str) -> str:
    return f"2026-11-24T10:00:00.000000Z\tinfo\trequest {fields}"


def test_a_day(tmp_path: Path) -> None:
    said = list(report(found(tmp_path, day(20_000)), 100))
    assert said[0].endswith("access.log: 20,000 calls")
    assert said[1] == "2026-11-24 00:00:18 to 23:59:44 UTC"
    assert said[2].split() == ["refused", "547", "(2.7", "%)"]
    assert "41 lines are missing: the gateway could not write them, or not in time." in said
    assert "2 lines are not of the access log, or damaged, and were passed over." in said
    rules = said[said.index("Refused, and by which rule") + 3 : said.index("Let through, but would have been refused")]
    drops = next(line for line in rules if "nobody drops tables" in line)
    assert " ".join(drops.split()) == "79 nobody drops tables MCP research-agent tool drop_table"
    shadow = said[said.index("Let through, but would have been refused") + 3]
    assert " ".join(shadow.split()) == "334 exports need a ticket CELRules billing-agent tool export_orders"
    heads = said[said.index("Calls by principal, called") + 1]
    assert heads.split() == ["principal", "called", "calls", "refused", "shadow", "failed", "in", "out", "p50", "p99"]


@pytest.mark.parametrize("columns", [80, 100, 200])
def test_it_fits(tmp_path: Path, columns: int) -> None:
    lines = [*day(3000), line(f"principal={'p' * 200} gen_ai.tool.name={'t' * 200} rule={'r' * 200} reason=MCP")]
    logs = found(tmp_path, lines)
    logs.files = ["access.log", *(f"access.log.{number}.gz" for number in range(30))]
    said = list(report(logs, columns))
    assert said[0] == "access.log and 30 more: 3,001 calls"
    assert max(map(len, said)) <= columns


@pytest.mark.parametrize("columns", [1, 40, 100])
def test_a_column_may_be_narrower_than_an_ellipsis(tmp_path: Path, columns: int) -> None:
    """Few calls have short numbers: `in` with 1 token is two columns wide."""
    lines = [
        line("principal=a gen_ai.tool.name=t gen_ai.usage.input_tokens=1 gen_ai.usage.output_tokens=3 duration=1ms")
    ]
    heads, _, row = list(report(found(tmp_path, lines), columns))[-3:]
    assert heads.split() == ["principal", "called", "calls", "in", "out", "p50", "p99"]
    assert row.split() == ["a", "tool", "t", "1", "1", "3", "1ms", "1ms"]


def test_columns_that_say_nothing_are_left_out(tmp_path: Path) -> None:
    said = "\n".join(report(found(tmp_path, [line("principal=alice http.path=/x duration=3ms")]), 100))
    assert said.splitlines()[2:] == [
        "  refused                 0 (0.0 %)",
        "  duration                p50 3ms, p99 3ms",
        "",
        "Calls by principal, called",
        "principal  called   calls  p50  p99",
        "---------  -------  -----  ---  ---",
        "alice      path /x      1  3ms  3ms",
    ]


def test_no_calls(tmp_path: Path) -> None:
    assert list(report(found(tmp_path, ["hello", ""]), 100))[1:] == [
        "1 lines are not of the access log, or damaged, and were passed over."
    ]


def test_many_groups_are_told_as_a_number(tmp_path: Path) -> None:
    lines = [line(f"principal=p{number:03} rule=r{number} reason=MCP") for number in range(100)]
    said = list(report(found(tmp_path, lines), 100))
    assert said.count("... and 70 more, of 70 calls; --json has them all") == 2
    assert sum(text.startswith("p0") for text in said) == ROWS


@pytest.mark.parametrize("field", ["principal", "gen_ai.tool.name", "rule", "error", "reason", "shadow.rule", "team"])
def test_a_terminal_obeys_nothing(tmp_path: Path, field: str) -> None:
    fields = {"principal": "a", "reason": "MCP", "team": "t", field: HOSTILE}
    if field == "shadow.rule":
        del fields["reason"]
    text = " ".join(f"{name}={json.dumps(value)}" for name, value in fields.items())
    said = list(report(found(tmp_path, [line(text)], "principal,called,team"), 400))
    assert all(text.isprintable() for text in said)
    assert any("]0;owned" in text for text in said)


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (9999, "9,999"), (10_000, "10k"), (12_345_678, "12.3M"), (999_999, "1e+03k"), (5 * 10**13, "50T")],
)
def test_tokens(number: int, text: str) -> None:
    assert shown.tokens(number) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(0, 10, "0.0 %"), (1, 10_000, "<0.1 %"), (25, 1000, "2.5 %"), (9999, 10_000, "99.9 %"), (7, 7, "100.0 %")],
)
def test_share(part: int, whole: int, text: str) -> None:
    assert shown.share(part, whole) == text


@pytest.mark.parametrize(
    ("milliseconds", "text"), [(None, "-"), (0, "0ms"), (999, "999ms"), (1234, "1.23s"), (100_000, "100s")]
)
def test_duration(milliseconds: float | None, text: str) -> None:
    assert shown.duration(milliseconds) == text


def test_wide_letters_take_two_columns() -> None:
    assert shown.width("日本") == 4
    assert shown.width("e\u0301") == 1
    assert shown.cut("日本語", 5) == "日本…"
    assert shown.lines("日本語", 5) == ["日本…"]
