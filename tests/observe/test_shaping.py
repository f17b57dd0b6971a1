"""filter, add and remove: what an access log may be asked for, and what it never says."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentgate import (
    AccessLog,
    APIKeyAuth,
    CELRules,
    ConfigurationError,
    Gate,
    Header,
    Key,
    Principal,
    Query,
    Reason,
    Request,
    authorizer,
    deny,
    new_key,
    shadow,
)
from agentgate.call import Call
from agentgate.context import READERS
from agentgate.observe.fields import FIELDS, MAX_VALUE, fields
from agentgate.observe.shaping import MAX_ADDED
from agentgate.observe.variables import OF_RECORDS
from agentgate.record import Record
from agentgate.request import authenticated, routed
from agentgate.testing import drive, http_scope

pytestmark = pytest.mark.anyio

KEY = new_key()


async def hello(scope: Any, receive: Any, send: Any) -> None:
    headers = [(b"content-type", b"text/plain"), (b"Set-Cookie", b"session=hunter2"), (b"x-limit", b"7")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"hello"})


def finished(request: Request | None = None, status: int | None = 200, **details: Any) -> Record:
    record = Record(request or Request.http("GET", "/reports?a=1&token=hunter2", now=1000.0))
    record.edge = object()  # it has been judged
    record.status, record.duration = status, 0.25
    record.details.update(details)
    return record


def line(record: Record, **options: Any) -> dict[str, Any]:
    lines: list[str] = []
    AccessLog(lines.append, format="json", **options).end(None, record)
    (text,) = lines
    found: dict[str, Any] = json.loads(text)
    return found


def usage() -> Record:
    record = finished(Request.model("gpt-4o", params={"temperature": 0.5}, streaming=True))
    record.details.update(
        {
            "gen_ai.response.model": "gpt-4o-2024",
            "gen_ai.usage.input_tokens": 12,
            "gen_ai.usage.cache_read.input_tokens": 4,
            "gen_ai.usage.cache_creation.input_tokens": 2,
            "gen_ai.usage.output_tokens": 30,
            "gen_ai.usage.reasoning_tokens": 7,
            "agw.ai.time_to_first_token": 0.25,
            "agw.ai.time_per_output_token": 0.0125,
        }
    )
    return record


def known(*principals: Principal) -> Record:
    record = finished()
    for principal in principals:
        authenticated(record.view, principal)
    return record


def headed(**headers: str) -> Record:
    return finished(Request.http(headers={name.replace("_", "-"): value for name, value in headers.items()}))


def answered() -> Record:
    record = finished()
    record.response_headers = [(b"Content-Type", b"text/plain"), (b"set-cookie", b"a=hunter2"), (b"location", b"/?k=h")]
    return record


def going() -> Record:
    record = finished()
    routed(record.view, {"name": "web:80", "type": "static", "protocol": "http"})
    return record


TOOL = Request.tool("search", {"q": "rain", "n": 3}, server="docs")


@pytest.mark.parametrize(
    ("expression", "record", "value"),
    [
        # what rules know
        ("request.method", finished(), "GET"),
        ("request.path", finished(), "/reports"),
        ("request.host", finished(), "localhost"),
        ("source.address + ':' + string(source.port)", finished(), "127.0.0.1:50000"),
        ("request.with(r, r.method)", finished(), "GET"),
        ('request.headers["user-agent"]', headed(user_agent="curl/8"), "curl/8"),
        ("request.headers", headed(x_team="a"), {"host": "localhost", "x-team": "a"}),
        ("apiKey.group", known(Principal("a", "apiKey", {"group": "eng"})), "eng"),
        ("jwt.roles", known(Principal("a", "jwt", {"roles": ["a", "b"]})), ["a", "b"]),
        ("backend.name", going(), "web:80"),
        ("mcp.tool.name", finished(TOOL), "search"),
        ("mcp.tool.target", finished(TOOL), "docs"),
        ("mcp.tool.arguments", finished(TOOL), {"q": "rain", "n": 3}),
        ("mcp.tool.arguments.n", finished(TOOL), 3),
        ("mcp.with(m, m.tool.name)", finished(TOOL), "search"),
        ("has(mcp.tool)", finished(TOOL), True),
        ("has(mcp.prompt)", finished(TOOL), False),
        ("a2a.taskId", finished(Request.message(task="t1")), "t1"),
        ("llm.requestModel", usage(), "gpt-4o"),
        ("llm.params.temperature", usage(), 0.5),
        # what only logs know
        ("response.code", finished(), 200),
        ("response.code / 100", finished(status=404), 4),
        ("has(response.code)", finished(status=None), False),
        ("response.headers['content-type']", answered(), "text/plain"),
        ("response.with(r, r.code)", finished(), 200),
        ("request.endTime - request.startTime", finished(), "0.25s"),
        ("request.endTime", finished(), "1970-01-01T00:16:40.25Z"),
        ("llm.responseModel", usage(), "gpt-4o-2024"),
        ("llm.inputTokens", usage(), 12),
        ("llm.cachedInputTokens", usage(), 4),
        ("llm.cacheCreationInputTokens", usage(), 2),
        ("llm.outputTokens", usage(), 30),
        ("llm.reasoningTokens", usage(), 7),
        ("llm.totalTokens", usage(), 42),
        ("llm.with(l, l.totalTokens)", usage(), 42),
        ("llm.timeToFirstToken", usage(), "0.25s"),
        ("llm.timePerOutputToken < duration('20ms')", usage(), True),
        # values of every kind
        ("1.5", finished(), 1.5),
        ("1u", finished(), 1),
        ("1.0 / 0.0", finished(), "inf"),
        ("b'abc'", finished(), "YWJj"),
        ("[1, 'a', true, null]", finished(), [1, "a", True, None]),
        ("{'a': {'b': [1]}, 1: 2, false: 3}", finished(), {"a": {"b": [1]}, "1": 2, "false": 3}),
        ("optional.of('a')", finished(), "a"),
        ("type(1)", finished(), "int"),
        ("random() < 1.0", finished(), True),
    ],
)  # fmt: skip
def test_a_field_that_is_added(expression: str, record: Record, value: Any) -> None:
    """It has the value of its expression, in JSON's own type, and stands at the end."""
    found = line(record, add={"x": expression})
    assert found["x"] == value
    assert type(found["x"]) is type(value)
    assert list(found)[-1] == "x"


@pytest.mark.parametrize(
    ("expression", "record"),
    [
        ("jwt.sub", finished()),
        ("mcp.tool.name", finished()),
        ("llm.totalTokens", finished(Request.model("m"))),
        ("llm.timeToFirstToken", finished(Request.model("m"))),
        ("response.code", finished(status=None)),
        ("request.headers['none']", finished()),
        ("backend.name", finished()),
        ("int(request.method)", finished()),
        ("1 / (response.code - 200)", finished()),
        ("null", finished()),
        ("optional.none()", finished()),
        ("ip('127.0.0.1')", finished()),  # no value of JSON
        ("[ip('127.0.0.1')]", finished()),
        ("fail()", finished()),
        ("[request]", finished()),
        ("mcp.tool.name", finished(Request.http(call=Call("mcp", "tools/list", provisional=True)))),
        ("[mcp.tool.name]", finished(Request.http(call=Call("mcp", "tools/list", provisional=True)))),
        ("'a'.matches(request.method + '[')", finished()),
    ],
)
def test_a_field_that_cannot_be_told_is_left_out(expression: str, record: Record) -> None:
    """An expression that fails takes nothing else with it."""
    found = line(record, add={"before": "'a'", "x": expression, "after": "'b'"})
    assert "x" not in found
    assert (found["before"], found["after"]) == ("a", "b")


@pytest.mark.parametrize(
    ("add", "written"),
    [
        ("'two words'", 'x="two words"'),
        ("'word'", "x=word"),
        ("''", 'x=""'),
        ("'a=b\"c\\n'", r'x="a=b\"c\n"'),
        ("true", "x=true"),
        ("7", "x=7"),
        ("1.5", "x=1.5"),
        ("[1, 2]", "x=[1,2]"),
        ("['a', 'b c']", r'x="[\"a\",\"b c\"]"'),
        ("{'a': 1}", r'x="{\"a\":1}"'),
        ("['\\u2028\\u001b']", r'x="[\"\u2028\\u001b\"]"'),
    ],
)
def test_added_fields_as_text(add: str, written: str) -> None:
    """Lists and maps are compact JSON, quoted as logfmt needs."""
    lines: list[str] = []
    AccessLog(lines.append, add={"x": add}).end(None, finished())
    assert lines[0].endswith(f" {written}")
    assert lines[0].isascii()
    assert len(lines[0].splitlines()) == 1


def test_one_that_is_there_moves_to_the_end() -> None:
    """As in agentgateway: what is added takes the place of what the log would say itself."""
    found = line(finished(), add={"http.method": "'X'", "mine": "1"}, remove=["http.host", "http.version"])
    assert list(found) == [
        *("level", "time", "scope", "src.addr", "http.path", "http.status", "protocol", "duration"),
        *("http.method", "mine"),
    ]
    assert found["http.method"] == "X"


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_every_field_can_be_removed(name: str) -> None:
    """Also those that only agentgateway has, for what is carried over."""
    record = usage()
    record.refuse(deny(rule="r", detail="d"))
    record.trace_id, record.span_id = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    assert name not in line(record, remove=[name])


def test_nothing_else_can_be() -> None:
    with pytest.raises(ConfigurationError) as caught:
        AccessLog(remove=["http.pth", "time", 5])  # type: ignore[list-item]
    assert caught.value.faults == (
        "remove: the log has no field 'http.pth'",
        "remove: the log has no field 'time'",
        "remove: the log has no field 5",
    )


# -- what is never told ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("request.headers['authorization']", "<redacted>"),
        ("request.headers['AUTHORIZATION']", "<redacted>"),
        ("request.headers.authorization", "<redacted>"),
        ("request.headers[['author', 'ization'].join()]", "<redacted>"),
        ("request.headers.raw()['authorization']", ["<redacted>"]),
        ("request.headers.split()['cookie']", ["<redacted>"]),
        ("request.headers.join()['x-auth-token']", "<redacted>"),
        ("request.headers.redacted()['x-auth-token']", "<redacted>"),
        ("request.headers.cookie('a')", "<redacted>"),
        ("request.with(r, r.headers['authorization'])", "<redacted>"),
        ("request.with(r, r.pathAndQuery)", "/a?token=<redacted>&x=1"),
        ("request.headers.map(n, request.headers[n]).filter(v, v.contains('hunter2'))", []),
        ("request.headers['referer']", "<redacted>"),
        ("request.headers['mcp-session-id']", "<redacted>"),
        ("request.headers['dpop']", "<redacted>"),
        ("request.headers['sec-websocket-protocol']", "<redacted>"),
        ("request.pathAndQuery", "/a?token=<redacted>&x=1"),
        ("request.uri", "http://localhost/a?token=<redacted>&x=1"),
        ("request.uri.query('token')", ["<redacted>"]),
        ("request.query['token']", ["<redacted>"]),
        ("request.query", {"token": ["<redacted>"], "x": ["1"]}),
        ("toJson(request.query)", '{"token":["<redacted>"],"x":["1"]}'),
        ("jwt.rawToken", "<redacted>"),
        ("apiKey.key", "<redacted>"),
        ("apiKey", {"group": "eng", "key": "<redacted>"}),
        ("response.headers['set-cookie']", "<redacted>"),
        ("response.headers['location']", "<redacted>"),
        ("response.headers['content-location']", "<redacted>"),
        ("response.headers['Operation-Location']", "<redacted>"),
        ("response.headers['link']", "<redacted>"),
        ("response.with(r, r.headers['Set-Cookie'])", "<redacted>"),
    ],
)
def test_credentials_cannot_be_read(expression: str, value: Any) -> None:
    headers = {
        "authorization": "Bearer hunter2",
        "cookie": "a=hunter2",
        "x-auth-token": "hunter2",
        "referer": "https://a.example/?token=hunter2",
        "mcp-session-id": "hunter2",
        "dpop": "hunter2",
        "sec-websocket-protocol": "realtime, openai-insecure-api-key.hunter2",
    }
    record = finished(Request.http("GET", "/a?token=hunter2&x=1", headers=headers))
    urls = [(name, b"/?sig=hunter2") for name in (b"location", b"content-location", b"operation-location", b"link")]
    record.response_headers = [(b"Set-Cookie", b"a=hunter2"), *urls]
    authenticated(record.view, Principal("a", "apiKey", {"group": "eng"}))
    authenticated(record.view, Principal("a", "jwt", {"sub": "a", "rawToken": "hunter2"}))
    assert line(record, add={"x": expression})["x"] == value


async def test_where_a_gate_reads_its_credential_is_not_told() -> None:
    """Whatever the header or the parameter is called: of the innermost Gate, too, when it was asked or not."""
    lines: list[str] = []
    add = {"all": "request.headers", "badge": "request.headers['x-badge']", "uri": "request.uri"}
    log = AccessLog(lines.append, add=add)
    for place, target, badge in ((Header("x-badge"), "/", KEY), (Query("ticket"), f"/?ticket={KEY}", "none")):
        gate = Gate(hello, authenticate=[APIKeyAuth([Key("alice", KEY)], location=place)])
        request = http_scope("GET", target, headers={"x-badge": badge, "user-agent": "curl"})
        assert (await drive(Gate(gate, observe=[log]), request)).status == 200
        closed = Gate(gate, authorize=[authorizer(lambda request: deny("closed"))], observe=[log])
        assert (await drive(closed, request)).status == 403
    assert len(lines) == 4
    for line in lines:
        assert KEY not in line
        assert 'user-agent\\":\\"curl' in line


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("request.body", "bodies are not logged"),
        ("response.body", "bodies are not logged"),
        ("llm.prompt", "bodies are not logged"),
        ("llm.completion", "bodies are not logged"),
        ("mcp.tool.result", "bodies are not logged"),
        ("llm.cost.total", "nobody counts it"),
        ("proxy.route.name", "the log has its route"),
        ("source.identity", "ends TLS"),
        ("jwt.rawToken.unredacted()", "never the credential"),
        ("uuid()", "is not here"),
        ("variables()", "is not here"),
        ("nothing", "undeclared"),
        ("request.nothing", "nothing"),
        ("request", "is not one value"),
        ("mcp.tool", "is not one value"),
        ("1 +", "1:"),
    ],
)
def test_what_a_log_does_not_know_is_a_fault(name: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match="add x: ") as caught:
        AccessLog(add={"x": name})
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["response.code", "llm.outputTokens", "request.endTime", "random() < 0.1"])
def test_what_only_a_log_knows_is_a_fault_in_a_rule(name: str) -> None:
    with pytest.raises(ConfigurationError):
        CELRules(allow=[f"{name} == {name}"])
    AccessLog(add={"x": name})


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        AccessLog(
            filter="response.code",
            add={"a b": "1", "time": "1", "x": "jwt.", "y": "respons.code", "z": 5, "": "1", "replay": "1"},  # type: ignore[dict-item]
            remove="http.path",
        )
    assert [fault.partition(": ")[0] for fault in caught.value.faults] == [
        *("filter", "add", "add time", "add", "add replay", "add x", "add y", "add z"),
        "remove is a list of names of fields, not str",
    ]
    assert "1:1" in next(fault for fault in caught.value.faults if fault.startswith("add y"))


@pytest.mark.parametrize(
    "options",
    [
        {"add": ["a"]},
        {"add": {f"f{n}": "1" for n in range(MAX_ADDED + 1)}},
        {"add": {"x" * 200: "1"}},
        {"add": {5: "1"}},
        {"filter": 5},
        {"remove": 5},
        {"replay": True},
        {"replay": True, "format": "text"},
        {"replay_arguments": True, "format": "json"},
    ],
)
def test_options_that_cannot_be_meant(options: Any) -> None:
    with pytest.raises(ConfigurationError):
        AccessLog(**options)


# -- never too much --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["text", "json"])
@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        ("request.headers['x-long']", str),
        ("[request.headers['x-long'], request.headers['x-long']]", list),
        ("{'a': request.headers['x-long'], 'b': [request.headers['x-long']]}", dict),
        ("request.headers", dict),
        ("request.query", dict),
        ("jwt.many", list),
        ("jwt.deep", list),
        ("jwt.keys", dict),
        ("bytes(request.headers['x-long'])", str),
    ],
)
def test_a_field_is_never_long(format: Any, expression: str, kind: type) -> None:
    """Texts, lists and maps are cut, say so, and stay what they are."""
    deep: Any = "x"
    for _ in range(40):
        deep = [deep]
    claims = {"many": [*range(5000)], "deep": deep, "keys": {f"key {n}" * 9: n for n in range(500)}}
    request = Request.http("GET", "/?" + "&".join(f"a{n}=b" for n in range(900)), headers={"x-long": "a" * 9000})
    record = finished(request)
    authenticated(record.view, Principal("a", "jwt", claims))
    lines: list[str] = []
    AccessLog(lines.append, format=format, add={"x": expression}, remove=["http.path"]).end(None, record)
    (text,) = lines
    assert "..." in text
    assert len(text) < 3 * MAX_VALUE
    if format == "json":
        assert type(json.loads(text)["x"]) is kind


texts = st.text(max_size=20)
claims = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


@given(claims=st.dictionaries(texts, claims, max_size=6))
@settings(max_examples=40, deadline=None)
@pytest.mark.parametrize("format", ["text", "json"])
def test_a_line_is_a_line_whatever_is_claimed(format: Any, claims: Any) -> None:
    """No claim can make a second line or a field of another name, and none changes what the log itself says."""
    record = finished()
    authenticated(record.view, Principal("alice", "jwt", claims))
    plain, lines = fields(record), list[str]()
    add = {"http": "flattenRecursive(jwt)", "all": "jwt", "one": "flatten(jwt)"}
    AccessLog(lines.append, format=format, add=add).end(None, record)
    (text,) = lines
    assert text.isascii()
    assert len(text.splitlines()) == 1
    if format == "json":
        found = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
        assert {name: found[name] for name in plain} == plain
        added = found.keys() - plain.keys() - {"level", "time", "scope"}
        assert all(name.startswith(("http.", "one.", "all")) for name in added)


@pytest.mark.parametrize("name", ["shadow", "http", "trace", "jwt"])
def test_flatten_makes_no_field_that_is_the_log_s_own(name: str) -> None:
    """Neither one that is there, nor one that the log has left out."""
    forged = {"rule": "x", "policy": "x", "status": 204, "id": "x", "sub": 5, "other": 1}
    record = known(Principal("a", "jwt", forged))
    found = line(record, add={name: "flattenRecursive(jwt)"})
    assert found.get("http.status") == 200
    assert not {"shadow.rule", "shadow.policy", "trace.id", "jwt.sub"} & found.keys()
    assert found[f"{name}.other"] == 1


def test_flatten_makes_a_field_of_each_entry() -> None:
    """`flattenRecursive` of those within them, too; more than 64 are left out."""
    record = known(Principal("a", "jwt", {"sub": "a", "org": {"id": 7, "x y": {"deep": True}}, "none": None}))
    found = line(record, add={"c": "flatten(jwt)"})
    assert found["c.org"] == {"id": 7, "x y": {"deep": True}}
    assert "c.none" not in found
    found = line(record, add={"c": "flattenRecursive(jwt)"}, remove=["c.sub"])
    assert {name: value for name, value in found.items() if name.startswith("c.")} == {
        "c.org.id": 7,
        "c.org.x_y.deep": True,
        "c.rawToken": "<redacted>",
    }
    many = known(Principal("a", "jwt", {f"k{n}": n for n in range(500)}))
    assert len([name for name in line(many, add={"c": "flatten(jwt)"}) if name.startswith("c.")]) == 64


# -- which lines -----------------------------------------------------------------------------------------------------


def failed(error: str, reason: Reason | None, status: int | None = 502) -> Record:
    record = finished(status=status)
    record.fail(error, reason)
    return record


def refused(status: int, reason: Reason = Reason.AUTHORIZATION) -> Record:
    record = finished(status=status)
    record.refuse(deny(status=status, reason=reason))
    return record


def shadowed() -> Record:
    record = finished()
    record.trail.append(shadow(authorizer(lambda request: deny("closed"))).check(record.request))
    return record


@pytest.mark.parametrize(
    ("record", "filter", "written"),
    [
        pytest.param(finished(), "true", True, id="what the filter keeps"),
        pytest.param(finished(), "false", False, id="what it does not"),
        pytest.param(finished(), "response.code >= 400", False, id="by the status"),
        pytest.param(finished(status=404), "response.code >= 400", True, id="by another status"),
        pytest.param(finished(), "random() < 0.0", False, id="a sample of none"),
        pytest.param(finished(), "random() < 1.1", True, id="a sample of all"),
        pytest.param(finished(), "jwt.sub == 'a'", True, id="a filter that fails"),
        pytest.param(finished(), "apiKey.flag", True, id="a filter that is no bool"),
        pytest.param(known(Principal("a", "apiKey", {"flag": 0})), "apiKey.flag", True, id="a falsy value"),
        pytest.param(refused(403), "false", True, id="a denial"),
        pytest.param(refused(401, Reason.API_KEY_AUTH), "false", True, id="a bad key"),
        pytest.param(refused(429, Reason.RATE_LIMIT), "false", True, id="a rate limit"),
        pytest.param(refused(200, Reason.MCP), "false", True, id="a denial that a protocol says with 200"),
        pytest.param(finished(status=403), "false", True, id="the app's own 403"),
        pytest.param(finished(status=500), "false", True, id="the app's own error"),
        pytest.param(failed("request failed", Reason.INTERNAL, 200), "false", True, id="an error in mid-answer"),
        pytest.param(failed("client disconnected", None, None), "false", True, id="a client that left before"),
        pytest.param(failed("client disconnected", None, 200), "false", False, id="a client that left its stream"),
        pytest.param(refused(204, Reason.DIRECT_RESPONSE), "false", False, id="a direct response"),
        pytest.param(shadowed(), "false", True, id="what a shadow policy would have refused"),
    ],
)
def test_which_requests_have_a_line(record: Record, filter: str, written: bool) -> None:
    """What was refused or went wrong is never filtered away, and neither is anything by a filter that fails."""
    lines: list[str] = []
    AccessLog(lines.append, filter=filter).end(None, record)
    assert bool(lines) is written


async def test_no_refusal_is_filtered_away() -> None:
    lines: list[str] = []
    log = AccessLog(lines.append, filter='!request.path.startsWith("/")')
    gate = Gate(hello, authenticate=[APIKeyAuth([Key("alice", KEY)])], observe=[log])
    for target, key in (("/a", KEY), ("/a", "bad"), ("/a//b", KEY)):
        await drive(gate, http_scope("GET", target, headers={"authorization": f"Bearer {key}"}))
    assert ["http.status=401" in line or "http.status=400" in line for line in lines] == [True, True]


# -- the table of variables ------------------------------------------------------------------------------------------


def test_every_variable_of_a_rule_is_one_of_the_log() -> None:
    """But for the body, of which nothing is ever logged."""
    assert READERS.keys() - OF_RECORDS.keys() == {"request.body"}
    assert OF_RECORDS.keys() - READERS.keys() == {
        *("request.endTime", "response", "response.code", "response.headers"),
        *(f"llm.{name}" for name in ("responseModel", "totalTokens", "timeToFirstToken", "timePerOutputToken")),
        *(f"llm.{name}" for name in ("inputTokens", "cachedInputTokens", "cacheCreationInputTokens")),
        *(f"llm.{name}" for name in ("inputAudioTokens", "outputTokens", "reasoningTokens", "outputAudioTokens")),
    }
