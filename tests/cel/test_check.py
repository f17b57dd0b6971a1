"""The checker: every fault of an expression at once, each with its place and a suggestion."""

from typing import Any

import pytest

from agentgate import cel
from agentgate.errors import AgentgateError, ConfigurationError

VARIABLES: dict[str, Any] = {
    "request": {"method": "string", "path": "string", "body?": "string", "headers": "map(string, dyn)"},
    "jwt": "map(string, dyn)",
    "mcp": "struct{method: string, tool?: struct{name: string, arguments: dyn}}",
    "port": "int",
}


def faults(source: str, **options: Any) -> list[str]:
    """Each fault as `line:column message`."""
    with pytest.raises(cel.CheckError) as caught:
        cel.compile(source, **{"variables": VARIABLES, **options})
    return [f"{p.line}:{p.column} {p.message}" for p in caught.value.problems]


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("reqest.path", "1:1 undeclared name 'reqest' (did you mean 'request'?)"),
        ("request.pth", "1:9 undefined field 'pth' in 'request' (did you mean 'path'?)"),
        ('request["pth"]', "1:9 undefined field 'pth' in 'request' (did you mean 'path'?)"),
        ("has(request.bdy)", "1:13 undefined field 'bdy' in 'request' (did you mean 'body'?)"),
        ("mcp.tool.nam", "1:10 undefined field 'nam' in 'mcp.tool' (did you mean 'name'?)"),
        ("request[jwt.field]", "1:8 no overload of '[_]' for (request, dyn)"),
        ('"path" in request', "1:8 no overload of 'in' for (string, request)"),
        ('request.path.startWith("/")', "1:14 undeclared function 'startWith' (did you mean 'startsWith'?)"),
        ('math.abss("a")', "1:6 undeclared function 'math.abss' (did you mean 'math.abs'?)"),
        ("[1].exist(1)", "1:5 undeclared function 'exist' (did you mean 'exists'?)"),
        ("[1].exists(true)", "1:5 the macro 'exists' takes other arguments"),
        ("request.path.startsWith(1)", "1:14 no overload of 'startsWith' of string for (int)"),
        ("size(1)", "1:1 no overload of 'size' for (int)"),
        ("1 + 'a'", "1:3 no overload of '+' for (int, string)"),
        ("1 == 'a'", "1:3 no overload of '==' for (int, string)"),
        ("port == 1.0", "1:6 no overload of '==' for (int, double)"),
        ("port in ['a']", "1:6 no overload of 'in' for (int, list(string))"),
        ("port && true", "1:1 an operand of && must be bool, not int"),
        ("port ? 1 : 2", "1:1 a condition must be bool, not int"),
        ("true ? 1 : 'a'", "1:1 the branches of ?: differ: int and string"),
        ("port.exists(x, true)", "1:6 exists() cannot go over int"),
        ("[1].all(x, x)", "1:12 the predicate of all() must be bool, not int"),
        ("[1].transformMapEntry(i, v, v)", "1:29 the result of transformMapEntry() must be a map, not int"),
        ("port.optMap(p, p)", "1:1 optMap() needs an optional, not int"),
        ("optional.of(1).optFlatMap(p, p)", "1:30 the result of optFlatMap() must be optional, not int"),
        ("{1.5: 2}", "1:2 double cannot be a key of a map"),
        ("[?1]", "1:3 an element marked with ? must be optional, not int"),
        ("port.name", "1:6 int has no field 'name'"),
        ('"a".matches("(")', "1:13 not a regular expression of RE2"),
        ('"a".regexReplace("(", "b")', "1:23 not a regular expression of RE2"),
        ('cidr("10.0.0.0/33")', "1:6 not a network"),
        ('timestamp("yesterday")', "1:11 not a timestamp"),
        ('duration("1 hour")', "1:10 not a duration"),
    ],
)
def test_a_fault_is_told_with_its_place(source: str, fault: str) -> None:
    assert faults(source) == [fault]


def test_all_faults_are_told_at_once_each_once_in_the_order_of_the_text() -> None:
    source = 'reqest.path.startsWith(1) ||\n  request.pth == 1 && jwt.sub.contians("x") ||\n  1 + "a" == port'
    assert faults(source) == [
        "1:1 undeclared name 'reqest' (did you mean 'request'?)",
        "1:13 no overload of 'startsWith' of dyn for (int)",
        "2:11 undefined field 'pth' in 'request' (did you mean 'path'?)",
        "2:31 undeclared function 'contians' (did you mean 'contains'?)",
        "3:5 no overload of '+' for (int, string)",
    ]


def test_the_message_shows_the_source_line() -> None:
    with pytest.raises(cel.CheckError) as caught:
        cel.compile("true &&\n  request.pth", variables=VARIABLES)
    assert str(caught.value) == (
        "2:11: undefined field 'pth' in 'request' (did you mean 'path'?)\n    request.pth\n            ^~~"
    )


@pytest.mark.parametrize(
    ("source", "fault"),
    [("request.path", "1:1 the expression is string, not bool"), ("[1]", "1:1 the expression is list(int), not bool")],
)
def test_a_result_of_another_type_than_required_is_a_fault(source: str, fault: str) -> None:
    assert faults(source, result="bool") == [fault]
    cel.compile("jwt.admin", variables=VARIABLES, result="bool")  # dyn may be a bool


@pytest.mark.parametrize(
    ("source", "type_"),
    [
        ("jwt.sub", "dyn"),
        ("jwt", "map(string, dyn)"),
        ("request", "request"),
        ("request.path.split('/')", "list(string)"),
        ("request.headers.?x", "optional_type(dyn)"),
        ("{'a': [1u]}", "map(string, list(uint))"),
        ("[1, 'a']", "list(dyn)"),
        ("[1].map(i, string(i))", "list(string)"),
        ("{'a': 1}.mapValues(v, v > 0)", "map(string, bool)"),
        ("timestamp(0) - timestamp(1)", "duration"),
        ("type(1)", "type(int)"),
        ("default(request.body, 'x')", "string"),
        ("math.greatest(1, 2)", "int"),
    ],
)
def test_types_are_deduced(source: str, type_: str) -> None:
    assert str(cel.compile(source, variables=VARIABLES).type) == type_


@pytest.mark.parametrize(
    ("source", "paths"),
    [
        ("request.path == 'x' && port > 1", {"request.path", "port"}),
        ('request["body"] == "x"', {"request.body"}),
        ("has(request.body)", {"request.body"}),
        ("jwt.a.b", {"jwt.a.b"}),
        ('jwt["https://x/roles"]', {"jwt"}),
        ("jwt[request.path]", {"jwt", "request.path"}),
        ("request.headers['x']", {"request.headers.x"}),
        ("[jwt].map(j, j.sub)", {"jwt"}),
        ("cel.bind(request, 1, request)", set()),
        ("dyn(request).body", {"request"}),
        ("mcp.?tool.name", {"mcp.tool.name"}),
        ("1 + 1", set()),
    ],
)
def test_an_expression_tells_what_it_reads(source: str, paths: set[str]) -> None:
    assert cel.compile(source, variables=VARIABLES).reads == paths


@pytest.mark.parametrize(
    ("source", "path", "may"),
    [
        ("request.body == 'x'", "request.body", True),
        ("request.body == 'x'", "request", True),
        ("request.path == 'x'", "request.body", False),
        ("dyn(request).body", "request.body", True),
        ("mcp.tool.arguments.x == 1", "mcp.tool.arguments", True),
        ("mcp.tool.name == 'a'", "mcp.tool.arguments", False),
        ("jwt.request == 1", "request", False),
    ],
)
def test_it_can_be_asked_whether_a_path_may_be_read(source: str, path: str, may: bool) -> None:
    assert cel.compile(source, variables=VARIABLES).may_read(path) is may


@pytest.mark.parametrize(
    ("source", "texts"),
    [
        ("mcp.tool.name == 'a'", {"a"}),
        ("'a' != mcp.tool['name']", {"a"}),
        ("!(mcp.tool.name in ['a', 'b', request.path]) || has(mcp.tool) && mcp.tool.name == 'c'", {"a", "b", "c"}),
        ("mcp.tool.name in {'a': 1, 'b': 2}", {"a", "b"}),
        ("[1, 2].all(n, n > 1 && mcp.tool.name == 'a')", {"a"}),
        ("dyn(mcp.tool.name) == 1 || mcp.tool.name == request.path", set()),
        ("mcp.tool.name.startsWith('a') || mcp.tool.name < 'b'", set()),
        ("request.path == 'a' && mcp.tool.arguments.name == 'b'", set()),
    ],
)
def test_it_can_be_asked_what_a_path_is_compared_with(source: str, texts: set[str]) -> None:
    assert cel.compile(source, variables=VARIABLES).compared("mcp.tool.name") == texts


@pytest.mark.parametrize(
    ("source", "unguarded"),
    [
        ("request.body == 'x'", {"request.body"}),
        ("has(request.body) && request.body == 'x'", set()),
        ("mcp.tool.name == 'x'", {"mcp.tool"}),
        ("has(mcp.tool) && mcp.tool.name == 'x'", set()),
        ("mcp.?tool.name.hasValue()", set()),
        ("request.path == jwt.x", set()),
    ],
)
def test_reading_a_field_that_may_be_absent_without_asking_is_reported(source: str, unguarded: set[str]) -> None:
    assert cel.compile(source, variables=VARIABLES).unguarded == unguarded


def test_without_declared_variables_every_name_is_a_variable_but_functions_are_checked() -> None:
    assert cel.compile("anything.at.all == 1").evaluate({"anything": {"at": {"all": 1}}}) is True
    assert faults("anything.startWith('a')", variables=None)


def test_unchecked_faults_wait_until_they_are_evaluated() -> None:
    assert cel.compile("nobody.calls('this') || true", check=False, variables={}).evaluate({}) is True
    with pytest.raises(cel.EvaluationError):
        cel.compile("1 + 'a'", check=False).evaluate({})


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "list(",
        "map(int)",
        "list(int, int)",
        "struct{a}",
        "struct{a: int",
        "int)",
        "a b",
        "int; drop",
        {"a.b": "int"},
        {"_x": "int"},
    ],
)
def test_a_bad_declaration_is_refused(bad: Any) -> None:
    with pytest.raises(ConfigurationError):
        cel.compile("true", variables={"x": bad})


def test_all_errors_are_errors_of_agentgate() -> None:
    for error in (cel.ParseError, cel.CheckError, cel.EvaluationError, cel.Unknown):
        assert issubclass(error, cel.CELError)
        assert issubclass(error, AgentgateError)


@pytest.mark.parametrize(
    "source", ["'a'.startsWith()", "'a'.matches()", "size([1], 2)", "json()", "'a'.contains('a', 1)"]
)
def test_a_call_of_no_known_form_is_an_error_where_nothing_is_checked(source: str) -> None:
    with pytest.raises(cel.CheckError):
        cel.compile(source)
    with pytest.raises(cel.EvaluationError, match="no such overload"):
        cel.compile(source, check=False).evaluate({})
