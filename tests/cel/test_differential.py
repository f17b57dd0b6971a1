"""Generated expressions give the same as in another engine: cel-expr-python, which is Google's C++ implementation.

Every operand is wrapped in dyn(), so that both engines decide at run time. Errors are compared as errors, not by
their text.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from agentgate import cel

strings = pytest.importorskip("cel_expr_python.ext.ext_strings")
oracle = pytest.importorskip("cel_expr_python.cel", reason="cel-expr-python has no wheel for this platform")

DATA: dict[str, Any] = {
    "i": 3,
    "z": 0,
    "d": 2.5,
    "s": "añb",
    "t": True,
    "n": None,
    "l": [1, "a", 2.0, [True], None],
    "x": 1,
    "m": {"a": 1, "b": {"c": "x"}, "l": [3, 1]},
}
INTS = st.sampled_from([0, 1, 2, -1, 3, 2**31, 2**53 + 1, 2**63 - 1, -(2**63)])
ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\x00": "\\x00"}


def quoted(text: str) -> str:
    return '"' + "".join(ESCAPES.get(c, c) for c in text) + '"'


Source = st.SearchStrategy[str]


def fill(template: str, *operands: Source) -> Source:
    """The template with each `{}` replaced by an operand, as dyn."""
    return st.tuples(*operands).map(lambda texts: template.format(*(f"dyn({text})" for text in texts)))


def each(templates: list[str], *operands: Source) -> Source:
    return st.one_of([fill(template, *operands) for template in templates])


# Mostly operands of the right type, or nearly everything would be an error; a tenth is anything.
ERRORS = st.sampled_from(["nobody", "m.nope", "l[9]", "(1 / z)", "n.x", "l[0].a"])
OTHERS = st.sampled_from(["null", "n", 'b"ab"', "int", "{}", "[]", 'duration("90s")', "timestamp(0)", "-0.0", "d"])
ANY: Source = st.deferred(lambda: st.one_of(INT, BOOL, STR, LIST, MAP, OTHERS, ERRORS))
INT: Source = st.deferred(
    lambda: st.one_of(
        INTS.map(str),
        st.sampled_from(["i", "z", "m.a", "m.l[0]", "l[0]", "x"]),
        st.sampled_from(["2u", "d", "1.0", "2.5", "1e18", "9223372036854775807.0", "(0.0 / 0.0)", "(1.0 / 0.0)"]),
        each(["({} + {})", "({} - {})", "({} * {})", "({} / {})", "({} % {})"], INT, INT),
        each(["-{}", "int({})", "uint({})", "double({})"], INT),
        each(["size({})"], STR | LIST | MAP),
        each(["{}.indexOf({})"], STR, STR),
        each(["({} ? {} : {})"], BOOL, INT, ANY),
        each(["{}.getSeconds()", "{}.getHours()"], OTHERS),
    )
)
BOOL: Source = st.deferred(
    lambda: st.one_of(
        st.sampled_from(["true", "false", "t", "has(m.a)", "has(m.nope)", "has(m.b.c)"]),
        each(["({} == {})", "({} != {})", "({} < {})", "({} <= {})", "({} > {})", "({} >= {})"], INT, INT),
        each(["({} == {})", "({} != {})"], ANY, ANY),
        each(["({} < {})", "{}.contains({})", "{}.startsWith({})", "{}.endsWith({})"], STR, STR),
        each(["({} && {})", "({} || {})"], BOOL | ERRORS, BOOL | ERRORS),
        each(["({} && {} && {})", "({} || {} || {})"], BOOL | ERRORS, BOOL | ANY, BOOL),
        each(["!{}"], BOOL),
        each(["({} in {})"], ANY, LIST | MAP),
        each(["{}.exists(x, {})", "{}.all(x, {})", "{}.exists_one(x, {})"], LIST | MAP, BOOL | ERRORS),
    )
)
STR: Source = st.deferred(
    lambda: st.one_of(
        st.text(alphabet='aAbñ🐱\\"\n\x00 ', max_size=4).map(quoted),
        st.sampled_from(["s", "m.b.c", "l[1]", '"1"', '"true"', "x"]),
        each(["({} + {})"], STR, STR),
        each(["{}.lowerAscii()", "{}.trim()", "string({})"], STR),
        each(["{}.charAt({})", "{}.substring({})"], STR, INT),
        each(["{}.replace({}, {})"], STR, STR, STR),
        each(["string({})"], INTS.map(str) | BOOL),
    )
)
LIST: Source = st.deferred(
    lambda: st.one_of(
        st.sampled_from(["l", "m.l", "[]", "[1, 2, 3]"]),
        each(["[{}]"], ANY),
        each(["[{}, {}]"], ANY, ANY),
        each(["({} + {})"], LIST, LIST),
        # Only maps of one entry: in which order a macro goes over a map is nobody's promise.
        each(["{}.map(x, {})"], LIST | st.just("m.b"), ANY),
        each(["{}.filter(x, {})"], LIST | st.just("m.b"), BOOL),
        each(["{}.split({})"], STR, st.sampled_from(['" "', '"a"', "s"])),
    )
)
MAP: Source = st.deferred(lambda: st.one_of(st.sampled_from(["m", "m.b", "{}"]), each(["{{{}: {}}}"], ANY, ANY)))
EXPRESSIONS = st.one_of(BOOL, INT, STR, LIST, MAP, each(["{}[{}]"], LIST | MAP, INT | STR), each(["type({})"], ANY))

T = oracle.Type
ENVIRONMENT = oracle.NewEnv(variables=dict.fromkeys([*DATA, "nobody"], T.DYN), extensions=[strings.ExtStrings()])
ERROR = ("error",)


def plain(value: Any) -> Any:
    """A value of either engine with its type next to it, in a form that compares."""
    if isinstance(value, cel.Timestamp | cel.Duration):
        return type(value).__name__, value.ns // 1000
    if isinstance(value, list):
        return "list", [plain(item) for item in value]
    if isinstance(value, dict):
        # The other engine gives uint keys as ints.
        items = ([int(k) if isinstance(k, cel.UInt) else plain(k)[1], plain(v)] for k, v in value.items())
        return "map", sorted(items, key=repr)
    if isinstance(value, float):
        return "float", "nan" if math.isnan(value) else repr(value)
    return type(value).__name__, str(value) if isinstance(value, cel.Type) else value


def theirs(source: str) -> Any:
    try:
        result = ENVIRONMENT.compile(source).eval(data=DATA)
    except RuntimeError:
        return ERROR
    return ERROR if result.type() == T.ERROR else plain(_value(result))


def _value(result: Any) -> Any:
    kind, value = result.type(), result.value()
    if kind == T.UINT:
        return cel.UInt(value)
    if kind == T.TIMESTAMP:
        return cel.Timestamp.of(value)
    if kind == T.DURATION:
        return cel.Duration.of(value)
    if kind == T.TYPE:
        return cel.Type(str(result).partition("<")[0])
    if isinstance(value, list):
        return [_value(item) if hasattr(item, "type") else item for item in value]
    if isinstance(value, dict):
        return {
            _value(k) if hasattr(k, "type") else k: _value(v) if hasattr(v, "type") else v for k, v in value.items()
        }
    return bytes(value) if isinstance(value, bytearray) else value


def ours(source: str) -> Any:
    try:
        return plain(cel.compile(source, variables=dict.fromkeys([*DATA, "nobody"], "dyn")).evaluate(DATA))
    except cel.CELError:
        return ERROR


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(EXPRESSIONS)
def test_generated_expressions_give_the_same_in_both_engines(source: str) -> None:
    assume(sum(map(source.count, "([{-!")) < 24)  # deeper, the other engine reaches its own limit
    assert ours(source) == theirs(source)
