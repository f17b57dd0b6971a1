"""The functions beyond the conformance tests: what agentgateway adds, and what a caller adds."""

from typing import Any

import pytest

from agentgate import cel
from agentgate.cel.library import FUNCTIONS
from agentgate.errors import ConfigurationError


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("json('{\"a\": [1, 2.5, true, null]}')", {"a": [1, 2.5, True, None]}),
        ("json(b'1')", 1),
        ("toJson({'a': [1, 2u, 2.5, true, null, b'x', 'é']})", '{"a":[1,2,2.5,true,null,"eA==","é"]}'),
        ("to_json({1: timestamp(0), true: duration('90s')})", '{"1":"1970-01-01T00:00:00Z","true":"90s"}'),
        ("{'a': 1}.with(m, m.a + 1)", 2),
        ("{'a': 1, 'b': 2}.mapValues(v, v * 2)", {"a": 2, "b": 4}),
        ("{'a': 1, 'b': 2}.filterKeys(k, k != 'a')", {"b": 2}),
        ("{'a': 1, 'b': 2}.merge({'b': 3, 'c': 4})", {"a": 1, "b": 3, "c": 4}),
        ("default({}.a, 'x')", "x"),
        ("default(nobody.a, 'x')", "x"),
        ("default({'a': null}.a, 'x')", "x"),
        ("default({'a': 1}.a, 2)", 1),
        ("default({}.a && true, false)", False),
        ("coalesce({}.a, 1 / 0, null, 3)", 3),
        ("coalesce({}.a, null)", None),
        ("'a-b-c'.regexReplace('-', '+')", "a+b-c"),
        ("'john doe'.regexReplace('(\\\\w+) (?P<last>\\\\w+)', '$last, ${1}$$ $9')", "doe, john$ "),
        ("'abc'.regexReplace('x', 'y')", "abc"),
        ("sha256.encode('abc')", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        ("sha1.encode(b'abc')", "a9993e364706816aba3e25717850c26c9cd0d89d"),
        ("md5.encode('abc')", "900150983cd24fb0d6963f7d28e17f72"),
        ("base64.encode('hi') + string(base64.decode('aGk'))", "aGk=hi"),
        ("url.encode('a b/ü')", "a%20b%2F%C3%BC"),
        ("url.decode('a%20b+c')", "a b+c"),
        ("form.encode({'b': 'x y', 'a': [1, 'z'], 'n': dyn(null)})", "a=1&a=z&b=x+y"),
        ("form.decode('a=1&b=x+y&a=2')", {"a": ["1", "2"], "b": "x y"}),
        ("'/v1/chat'.stripPrefix('/v1') + 'a.json'.stripSuffix('.json')", "/chata"),
        ("max(1, 3, 2) + min([4, 5])", 7),
        ("[[1], [2, [3]]].flatten() == [1, 2, [3]]", True),
        ("[1, [2, [3]]].flatten(5)", [1, 2, 3]),
        (
            "string(0.1) + ' ' + string(1e30) + ' ' + string(-1234567.0) + ' ' + string(1e-7)",
            "0.1 1e+30 -1234567 1e-07",
        ),
        ("isCIDR('10.0.0.0/8') && !isCIDR('10.0.0.0/33')", True),
        ("cidr('10.0.0.0/8').containsIP('::ffff:0a01:0203')", True),
        ("cidr('::/0').containsIP('10.0.0.1')", False),
        ("timestamp('2024-02-29T12:00:00Z').getDayOfYear('Europe/Rome')", 59),
        ("string(timestamp('2024-02-29T12:00:00.000000001+01:00'))", "2024-02-29T11:00:00.000000001Z"),
        ("string(duration('-1h1ms'))", "-3600.001s"),
    ],
)
def test_a_function_gives(source: str, value: Any) -> None:
    assert cel.compile(source, check=False).evaluate({}) == value


@pytest.mark.parametrize(
    "source",
    [
        "json('{')",
        'json(\'{"a": 1, "a": 2}\')',
        "json('NaN')",
        "json('\"\\\\ud800\"')",
        "json(b'\\xff')",
        "toJson(0.0 / 0.0)",
        "toJson(type(1))",
        "default(1 / 0, 1)",
        "default('a'.b, 1)",
        "coalesce({}.a, 1 / 0)",
        "fail()",
        "base64.decode('a!')",
        "url.decode('%ff')",
        "form.decode('%ff=1')",
        "ip('127.1')",
        "ip('01.2.3.4')",
        "ip('::1%eth0')",
        "cidr('10.0.0.0/08')",
        "cidr('10.0.0.0/-1')",
        "timestamp('2024-02-30T00:00:00Z')",
        "timestamp('2024-01-01 00:00:00Z')",
        "timestamp('2024-01-01T24:00:00Z')",
        "timestamp(0).getHours('../etc/passwd')",
        "timestamp(0).getHours('25:00')",
        "duration('')",
        "duration('1')",
        "duration('.s')",
        "duration('9999999999h')",
        "int('1_0')",
        "int(' 1')",
        "int('٣')",
        "double('1_0')",
        "double('0x1p3')",
        "'abc'.substring(2, 1)",
        "[1, 'a'].join()",
        "[[1]].flatten(-1)",
        "double(' 1')",
        "[{}, {'a': 1, 'b': 2}].transformMapEntry(i, v, v)",
        "'%q'.format([1])",
        "'%.2d'.format([1])",
        "'%s'.format([])",
        "'%d'.format([1.5])",
        "'%s'.format([optional.none()])",
        "math.greatest([])",
        "math.greatest(1, 'a')",
        "random()",
        "uuid()",
        "variables()",
    ],
)
def test_a_function_refuses(source: str) -> None:
    with pytest.raises(cel.EvaluationError):
        cel.compile(source, check=False).evaluate({})


def has_role(claims: Any, role: str) -> bool:
    return role in claims["roles"]


def test_a_caller_adds_functions_with_their_types() -> None:
    functions: dict[str, Any] = {
        "<map(string, dyn)>.hasRole(string) -> bool": has_role,
        "demo.twice(int) -> int": lambda n: n * 2,
        "size(timestamp) -> int": lambda t: 8,
        "<string>.contains(int) -> string": lambda s, n: "yes",
    }
    rule = cel.compile(
        "jwt.hasRole('dev') && demo.twice(2) == 4 && size(timestamp(0)) == 8 && size('ab') == 2"
        " && 'a'.contains(1) == 'yes'",
        variables={"jwt": "map(string, dyn)"},
        functions=functions,
        result="bool",
    )
    assert rule.evaluate({"jwt": {"roles": ["dev"]}}) is True
    with pytest.raises(cel.CheckError, match="no overload of 'hasRole'"):
        cel.compile("jwt.hasRole(1)", variables={"jwt": "map(string, dyn)"}, functions=functions)
    # Its result is not trusted to be a bool because another overload gives one.
    with pytest.raises(cel.EvaluationError):
        cel.compile("dyn('a'.contains(1)) && true", functions=functions).evaluate({})


@pytest.mark.parametrize("result", [object(), {1}, 1j])
def test_what_a_custom_function_returns_must_be_a_cel_value(result: Any) -> None:
    with pytest.raises(cel.EvaluationError):
        cel.compile("f()", functions={"f() -> dyn": lambda: result}).evaluate({})


def test_what_a_custom_function_raises_is_an_error_without_its_text_but_cancellation_passes() -> None:
    def broken(kind: str) -> None:
        raise KeyboardInterrupt if kind == "stop" else RuntimeError("s3cr3t")

    rule = cel.compile("f(x)", functions={"f(string) -> dyn": broken})
    with pytest.raises(cel.EvaluationError) as caught:
        rule.evaluate({"x": "fail"})
    assert "s3cr3t" not in str(caught.value)
    with pytest.raises(KeyboardInterrupt):
        rule.evaluate({"x": "stop"})


@pytest.mark.parametrize(
    "signature", ["f", "f()", "f( -> int", "f(int -> int", "f(list(int) -> int", "f(int) -> list("]
)
def test_a_bad_signature_is_refused(signature: str) -> None:
    with pytest.raises(ConfigurationError):
        cel.compile("1", functions={signature: None})


def test_no_function_depends_on_anything_but_its_arguments() -> None:
    assert not {"random", "uuid", "now", "variables", "env"} & set(FUNCTIONS)


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("0001-01-01T00:00:00Z", -62135596800 * 10**9),
        ("9999-12-31T23:59:59.999999999Z", 253402300800 * 10**9 - 1),
    ],
)
def test_a_timestamp_reads_and_writes_its_text(text: str, ns: int) -> None:
    assert cel.Timestamp.parse(text).ns == ns
    assert str(cel.Timestamp(ns)) == text


def test_timestamps_and_durations_convert_to_python_and_back() -> None:
    moment = cel.Timestamp.parse("2024-02-29T12:00:00.123456Z")
    assert cel.Timestamp.of(moment.datetime()) == moment
    length = cel.Duration.parse("-1.5s")
    assert cel.Duration.of(length.timedelta()) == length
    assert moment != length
    assert repr([moment, length]) == "[Timestamp(2024-02-29T12:00:00.123456Z), Duration(-1.5s)]"
