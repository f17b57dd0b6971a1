"""The variables of a rule: what each of them is for which request, and what is left out."""

from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgate import Call, Edge, Principal, Request, cel
from agentgate.cel.types import parse_type
from agentgate.context import PARAMS, READERS, VARIABLES, env_readers
from agentgate.elsewhere import REASONS
from agentgate.headers_view import FUNCTIONS
from agentgate.request import routed

LISTED = Request.http(
    headers=[
        ("X-Many", "a,b "),
        ("x-one", "1"),
        ("x-many", "\tc,"),
        ("authorization", "Bearer x"),
        ("cookie", "a=1=2; b="),
    ]
)
PLAIN = {"flag": True, "none": None, "share": 0.5}


def forwarded(by: str) -> Request:
    request = Request.http(client=("10.0.0.1", 7), headers={"x-forwarded-for": by})
    assert Edge(trusted_proxies=["10.0.0.0/8"]).check(request) is None
    return request


def going(backend: dict[str, str]) -> Request:
    request = Request.http()
    routed(request, backend)
    return request


FORWARDED, PORTLESS = forwarded("192.0.2.1:443"), forwarded("192.0.2.1")
ROUTED = going({"name": "httpbin:8000", "type": "static", "protocol": "http"})
REPEATED = Request.http(headers=[("X-Org", "a"), ("x-org", "b"), ("x-one", "caf\xe9")])


def evaluate(source: str, request: Request) -> Any:
    return compiled(source, podName="gw-1").evaluate(request)


def compiled(source: str, **env: str) -> cel.Expression:
    return cel.compile(
        source, variables=VARIABLES, functions=FUNCTIONS, reasons=REASONS, readers={**READERS, **env_readers(env)}
    )


def of_scope(**scope: Any) -> Request:
    return Request({"type": "http", "method": "GET", "path": "/", "headers": [], **scope})


@pytest.mark.parametrize(
    ("source", "request_", "expected"),
    [
        ("request.method", Request.http("POST"), "POST"),
        ("request.method", Request.websocket(), "GET"),
        ("request.uri", Request.http(target="/a%20b?x=1", host="GW.example:8080"), "http://gw.example:8080/a%20b?x=1"),
        ("request.host", Request.http(host="GW.example:8080"), "gw.example:8080"),
        ("request.host", of_scope(), ""),
        ("request.scheme", of_scope(scheme="https"), "https"),
        ("request.path", Request.http(target="/%61dmin?x=1"), "/admin"),
        ("request.pathAndQuery", Request.http(target="/%61dmin?x=1"), "/%61dmin?x=1"),
        ("request.pathAndQuery", Request.http(target="/a"), "/a"),
        ("request.version", of_scope(), "HTTP/1.1"),
        ("request.version", of_scope(http_version="2"), "HTTP/2.0"),
        ("request.query", Request.http(target="/?a=1&b=%20&a="), {"a": ["1", ""], "b": [" "]}),
        ("request.query['a'][1]", Request.http(target="/?a=1&a=2"), "2"),
        ("'b' in request.query", Request.http(target="/?a=1"), False),
        ("request.startTime", Request.http(now=1.5), cel.Timestamp(1_500_000_000)),
        ("request.startTime.getFullYear()", Request.http(now=1_700_000_000.123456), 2023),
        ("request.headers['X-ONE']", REPEATED, "caf\xe9"),
        ("request.headers['x-org']", REPEATED, ["a", "b"]),
        ("'b' in request.headers['x-org']", REPEATED, True),
        ("request.headers['x-org'] == ['a', 'b']", REPEATED, True),
        ("request.headers.with(h, h['x-one'])", REPEATED, "caf\xe9"),
        ("request.with(r, r.headers['x-one'] + r.path)", REPEATED, "caf\xe9/"),
        ("request.headers.raw()['x-one']", REPEATED, ["caf\xe9"]),
        ("request.headers.raw()['X-Org']", REPEATED, ["a", "b"]),
        ("request.headers.join()['x-org']", REPEATED, "a,b"),
        ("request.headers.split()['x-many']", LISTED, ["a", "b", "c", ""]),
        ("request.headers.join()['x-many']", LISTED, "a,b ,\tc,"),
        ("request.headers.raw().join()['x-many']", LISTED, "a,b ,\tc,"),
        ("request.headers.redacted().split()['authorization']", LISTED, ["<redacted>"]),
        ("request.headers.split().redacted()['x-one']", LISTED, ["1"]),
        ("request.headers.redacted().cookie('a')", LISTED, "<redacted>"),
        ("request.headers.cookie('a')", LISTED, "1=2"),
        ("request.headers.cookie('b')", LISTED, ""),
        ("default(request.headers.cookie('none'), 'no')", LISTED, "no"),
        ("default(request.headers['none'], 'no')", LISTED, "no"),
        ("request.headers[request.path.substring(1)]", Request.http(target="/x-one", headers={"x-one": "1"}), "1"),
        ("request.headers.?host.orValue('')", Request.http(), "localhost"),
        ("request.headers.?none.orValue('no')", Request.http(), "no"),
        ("request.pathAndQuery.query('a')", Request.http(target="/?a=1&b=2&a=%20"), ["1", " "]),
        ("request.uri.query('b')", Request.http(target="/?a=1&b=2&b="), ["2", ""]),
        ("default(request.uri.query('c'), [])", Request.http(target="/?a=1"), []),
        ("'X-Org' in request.headers && !('x-two' in request.headers)", REPEATED, True),
        ("has(request.headers.host)", REPEATED, True),
        ("request.headers.exists(name, name == 'x-one')", REPEATED, True),
        ("size(request.headers)", REPEATED, 3),
        ("source.address", Request.http(client=("10.0.0.1", 7)), "10.0.0.1"),
        ("source.port", Request.http(client=("10.0.0.1", 7)), 7),
        ("source.rawAddress", Request.http(client=("::ffff:1.2.3.4", 7)), "::ffff:1.2.3.4"),
        ("source.rawPort", Request.http(client=("10.0.0.1", 7)), 7),
        ("source.with(s, s.address + string(s.rawPort))", Request.http(client=("10.0.0.1", 7)), "10.0.0.17"),
        ("source.port", FORWARDED, 443),
        ("source.address", FORWARDED, "192.0.2.1"),
        ("has(source.port)", PORTLESS, False),
        ("source.address + ' ' + source.rawAddress", PORTLESS, "192.0.2.1 10.0.0.1"),
        ("source.with(s, has(s.port))", PORTLESS, False),
        ("source.?port.orValue(0)", PORTLESS, 0),
        ("backend.name + backend.type + backend.protocol", ROUTED, "httpbin:8000statichttp"),
        ("backend.with(b, b.name)", ROUTED, "httpbin:8000"),
        ("default(backend.name, 'none')", Request.http(), "none"),
        ("env.podName", Request.http(), "gw-1"),
        ("has(env.namespace) || has(env.gateway)", Request.http(), False),
        ("default(env.gateway, 'none')", Request.http(), "none"),
        ("env.with(e, e.podName)", Request.http(), "gw-1"),
        ("apiKey.key", Request.http(api_key={"team": "eng"}), "<redacted>"),
        ("apiKey['key']", Request.http(api_key={"key": "a secret"}), "<redacted>"),
        ("jwt.rawToken", Request.http(jwt={"rawToken": "a secret"}), "<redacted>"),
        ("toJson(jwt)", Request.http(jwt={"rawToken": "a secret"}), '{"rawToken":"<redacted>"}'),
        ("apiKey == {'team': 'eng', 'key': '<redacted>'}", Request.http(api_key={"team": "eng"}), True),
        ("'team' in apiKey && size(apiKey) == 2", Request.http(api_key={"team": "eng"}), True),
        ("has(apiKey.team) && !has(apiKey.none)", Request.http(api_key={"team": "eng"}), True),
        ("jwt['https://x.example/roles'][0]", Request.http(jwt={"https://x.example/roles": ["a"]}), "a"),
        ("jwt.roles", Request.http(jwt={"roles": ["caf\xe9", 1]}), ["caf\xe9", 1]),
        ("size(apiKey) + size(jwt)", Request.http(api_key={"team": "eng"}, jwt={"sub": "a"}), 4),
        ("jwt.realm.roles[0]", Request.http(jwt={"realm": {"roles": ["a"]}}), "a"),
        ("jwt.?realm.?none.orValue('no')", Request.http(jwt={"realm": {}}), "no"),
        ("jwt.flag && jwt.none == null && jwt.share == 0.5", Request.http(jwt=PLAIN), True),
        ("jwt.less", Request.http(jwt={"less": -(2**63) - 1}), -(2.0**63)),
        ("source.address", Request.http(client=("::ffff:1.2.3.4", 7)), "1.2.3.4"),
        ("source.address", Request.http(client=("::FFFF:102:304", 7)), "1.2.3.4"),
        ("source.address", Request.http(client=("2001:db8::1", 7)), "2001:db8::1"),
        ("source.address", Request.http(client=("unix:x", 7)), "unix:x"),
        ("cidr('1.0.0.0/8').containsIP(source.address)", Request.http(client=("::ffff:1.2.3.4", 7)), True),
        ("apiKey.team", Request.http(api_key={"team": "eng"}), "eng"),
        ("jwt.roles[0]", Request.http(jwt={"roles": ("dev",)}), "dev"),
        ("jwt.big", Request.http(jwt={"big": 2**70}), 2.0**70),
        ("jwt.sub", Request({}, principals=(Principal("a", "jwt", MappingProxyType({"sub": "alice"})),)), "alice"),
        ("mcp.methodName", Request.tool("add"), "tools/call"),
        ("mcp.tool.name", Request.tool("add"), "add"),
        ("mcp.tool.target", Request.tool("add", server="math"), "math"),
        ("has(mcp.tool.target)", Request.tool("add"), False),
        ("mcp.tool.arguments.a", Request.tool("add", {"a": 1}), 1),
        ("mcp.tool.arguments.a.b[0]", Request.tool("add", {"a": {"b": ["x"]}}), "x"),
        ("size(mcp.tool.arguments)", Request.tool("add", {"a": 1}), 1),
        ("mcp.tool.with(t, t.name + string(t.arguments.a))", Request.tool("add", {"a": 1}), "add1"),
        ("mcp.tool.with(t, has(t.target))", Request.tool("add"), False),
        ("mcp.with(m, has(m.tool) && !has(m.prompt))", Request.tool("add"), True),
        ("mcp.?tool.name.orValue('none')", Request.prompt("greet"), "none"),
        ("llm.with(l, l.requestModel)", Request.model("gpt"), "gpt"),
        ("has(a2a.method) || has(a2a.taskId)", Request.tool("add"), False),
        ("has(mcp.tool.arguments.a)", Request.tool("add"), False),
        ("mcp.prompt.name", Request.prompt("greet"), "greet"),
        ("has(mcp.prompt.target)", Request.prompt("greet"), False),
        ("mcp.prompt.target", Request.prompt("greet", server="s"), "s"),
        ("mcp.resource.name", Request.resource("file:///a"), "file:///a"),
        ("mcp.task.name", Request.http(call=Call("mcp", "tasks/get", task="t")), "t"),
        ("has(mcp.tool) || has(mcp.resource) || has(mcp.task)", Request.prompt("greet"), False),
        ("llm.requestModel", Request.model("gpt"), "gpt"),
        ("has(mcp.methodName) || has(mcp.tool) || has(a2a.method)", Request.model("gpt"), False),
        ("has(llm.requestModel)", Request.tool("add"), False),
        ("a2a.method", Request.message(), "SendMessage"),
        ("a2a.taskId", Request.message(task="t"), "t"),
        ("has(a2a.taskId)", Request.message(), False),
        ("default(jwt.sub, 'anonymous')", Request.http(), "anonymous"),
    ],
)
def test_values(source: str, request_: Request, expected: Any) -> None:
    value = evaluate(source, request_)
    assert type(value) is type(expected) or source == "request.query"
    assert cel.to_cel(value) == expected


@pytest.mark.parametrize(
    "source",
    [
        "jwt.sub",
        "has(jwt.sub)",
        "jwt",
        "jwt.?sub",
        "apiKey.team",
        "source.address",
        "source.rawPort",
        "source",
        "mcp",
        "mcp.with(m, has(m.tool))",
        "llm.with(l, l.requestModel)",
        "backend.name",
        "has(backend.name)",
        "backend",
        "request.headers.x",
        "request.headers.raw().x",
        "request.headers.cookie('a')",
        "request.uri.query('a')",
    ],
)
def test_what_a_request_does_not_have_is_an_error(source: str) -> None:
    with pytest.raises(cel.EvaluationError) as caught:
        evaluate(source, of_scope())
    assert caught.value.kind == "no_such_key"


@pytest.mark.parametrize("source", ["has(mcp.tool)", "has(llm.requestModel)", "has(a2a.method)"])
def test_of_a_protocol_that_nobody_has_read_nothing_is_known(source: str) -> None:
    """Not even that it is not spoken: the body may hold such a call."""
    with pytest.raises(cel.EvaluationError, match="no such variable"):
        evaluate(source, Request.http("POST", "/mcp"))


def test_arguments_may_be_unknown() -> None:
    request = Request.http(call=Call("mcp", "tools/list", tool="add", arguments={"x": 1}, provisional=True))
    assert evaluate("mcp.tool.name == 'add' || mcp.tool.arguments.x == 1", request) is True
    with pytest.raises(cel.Unknown):
        evaluate("mcp.tool.arguments.x == 1", request)


@pytest.mark.parametrize("source", ["mcp.tool.name == 'a'", "has(mcp.tool)", "mcp.prompt.name == 'a'", "has(mcp.task)"])
def test_what_a_provisional_call_without_a_name_is_about_is_unknown(source: str) -> None:
    for text in (source, source.replace("mcp.tool.name", "mcp.tool.with(t, t.name)")):
        with pytest.raises(cel.Unknown):
            evaluate(text, Request.http(call=Call("mcp", "initialize", provisional=True)))
    assert evaluate("mcp.methodName", Request.http(call=Call("mcp", "initialize", provisional=True))) == "initialize"


@pytest.mark.parametrize(
    ("call", "source"),
    [
        (Call("mcp", "vendor/method"), "mcp.tool.name == 'a'"),
        (Call("mcp", "prompts/list", prompt="p", provisional=True), "mcp.tool.name == 'a'"),
        (Call("llm", "models", provisional=True), "mcp.tool.name == 'a'"),
        (Call("llm", "embeddings"), "llm.requestModel == 'a'"),
        (Call("mcp", "initialize", provisional=True), "llm.requestModel == 'a'"),
    ],
)
def test_anything_else_that_is_not_there_is_absent(call: Call, source: str) -> None:
    with pytest.raises(cel.EvaluationError, match="no such field"):
        evaluate(source, Request.http(call=call))


def test_which_model_a_list_of_models_is_about_is_unknown() -> None:
    with pytest.raises(cel.Unknown):
        evaluate("llm.requestModel == 'a'", Request.http(call=Call("llm", "models", provisional=True)))
    listed = Request.http(call=Call("llm", "models", model="a", provisional=True))
    assert evaluate("llm.requestModel == 'a'", listed) is True


def test_the_body_is_there_once_it_was_read() -> None:
    assert evaluate("json(request.body).a", Request.http("POST", body=b'{"a": 1}')) == 1
    with pytest.raises(cel.EvaluationError, match="no such field"):
        evaluate("request.body", Request({"type": "http"}))


@pytest.mark.parametrize(
    ("source", "place", "reason"),
    [
        ("mcp.tool.name == 'a'", 5, "no such field: 'tool'"),
        ("mcp.prompt.target == 'a'", 12, "no such field: 'target'"),
        ("jwt.sub == 'a'", 1, "no such variable: 'jwt'"),
        ("source.address == 'a'", 1, "no such variable: 'source'"),
        ("backend.with(b, b.name) == 'a'", 1, "no such variable: 'backend'"),
        ("env.gateway == 'a'", 5, "no such field: 'gateway'"),
        ("apiKey.team == 'a'", 8, "no such key: 'team'"),
        ("has(mcp.tool.arguments)", 9, "no such field: 'tool'"),
        ("mcp.tool.with(t, t.name) == 'a'", 5, "no such field: 'tool'"),
    ],
)
def test_an_error_tells_which_part_is_not_there(source: str, place: int, reason: str) -> None:
    request = Request.prompt("greet", client=None, api_key={})
    with pytest.raises(cel.EvaluationError) as caught:
        evaluate(source, request)
    assert (caught.value.column, caught.value.problem.message) == (place, reason)


def test_a_cookie_that_is_sent_twice_is_an_error() -> None:
    for headers in ([("cookie", "a=1; a=2")], [("cookie", "a=1"), ("cookie", "b=2; a=1")]):
        with pytest.raises(cel.EvaluationError, match="sent several times"):
            evaluate("request.headers.cookie('a')", Request.http(headers=headers))


def test_methods_of_headers_are_theirs_alone() -> None:
    with pytest.raises(cel.EvaluationError, match="not the headers of a request"):
        evaluate("jwt.raw()", Request.http(jwt={}))


def test_a_large_claim_is_an_error_where_it_is_read_and_nowhere_else() -> None:
    request = Request.http(jwt={"sub": "alice", "large": [[1] * 100] * 200})
    assert evaluate("jwt.sub", request) == "alice"
    with pytest.raises(cel.EvaluationError):
        evaluate("jwt.large[0][0] == 1", request)


def test_what_is_no_data_is_an_error_where_it_is_read() -> None:
    request = Request.http(jwt={"bad": object(), "lone": "\ud800", "sub": "a"}, api_key={"team": "eng"})
    assert evaluate("apiKey.team == 'eng' || jwt.bad == 1", request) is True
    assert evaluate("jwt.sub", request) == "a"
    for source in ("jwt.bad == 1", "jwt.lone == ''", "size(jwt) == 3"):
        with pytest.raises(cel.EvaluationError):
            evaluate(source, request)


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("request.pth == ''", "undefined field 'pth' in 'request' (did you mean 'path'?)"),
        ("request.scope_path == ''", "undefined field 'scope_path' in 'request'"),
        ("env.HOME == ''", "undefined field 'HOME' in 'env'"),
        ("os.environ == {}", "undeclared name 'os'"),
        (
            "response.code == 200",
            "response is known when the response is over: an access log has it, a rule decides before",
        ),
        ("has(response.code)", "response is known when the response is over"),
        ("request.endTime > request.startTime", "request.endTime is known when the response is over"),
        ("llm.inputTokens < 100", "llm.inputTokens is known when the response is over"),
        ("llm.prompt[0].content == ''", "llm.prompt is not here: what is asked is in request.body"),
        ("llmRequest.model == ''", "llmRequest is not here"),
        ("mcp.tool.result == 1", "mcp.tool.result is known when the response is over"),
        ("proxy.route.name == ''", "proxy is not here: a rule belongs to its gateway and route"),
        ("destination.port == 1", "destination is not here: ASGI does not tell where a connection was accepted"),
        ("source.identity.namespace == ''", "source.identity is not here: the server in front ends TLS"),
        ("source.subjectCn == ''", "source.subjectCn is not here"),
        ("basicAuth.username == ''", "basicAuth is not here: agentgate has no basic authentication"),
        ("extauthz.x == 1", "extauthz is not here: agentgate has no external authorization"),
        ("metadata.x == 1", "metadata is not here"),
        ("apiKey.key.unredacted() == ''", "unredacted() is not here: rules see that there is a credential"),
        ("jwt.rawToken.unredacted() == ''", "unredacted() is not here"),
        ("random() < 0.5", "random() is not here: the same request must always get the same decision"),
        ("uuid() == ''", "uuid() is not here"),
        ("variables() == {}", "variables() is not here: a rule names the variables it reads"),
        ("unvalidatedJwtPayload('a').sub == ''", "unvalidatedJwtPayload() is not here: what nobody has verified"),
        ("flatten(request.headers) == {}", "flatten() is not here: it makes fields of a log"),
        ("flattenRecursive(jwt) == {}", "flattenRecursive() is not here"),
        ("request.uri.addQuery('a', 'b') == ''", "addQuery() is not here: rules decide about a request"),
        ("request.uri.setQuery('a', 'b') == ''", "setQuery() is not here"),
    ],
)
def test_what_cannot_be_had_is_refused_with_the_reason(source: str, fault: str) -> None:
    with pytest.raises(cel.CheckError) as caught:
        compiled(source)
    assert [problem.message.startswith(fault) for problem in caught.value.problems] == [True]


def test_every_declared_path_has_a_reader_and_every_reader_a_path() -> None:
    declared = set()

    def walk(path: str, found: cel.Type) -> None:
        declared.add(path)
        if isinstance(found, cel.Struct):
            for field, inner in found.fields.items():
                walk(f"{path}.{field}", inner)

    for name, like in VARIABLES.items():
        walk(name, parse_type(like, name))
    declared -= {f"llm.params.{name}" for name in PARAMS}  # one reader reads them all
    assert {path.removesuffix("[]") for path in READERS} | set(env_readers({})) == declared
    assert not declared & set(REASONS)


@given(st.lists(st.booleans(), min_size=5, max_size=5), st.lists(st.booleans(), min_size=5, max_size=5))
def test_the_case_of_a_header_s_name_changes_nothing(sent: list[bool], written: list[bool]) -> None:
    def spelled(upper: list[bool]) -> str:
        return "".join(c.upper() if up else c for c, up in zip("x-org", upper, strict=True))

    assert evaluate(f"request.headers['{spelled(written)}']", Request.http(headers={spelled(sent): "a"})) == "a"


@pytest.mark.parametrize(
    ("source", "request_", "value"),
    [
        ("llm.provider", Request.model("m", provider="anthropic"), "anthropic"),
        ("llm.streaming", Request.model("m"), False),
        ("llm.params.max_tokens <= 100", Request.model("m", params={"max_tokens": 100}), True),
        ("has(llm.params.seed)", Request.model("m", params={"max_tokens": 100}), False),
        ("llm.params.temperature < 1.5", Request.model("m", params={"temperature": 1}), True),
        ("a2a.contextId", Request.message(context="c"), "c"),
        ("has(a2a.contextId)", Request.message(), False),
        ("a2a.tenant", Request.message(tenant="acme"), "acme"),
        ("has(a2a.tenant)", Request.message(), False),
        ("a2a.metadata.skillId", Request.message(metadata={"skillId": "x"}), "x"),
        ("has(mcp.sessionId)", Request.tool("t"), False),
        ("mcp.sessionId", Request.http(call=Call("mcp", "ping", attributes={"sessionId": "s"})), "s"),
    ],
)
def test_what_else_a_protocol_says(source: str, request_: Request, value: Any) -> None:
    assert evaluate(source, request_) == value


@pytest.mark.parametrize("source", ["llm.params.max_tokns < 1", "llm.model == 'm'", "a2a.metdata.x == 1"])
def test_its_misspellings_are_refused(source: str) -> None:
    with pytest.raises(cel.CheckError, match="undefined field"):
        cel.compile(source, variables=VARIABLES)
