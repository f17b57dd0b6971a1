"""The variables of a rule: what each of them is for which request, and what is left out."""

from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgate import Call, Principal, Request, cel
from agentgate.context import VARIABLES, Variables

REPEATED = Request.http(headers=[("X-Org", "a"), ("x-org", "b"), ("x-one", "caf\xe9")])


def evaluate(source: str, request: Request) -> Any:
    return cel.compile(source, variables=VARIABLES).evaluate(Variables(request))


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
        ("request.headers['x-org'] == 'a'", REPEATED, False),
        ("'X-Org' in request.headers && !('x-two' in request.headers)", REPEATED, True),
        ("has(request.headers.host)", REPEATED, True),
        ("request.headers.exists(name, name == 'x-one')", REPEATED, True),
        ("size(request.headers)", REPEATED, 3),
        ("source.address", Request.http(client=("10.0.0.1", 7)), "10.0.0.1"),
        ("source.port", Request.http(client=("10.0.0.1", 7)), 7),
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


@pytest.mark.parametrize("source", ["jwt.sub", "has(jwt.sub)", "apiKey.team", "source.address", "request.headers.x"])
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
    with pytest.raises(cel.Unknown):
        evaluate(source, Request.http(call=Call("mcp", "initialize", provisional=True)))
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
    "source",
    [
        "response.code == 200",
        "backend.name == ''",
        "env.podName == ''",
        "mcp.tool.result == 1",
        "request.scope_path == ''",
    ],
)
def test_what_is_not_declared_is_refused(source: str) -> None:
    with pytest.raises(cel.CheckError, match=r"undeclared name|undefined field|no such field"):
        cel.compile(source, variables=VARIABLES)


def test_each_variable_is_made_once_and_only_if_read() -> None:
    variables = Variables(Request.http(jwt={"bad": object()}, api_key={"team": "eng"}))
    assert cel.compile("apiKey.team == 'eng' || jwt.sub == 'a'", variables=VARIABLES).evaluate(variables) is True
    assert set(variables) == {"apiKey"}
    assert variables["request"] is variables["request"]
    with pytest.raises(cel.EvaluationError):  # claims that are no data
        cel.compile("jwt.bad == 1", variables=VARIABLES).evaluate(variables)


def test_a_repr_shows_no_value() -> None:
    variables = Variables(Request.http(jwt={"sub": "alice"}))
    assert variables["jwt"] == {"sub": "alice"}
    assert repr(variables) == "Variables(<Request GET />)"


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
