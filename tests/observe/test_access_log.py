"""The access log: agentgateway's keys in its order, one line a request, whatever the client sent."""

import asyncio
import json
import logging
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgate import (
    AccessLog,
    AccessLogMiddleware,
    APIKeyAuth,
    APIKeyMiddleware,
    ConfigurationError,
    Edge,
    Gate,
    HTTPBackend,
    Principal,
    Query,
    Reason,
    Request,
    Route,
    authorizer,
    create_gateway,
    deny,
    new_key,
)
from agentgate.observe.fields import MAX_VALUE, fields
from agentgate.record import Record
from agentgate.request import authenticated
from agentgate.testing import drive, http_scope, websocket_scope

pytestmark = pytest.mark.anyio

KEY = new_key()
FORMATS = ("text", "json")

_PAIR = re.compile(r'([a-z.]+)=("(?:[^"\\\x00-\x1f]|\\.)*"|[!#-<>-~]+)(?: |$)')
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z").fullmatch


def parse(line: str, format: str) -> dict[str, str]:
    """A line of the log, read by the rules of logfmt or JSON: all of it, or the test fails."""
    assert line.isascii()
    assert line.isprintable() or format == "text"
    assert len(line.splitlines()) == 1
    if format == "json":
        entry = json.loads(line)
        assert list(entry)[:3] == ["level", "time", "scope"]
        assert (entry.pop("level"), entry.pop("scope")) == ("info", "request")
        assert _TIME(entry.pop("time"))
        return {key: str(value) for key, value in entry.items()}
    time, level, rest = line.split("\t")
    assert _TIME(time)
    assert level == "info"
    target, _, pairs = rest.partition(" ")
    assert target == "request"
    entry, end = {}, 0
    while end < len(pairs):
        match = _PAIR.match(pairs, end)
        assert match is not None, pairs[end:]
        assert match[1] not in entry
        entry[match[1]] = json.loads(match[2]) if match[2].startswith('"') else match[2]
        end = match.end()
    return entry


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


def fixed(line: str) -> str:
    """The line without what changes from run to run."""
    line = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", "<time>", line)
    return re.sub(r"\d+ms", "0ms", line)


TUTORIAL = {
    ("text", 401): "<time>\tinfo\trequest src.addr=127.0.0.1:50000 http.method=GET http.host=www.example.com"
    " http.path=/headers http.version=HTTP/1.1 http.status=401 protocol=http"
    ' error="api key authentication failure: no API Key found" reason=APIKeyAuth duration=0ms',
    ("text", 200): "<time>\tinfo\trequest src.addr=127.0.0.1:50000 http.method=GET http.host=www.example.com"
    " http.path=/headers http.version=HTTP/1.1 http.status=200 protocol=http duration=0ms principal=alice",
    ("json", 401): '{"level": "info", "time": "<time>", "scope": "request", "src.addr": "127.0.0.1:50000",'
    ' "http.method": "GET", "http.host": "www.example.com", "http.path": "/headers", "http.version": "HTTP/1.1",'
    ' "http.status": 401, "protocol": "http", "error": "api key authentication failure: no API Key found",'
    ' "reason": "APIKeyAuth", "duration": "0ms"}',
    ("json", 200): '{"level": "info", "time": "<time>", "scope": "request", "src.addr": "127.0.0.1:50000",'
    ' "http.method": "GET", "http.host": "www.example.com", "http.path": "/headers", "http.version": "HTTP/1.1",'
    ' "http.status": 200, "protocol": "http", "duration": "0ms", "principal": "alice"}',
}


@pytest.mark.parametrize(("format", "status"), TUTORIAL)
async def test_the_lines_of_the_tutorial(format: Any, status: int) -> None:
    """The refused and the accepted request are the lines that agentgateway's reader knows."""
    lines: list[str] = []
    gate = Gate(hello, authenticate=[APIKeyAuth({"alice": KEY})], observe=[AccessLog(lines.append, format=format)])
    headers = {"authorization": f"Bearer {KEY}"} if status == 200 else {}
    exchange = await drive(gate, http_scope("GET", "/headers", host="www.example.com", headers=headers))
    assert exchange.status == status
    assert [fixed(line) for line in lines] == [TUTORIAL[format, status]]


def test_all_fields_in_their_order() -> None:
    """Every field has its place, whatever is filled in first."""
    record = Record(Request.http("POST", "/mcp?x=1", host="a.example:80", client=("::1", 4711)))
    record.edge = Edge()
    record.status, record.route, record.endpoint, record.protocol = 403, "ns/tools", "10.244.0.7:8080", "mcp"
    record.refuse(deny("closed", rule="nobody drops", detail="drop_table"))
    record.duration = 0.0129
    assert fields(record) == {
        "route": "ns/tools",
        "endpoint": "10.244.0.7:8080",
        "src.addr": "[::1]:4711",
        "http.method": "POST",
        "http.host": "a.example:80",
        "http.path": "/mcp?x=<redacted>",
        "http.version": "HTTP/1.1",
        "http.status": 403,
        "protocol": "mcp",
        "error": "closed",
        "reason": "Authorization",
        "duration": "12ms",
        "rule": "nobody drops",
        "detail": "drop_table",
    }
    assert list(fields(record))[:3] == ["route", "endpoint", "src.addr"]
    assert list(fields(record))[-4:] == ["reason", "duration", "rule", "detail"]


@pytest.mark.parametrize(
    ("principals", "subject"),
    [
        pytest.param([Principal("a", "jwt", {"sub": "bob", "email": "x"})], "bob", id="a verified token"),
        pytest.param([Principal("a", "jwt", {"sub": "a b=c"})], "a b=c", id="any text"),
        pytest.param([Principal("a", "jwt", {"sub": 7})], None, id="a subject that is no text"),
        pytest.param([Principal("a", "jwt", {})], None, id="no subject"),
        pytest.param([Principal("a", "apiKey", {"sub": "bob"})], None, id="a key's metadata"),
        pytest.param([], None, id="nobody"),
    ],
)
def test_the_subject_of_a_token_stands_behind_the_status(principals: Any, subject: str | None) -> None:
    record = Record(Request.http())
    record.status = 200
    for principal in principals:
        authenticated(record.view, principal)
    found = fields(record)
    assert found.get("jwt.sub") == subject
    if subject is not None:
        keys = [*found]
        assert keys[keys.index("jwt.sub") - 1 : keys.index("jwt.sub") + 2] == ["http.status", "jwt.sub", "protocol"]


def test_what_is_not_known_is_left_out() -> None:
    """Fields without a value are no fields."""
    record = Record(Request(http_scope("GET", "/", host=None, client=None, http_version="2")))
    record.protocol = None
    assert fields(record) == {
        "http.method": "GET",
        "http.path": "/",
        "http.version": "HTTP/2.0",
        "duration": "0ms",
    }


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain", "rule=plain"),
        ("a/b:c.d-e_f?g&h", "rule=a/b:c.d-e_f?g&h"),
        ("two words", 'rule="two words"'),
        ("a=b", 'rule="a=b"'),
        ("a=", 'rule="a="'),
        ("=", 'rule="="'),
        ('say "hi"', r'rule="say \"hi\""'),
        ('"', r'rule="\""'),
        ("back\\slash", "rule=back\\slash"),
        ("back\\ slash", r'rule="back\\ slash"'),
        ("a\nb", r'rule="a\nb"'),
        ("a\r\nhttp.status=200", r'rule="a\r\nhttp.status=200"'),
        ("a\tb", r'rule="a\tb"'),
        ("\x1b[31mred", r'rule="\u001b[31mred"'),
        ("a\x85b\u2028c", r'rule="a\u0085b\u2028c"'),
        ("caf\u00e9", r'rule="caf\u00e9"'),
        ("\ud800", r'rule="\ud800"'),
        ("\x00", r'rule="\u0000"'),
        ("\x7f", r'rule="\u007f"'),
    ],
)
def test_a_value_is_quoted_when_it_needs_it(value: str, written: str) -> None:
    """A value that is not one word of visible ASCII is a JSON string: no value can look like another field."""
    lines: list[str] = []
    record = Record(Request.http())
    record.duration = 0.0
    record.refusal = deny(rule=value)
    AccessLog(lines.append).end(None, record)
    assert lines[0].endswith(" " + written), lines[0]


@pytest.mark.parametrize("format", FORMATS)
def test_a_value_is_never_long(format: Any) -> None:
    """A client cannot make a line of any size: values are cut, and say so."""
    lines: list[str] = []
    record = Record(Request.http("GET", "/" + "a" * 100_000, host="b" * 100_000))
    record.refuse(deny("c" * 100_000, detail="d" * 100_000))
    AccessLog(lines.append, format=format).end(None, record)
    entry = parse(lines[0], format)
    assert len(lines[0]) < 5 * MAX_VALUE
    for name in ("http.path", "http.host", "error", "detail"):
        assert len(entry[name]) == MAX_VALUE + 3
        assert entry[name].endswith("...")


any_bytes = st.binary(max_size=40)
texts = st.text(max_size=40)


@given(path=any_bytes, host=any_bytes, query=any_bytes, method=texts, version=texts, error=texts, rule=texts)
@pytest.mark.parametrize("format", FORMATS)
def test_a_line_is_a_line(
    format: Any, path: bytes, host: bytes, query: bytes, method: str, version: str, error: str, rule: str
) -> None:
    """Any bytes and any text in any field make exactly one line, which reads back as what was put in."""
    lines: list[str] = []
    scope = http_scope(method, raw_path=path, headers=[(b"host", host)], http_version=version)
    record = Record(Request({**scope, "query_string": query}))
    record.fail(error, Reason.INTERNAL)
    record.refusal = deny(rule=rule)
    AccessLog(lines.append, format=format).end(None, record)
    (line,) = lines
    entry = parse(line, format)
    assert entry["http.path"].startswith(path.partition(b"?")[0].decode("latin-1"))
    assert entry["http.method"] == (method or "GET")
    for name, value in (("http.host", host.decode("latin-1")), ("error", error), ("rule", rule)):
        assert entry.get(name, "") == value
    assert entry["duration"] == "0ms"


@pytest.mark.parametrize(
    ("query", "logged"),
    [
        ("a=1", "a=1"),
        ("api_key=x", "api_key=<redacted>"),
        ("a=1&api_key=x&b=2", "a=1&api_key=<redacted>&b=2"),
        ("API_KEY=x", "API_KEY=<redacted>"),
        ("%61pi_key=x", "%61pi_key=<redacted>"),
        ("api_key+=x", "api_key+=<redacted>"),
        ("api_key=", "api_key=<redacted>"),
        ("api_key", "api_key"),
        ("api_key=x=y", "api_key=<redacted>"),
        ("token=x&token=y", "token=<redacted>&token=<redacted>"),
        ("monkey=x", "monkey=x"),
        ("ticket=x", "ticket=<redacted>"),
        ("Ticket=x", "Ticket=<redacted>"),
        ("access_token=x&signature=y&code=z", "access_token=<redacted>&signature=<redacted>&code=<redacted>"),
    ],
)
async def test_credentials_in_the_query_are_hidden(query: str, logged: str) -> None:
    """Parameters that usually hold a credential, and those that a Gate reads one from, show no value."""
    lines: list[str] = []
    gate = Gate(
        hello,
        authenticate=[APIKeyAuth([KEY], location=Query("ticket"))],
        mode="permissive",
        observe=[AccessLog(lines.append)],
    )
    await drive(gate, http_scope("GET", f"/x?{query}"))
    assert parse(lines[0], "text")["http.path"] == f"/x?{logged}"


async def test_a_query_that_no_edge_has_passed_shows_no_value() -> None:
    """What is refused outside of the Gate that reads the credential is logged without it."""
    lines: list[str] = []
    inner = APIKeyMiddleware(hello, [KEY], location=Query("ticket"))
    await drive(AccessLogMiddleware(inner, lines.append), http_scope("GET", f"/a//b?ticket={KEY}&a=1&flag"))
    entry = parse(lines[0], "text")
    assert (entry["http.status"], entry["http.path"]) == ("400", "/a//b?ticket=<redacted>&a=<redacted>&flag")


# -- when ------------------------------------------------------------------------------------------------------------


async def test_the_line_is_written_after_the_last_byte() -> None:
    """A stream's line comes when the stream is over, and before the app's own tidying up."""
    events: list[str] = []

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for part in (b"a", b"b"):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"c"})
        events.append("the app is done")

    gate = Gate(stream, observe=[AccessLog(lambda line: events.append("the line"))])
    await drive(gate, http_scope(), on_send=lambda message: events.append(message.get("body", b"start").decode()))
    assert events == ["start", "a", "b", "c", "the line", "the app is done"]


async def test_a_client_that_goes_away_is_logged() -> None:
    """When the client is gone, the line comes with the app's end."""
    lines: list[str] = []

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while (await receive())["type"] != "http.disconnect":
            await send({"type": "http.response.body", "body": b"abc", "more_body": True})
        assert not lines

    await drive(Gate(stream, observe=[AccessLog(lines.append)]), http_scope(), disconnect_after=2)
    assert [parse(line, "text")["http.status"] for line in lines] == ["200"]


async def test_a_client_that_is_gone_when_we_send_is_logged() -> None:
    """A server that raises for a lost client ends the response, once."""
    lines: list[str] = []

    async def gone(message: Any) -> None:
        raise OSError("hunter2")

    with pytest.raises(OSError, match="hunter2"):
        await Gate(hello, observe=[AccessLog(lines.append)])(http_scope(), None, gone)  # type: ignore[arg-type]
    assert len(lines) == 1
    assert "OSError at test_access_log.py" in lines[0]
    assert "hunter2" not in lines[0]


@pytest.mark.parametrize("kind", [ValueError, asyncio.CancelledError])
@pytest.mark.parametrize("started", [True, False])
async def test_an_app_that_fails_is_logged(kind: type[BaseException], started: bool) -> None:
    """An app's error is a line with kind and place; a request without an answer has the status of the server's."""
    lines: list[str] = []

    async def fails(scope: Any, receive: Any, send: Any) -> None:
        if started:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise kind("hunter2")

    with pytest.raises(kind):
        await drive(Gate(fails, observe=[AccessLog(lines.append)]), http_scope())
    (line,) = lines
    assert "hunter2" not in line
    entry = parse(line, "text")
    assert re.fullmatch(rf"request failed: {kind.__name__} at test_access_log\.py:\d+", entry["error"])
    expected = "200" if started else ("500" if kind is ValueError else None)
    assert entry.get("http.status") == expected


async def test_refusals_of_every_kind_are_logged() -> None:
    """What the edge refuses, and a websocket that is denied, have their line, too."""
    lines: list[str] = []
    gate = Gate(hello, authenticate=[APIKeyAuth([KEY])], observe=[AccessLog(lines.append)], edge=Edge(max_headers=5))
    for scope in (
        http_scope("GET", "/../x"),
        http_scope(headers=[("a", "b")] * 9),
        http_scope("OPTIONS", "*"),
        websocket_scope(),
        websocket_scope(denial=False),
    ):
        await drive(gate, scope)
    entries = [parse(line, "text") for line in lines]
    assert [(e["http.status"], e["reason"], e.get("detail")) for e in entries] == [
        ("400", "InvalidRequest", None),
        ("431", "InvalidRequest", "more than 5 headers"),
        ("204", "DirectResponse", None),
        ("401", "APIKeyAuth", None),
        ("403", "APIKeyAuth", None),
    ]


# -- where to --------------------------------------------------------------------------------------------------------


def finished() -> Record:
    record = Record(Request.http("GET", "/%25s"))
    record.duration = 0.0
    return record


def test_a_logger_gets_the_line(caplog: pytest.LogCaptureFixture) -> None:
    """A Logger gets the line at INFO, percent signs and all."""
    with caplog.at_level(logging.INFO):
        AccessLog(logging.getLogger("access")).end(None, finished())
    (entry,) = caplog.records
    assert (entry.name, entry.levelname) == ("access", "INFO")
    assert parse(entry.getMessage(), "text")["http.path"] == "/%25s"


@pytest.mark.parametrize("sink", ["access.log", 5, b""])
def test_what_cannot_take_a_line_is_no_sink(sink: Any) -> None:
    """A sink is a Logger or a callable; anything else is refused when the app is built."""
    with pytest.raises(TypeError, match="a sink is"):
        AccessLog(sink)


@pytest.mark.parametrize("format", ["", "xml", None, "JSON"])
def test_a_format_is_one_of_two(format: Any) -> None:
    """A format that is none is a fault."""
    with pytest.raises(ConfigurationError, match="format is one of text, json"):
        AccessLog(format=format)


def test_it_says_what_it_is() -> None:
    """The repr tells the format."""
    assert repr(AccessLog(print, format="json")) == "AccessLog(format='json')"


def test_the_clock_is_right() -> None:
    """The time of a line is now, in UTC, with six digits of microseconds."""
    import datetime

    lines: list[str] = []
    log = AccessLog(lines.append)
    before = datetime.datetime.now(datetime.UTC)
    for _ in range(3):
        log.end(None, finished())
    after = datetime.datetime.now(datetime.UTC)
    times = [datetime.datetime.fromisoformat(line.partition("\t")[0]) for line in lines]
    assert [before, *times, after] == sorted([before, *times, after])


async def test_a_refusal_on_the_way_in_hides_a_credential_that_only_an_inner_gate_knows() -> None:
    """An outer policy that refuses first does not know which parameter is a key, so no value is shown."""
    lines: list[str] = []
    inner = Gate(hello, authenticate=[APIKeyAuth({"alice": KEY}, location=Query("ticket"))])
    closed = authorizer(lambda request: deny("closed"))
    outer = Gate(inner, authorize=[closed], observe=[AccessLog(lines.append)])
    await drive(outer, http_scope("GET", f"/a?ticket={KEY}"))
    assert KEY not in lines[0]
    assert "/a?ticket=<redacted>" in lines[0]


async def test_a_request_without_a_route_hides_its_query() -> None:
    """The route that would have read the key was not found, so nobody has said which parameter it is."""
    lines: list[str] = []
    auth = APIKeyAuth({"alice": KEY}, location=Query("ticket"))
    route = Route("/tools", HTTPBackend("http://tools"), authenticate=[auth])
    await drive(create_gateway(route, observe=[AccessLog(lines.append)]), http_scope("GET", f"/tolls?ticket={KEY}"))
    assert KEY not in lines[0]
    assert "route not found" in lines[0]
