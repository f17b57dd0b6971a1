"""What is a line of the access log, and what its fields are."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgate import AccessLog, Gate, Request, allow, authorizer, deny
from agentgate.audit.lines import dropped, read_line
from agentgate.observe import access_log
from agentgate.testing import drive

from .day import day

TIME = "2026-11-24T10:00:00.000001Z"


def text(fields: str, time: str = TIME) -> str:
    return f"{time}\tinfo\trequest {fields}"


def as_json(**fields: Any) -> str:
    return json.dumps({"level": "info", "time": TIME, "scope": "request", **fields})


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        (text("a=b c.d=e/f"), {"a": "b", "c.d": "e/f"}),
        (text('error="no API Key found" a=b'), {"error": "no API Key found", "a": "b"}),
        (text(r'a="say \"hi\"" b="\u0000\n"'), {"a": 'say "hi"', "b": "\0\n"}),
        (text('a="x=y z" b=c'), {"a": "x=y z", "b": "c"}),
        (text('a=""'), {"a": ""}),
        (text(r'a="\ud800"'), {"a": "\ud800"}),
        # agentgateway's: values are bare whatever is in them, but for some, which have Rust's escapes
        (text("http.path=/a?b=c d=e", "2026-11-24T10:00:00.59908Z"), {"http.path": "/a?b=c", "d": "e"}),
        (text(r'error="\u{1b}[0m"'), {"error": r"\u{1b}[0m"}),
    ],
)
def test_text(line: str, fields: dict[str, str]) -> None:
    found = read_line(line)
    assert found is not None
    assert found.fields == fields
    assert found.time == line.partition("\t")[0]
    assert found.minute * 60 == 1_795_514_400


def test_json() -> None:
    found = read_line(as_json(principal="alice", **{"http.status": 200, "shadow.rule": ["a", "b"]}))
    assert found is not None
    assert (found.time, found.minute * 60) == (TIME, 1_795_514_400)
    assert (found.fields["principal"], found.fields["http.status"]) == ("alice", 200)
    assert found.fields["shadow.rule"] == ["a", "b"]
    assert read_line(as_json(replay={"": 1})) is not None


@pytest.mark.parametrize(
    "line",
    [
        "",
        "hello",
        "{}",
        "{",
        "[" * 100_000,
        '{"a":' * 100_000,
        TIME,
        text(""),
        text("a"),
        text("a=b c"),
        text("=b"),
        text("a=b  c=d"),
        text('a="b'),
        text('a="b"c=d'),
        text('a=b"c"'),
        text("a=b", "2026-13-24T10:00:00.0Z"),
        text("a=b", "2026-02-30T10:00:00.0Z"),
        text("a=b", "0000-01-01T10:00:00.0Z"),
        text("a=b", "2026-11-24T10:00:00Z"),
        text("a=b").replace("info", "warn"),
        text("a=b").replace("request ", "response "),
        json.dumps({"level": "info", "time": TIME, "scope": "startup"}),
        json.dumps({"level": "info", "time": "now", "scope": "request"}),
        json.dumps({"level": "info", "time": 1, "scope": "request"}),
        json.dumps({"level": "info", "scope": "request"}),
        # Whoever reads these otherwise takes a request's word for another request:
        text("principal=eve principal=alice"),
        text('principal=eve error="x" principal=alice'),
        as_json(principal="eve")[:-1] + ', "principal": "alice"}',
        'INFO: "GET /?' + text("principal=alice"),
        "INFO: GET /" + as_json(principal="alice"),
        " " + text("principal=alice"),
    ],
)
def test_no_line_of_it(line: str) -> None:
    assert read_line(line) is None


@pytest.mark.parametrize("format", ["text", "json"])
def test_every_line_of_a_day_is_read(format: Any) -> None:
    others = [line for line in day(2000, format) if read_line(line) is None]
    assert len(others) == 3
    assert sum(map(dropped, others)) == 41


@authorizer
def nobody_drops(request: Request) -> Any:
    return deny(rule='nobody "drops"\n\u202e') if request.method == "DELETE" else allow()


async def app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.mark.anyio
@pytest.mark.parametrize("format", ["text", "json"])
async def test_what_the_log_writes_is_read_as_it_was(format: Any) -> None:
    lines: list[str] = []
    gate = Gate(app, authorize=[nobody_drops], observe=[AccessLog(lines.append, format=format)])
    await drive(gate, Request.http("GET", "/a%20b?c=d&token=e"))
    await drive(gate, Request.http("DELETE", "/a"))
    let_through, refused = (read_line(line) for line in lines)
    assert let_through is not None
    assert refused is not None
    assert let_through.fields["http.path"] == "/a%20b?c=d&token=<redacted>"
    assert str(let_through.fields["http.status"]) == "200"
    assert refused.fields["rule"] == 'nobody "drops"\n\u202e'
    assert refused.fields["reason"] == "Authorization"


@given(st.text())
def test_no_line_is_too_strange(line: str) -> None:
    read_line(line)
    read_line(text(line))
    dropped(line)


@pytest.mark.parametrize(
    ("line", "number"),
    [
        (f'{TIME}\twarn\taccess_log dropped=41 message="lines were dropped: whoever takes them is too slow"', 41),
        (json.dumps({"level": "warn", "time": TIME, "scope": "access_log", "dropped": 41, "message": "lines"}), 41),
        (f"x{TIME}\twarn\taccess_log dropped=41 ", 0),
        (f"{TIME}\tinfo\trequest dropped=41 ", 0),
        ("41 ", 0),
        (as_json(dropped=41), 0),
        ("41 lines were dropped", 0),
    ],
)
def test_a_notice_is_read(line: str, number: int) -> None:
    assert dropped(line) == number


@pytest.mark.parametrize("format", ["text", "json"])
def test_the_notices_of_the_log_are_read(format: str) -> None:
    notice = access_log._NOTICES[format](12)
    assert (dropped(notice), read_line(notice)) == (12, None)
