"""Values and errors at run time: CEL's rules, not Python's."""

from __future__ import annotations

import gc
import types
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from agentgate import cel

DATA: dict[str, Any] = {
    "jwt": {"sub": "alice", "roles": ["admin"], "level": 5, "flag": True, "none": None, "name": "abc"},
    "one": 1,
    "yes": True,
    "text": "admin",
    "big": 2**70,
    "bytes": b"ab",
    "nested": {"list": [1, 2.0, cel.UInt(3)]},
    "pair": (1, 2),
}


def value(source: str, data: Any = DATA, **options: Any) -> Any:
    return cel.compile(source, **options).evaluate(data)


@pytest.mark.parametrize(
    "source",
    [
        # bools are not numbers
        "yes != one",
        "dyn(true) != 1",
        "[true] != [dyn(1)]",
        "!(one in [true, false])",
        "!(true in jwt.roles)",
        "{true: 'b', 1: 'i'}[dyn(1)] == 'i'",
        "{true: 'b', 1: 'i'}[dyn(true)] == 'b'",
        "!(dyn(true) in {1: 2})",
        # numbers compare across types, and keys too
        "one == dyn(1u) && one == dyn(1.0)",
        "1.0 in nested.list && 3 in nested.list",
        "{dyn(1u): 2}[dyn(1.0)] == 2",
        "[1, 2][dyn(1.0)] == 2",
        # different types are unequal, not an error
        "dyn(1) != 'a' && dyn(null) != 'a' && dyn([]) != {}",
        "jwt.sub != 5",
        "0.0 / 0.0 != 0.0 / 0.0",
        "[0.0 / 0.0] != [0.0 / 0.0]",
        # errors are absorbed by what decides without them
        "jwt.nope == 1 || true",
        "true || jwt.nope == 1",
        "!(jwt.nope == 1 && false)",
        "!(false && jwt.nope)",
        "(jwt.sub && false) == false",
        "[0, 1].exists(x, 1 / x == 1)",
        "![0, 1].all(x, 1 / x == 2)",
        "jwt.sub || jwt.nope || jwt.flag",
        # macros
        "[1, 2, 3].exists_one(x, x > 2)",
        "{'a': 1, 'b': 2}.all(k, k < 'c')",
        "[3, 4].transformMap(i, v, v * 2) == {0: 6, 1: 8}",
        "['a', 'b'].transformMapEntry(i, v, {v: i}) == {'a': 0, 'b': 1}",
        "[1, 2, 3].map(x, x > 1, x * 2) == [4, 6]",
        "cel.bind(x, jwt.level, x * x) == 25",
        # a string is text, not a container or a pattern
        "'admin'.contains('adm') && size('añb') == 3",
        "!'acme\\n'.matches('^[a-z]+$')",
        "!'é'.matches('^\\\\w$')",
        # has
        "has(jwt.sub) && !has(jwt.nope) && has(jwt.none)",
        # names that mean something to Python or to cel-python
        "[1].all(class, class == 1)",
        "[1].all(self, self == 1) && [1].all(A, A == 1) && [1].all(n, n == 1)",
        "[1].exists(__builtins__, __builtins__ == 1)",
        "pair[1] == 2 && 2 in pair && size(pair) == 2 && pair == [1, 2]",
    ],
)
def test_it_is_true(source: str) -> None:
    assert value(source, check=False) is True


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("jwt.nope", "no_such_key"),
        ("nobody", "no_such_key"),
        ("jwt.sub.length", "no_overload"),
        ("jwt.none.x", "no_overload"),
        ("has(jwt.nope.x)", "no_such_key"),
        ("has(jwt.sub.x)", "no_overload"),
        ("jwt.roles[-1]", "index"),
        ("jwt.roles[1]", "index"),
        ("jwt.roles['a']", "no_overload"),
        ("text[0]", "no_overload"),
        ("text * 3", "no_overload"),
        ("text % one", "no_overload"),
        ("'adm' in text", "no_overload"),
        ("one + yes", "no_overload"),
        ("-yes", "no_overload"),
        ("!one", "no_overload"),
        ("jwt.roles < jwt.roles", "no_overload"),
        ("one < text", "no_overload"),
        ("jwt.sub && jwt.flag", "no_overload"),
        ("jwt.sub ? 1 : 2", "no_overload"),
        ("jwt.roles.map(r, r && true)", "no_overload"),
        ("text.startsWith(one)", "no_overload"),
        ("bytes.startsWith('a')", "no_overload"),
        ("bytes == 'ab' ? 1 : bytes.contains('a')", "no_overload"),
        ("big + 1", "overflow"),
        ("9223372036854775807 + one", "overflow"),
        ("-9223372036854775808 / -one", "overflow"),
        ("-9223372036854775808 % -one", "overflow"),
        ("1 / (one - 1)", "division"),
        ("1u - 2u", "overflow"),
        ("{'a': 1, text: 2, 'admin': 3}", "duplicate_key"),
        ("text.matches('(' + text)", "pattern"),
        ("timestamp(text)", "conversion"),
        ("int(text)", "conversion"),
        ("string(b'\\xff')", "conversion"),
        ("fail(text)", "fail"),
        ("optional.none().value()", "optional"),
        ("[0, 1].map(x, 1 / x)", "division"),
        ("[0, 1].exists_one(x, 1 / x == 1)", "division"),
    ],
)
def test_it_is_an_error(source: str, kind: str) -> None:
    with pytest.raises(cel.EvaluationError) as caught:
        value(source, check=False)
    assert caught.value.kind == kind


def test_integers_truncate_and_keep_the_sign_of_the_dividend() -> None:
    assert value("[-7 / 2, -7 % 2, 7 / -2, 7 % -2]") == [-3, -1, -3, 1]
    assert value("[1.0 / 0.0, -1.0 / 0.0]") == [float("inf"), float("-inf")]


def test_an_error_tells_its_place_and_words_of_the_policy_only() -> None:
    secret = "s3cr3t"
    with pytest.raises(cel.EvaluationError) as caught:
        value("true &&\n  jwt.nope == 'x'", {"jwt": {"token": secret}})
    error = caught.value
    assert (error.line, error.column, error.kind) == (2, 7, "no_such_key")
    assert str(error) == "2:7: no such key: 'nope'\n    jwt.nope == 'x'\n        ^~~~"


@pytest.mark.parametrize(
    "source",
    [
        "jwt[jwt.token]",
        "{}[jwt.token]",
        "int(jwt.token)",
        "duration(jwt.token)",
        "jwt.token + 1",
        "fail(jwt.token)",
        "'a'.matches('(' + jwt.token)",
        "has(jwt.token.x)",
        "'%d'.format([jwt.token])",
        "jwt.token == 1 ? 1 : jwt.token && true",
    ],
)
def test_no_error_holds_a_value(source: str) -> None:
    secret = "s3cr3t-token"
    with pytest.raises(cel.EvaluationError) as caught:
        value(source, {"jwt": {"token": secret}}, check=False)
    error = caught.value
    shown = " ".join(map(repr, [str(error), repr(error), error.args, error.reason, vars(error)]))
    assert secret not in shown
    assert error.__context__ is None
    assert error.__cause__ is None


def test_absorbed_errors_leave_no_garbage_cycles() -> None:
    rule = cel.compile("jwt.nope == 1 || jwt.gone == 2 || jwt.flag")
    rule.evaluate(DATA)
    gc.collect()
    gc.disable()
    try:
        for _ in range(100):
            rule.evaluate(DATA)
        assert gc.collect() == 0
    finally:
        gc.enable()


@pytest.mark.parametrize("error", [RuntimeError, OSError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_is_no_error_of_the_language_passes_through(error: type[BaseException]) -> None:
    class Broken:
        @property
        def path(self) -> str:
            raise error

    rule = cel.compile("request.path == 'x' || true", variables={"request": {"path": "string"}})
    with pytest.raises(error):
        rule.evaluate({"request": Broken()})


def test_running_out_of_stack_or_memory_is_an_error() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(cel.EvaluationError) as caught:
        value("a == b", {"a": deep, "b": [deep]})
    assert caught.value.kind == "limit"
    with pytest.raises(cel.EvaluationError):
        value("a == b || true", {"a": deep, "b": [deep]})  # not absorbed
    while deep:
        deep = deep.pop()


class Headers(Mapping[str, str]):
    """A map that finds its keys whatever their case."""

    def __init__(self, raw: dict[str, str]) -> None:
        self.raw = raw

    def __getitem__(self, name: str) -> str:
        return self.raw[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self.raw)

    def __len__(self) -> int:
        return len(self.raw)


VIEW = types.SimpleNamespace(
    path="/v1/chat", headers=Headers({"x-org": "acme"}), tool=types.SimpleNamespace(name="add")
)
PLAIN = {"path": "/v1/chat", "headers": {"x-org": "acme", "X-Org": "acme"}, "tool": {"name": "add"}}
TYPES = {"request": "struct{path: string, headers: map(string, string), body?: string, tool: struct{name: string}}"}


@pytest.mark.parametrize("request_", [VIEW, PLAIN], ids=["attributes", "dict"])
@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("request.path", "/v1/chat"),
        ('request["path"]', "/v1/chat"),
        ("request.tool.name", "add"),
        ("request.headers['X-Org']", "acme"),
        ("has(request.headers.nope) || 'x-org' in request.headers", True),
        ("has(request.body)", False),
        ("has(request.tool)", True),
        ("request.?body.orValue('none')", "none"),
        ("request.?path.orValue('none')", "/v1/chat"),
        ("request.?tool.name.orValue('none')", "add"),
        ("has(request.?tool.name)", True),
        ("default(request.body, 'none')", "none"),
        ("[request].exists(r, r.path.startsWith('/v1'))", True),
    ],
)
def test_a_struct_is_a_dict_or_an_object_with_attributes(request_: Any, source: str, expected: Any) -> None:
    assert value(source, {"request": request_}, variables=TYPES) == expected


@pytest.mark.parametrize("request_", [VIEW, PLAIN, "text", 5, None, ["list"]])
def test_an_absent_field_or_a_value_of_another_class_is_an_error(request_: Any) -> None:
    with pytest.raises(cel.EvaluationError):
        value("request.body == 'x'", {"request": request_}, variables=TYPES)


def test_variables_may_come_from_any_object_that_can_be_indexed() -> None:
    class Variables:
        def __getitem__(self, name: str) -> str:
            return name.upper()

    assert value("a + b", Variables()) == "AB"


class Text(str):
    """A subclass, as frameworks make them."""


@pytest.mark.parametrize("foreign", [Text("a"), object(), {1, 2}, 1j, type("I", (int,), {})(1)])
def test_values_of_other_classes_have_no_type_and_are_errors(foreign: Any) -> None:
    with pytest.raises(cel.EvaluationError):
        value("x.size() == 1", {"x": foreign})
    with pytest.raises(cel.EvaluationError):
        value("x == 1", {"x": foreign})


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"a": [1, True, None, 2.5, "x"]}, {"a": [1, True, None, 2.5, "x"]}),
        (2**70, float(2**70)),
        ((1, 2), [1, 2]),
    ],
)
def test_foreign_data_becomes_cel_values(data: Any, expected: Any) -> None:
    assert cel.to_cel(data) == expected


def test_bool_keys_of_foreign_data_are_told_from_one() -> None:
    data = {"m": cel.to_cel({True: "b"})}
    assert value("m[true]", data) == "b"
    assert value("1 in m", data) is False
    assert value("m", data) == {True: "b"}


@pytest.mark.parametrize(
    "bad", ["\ud800", object(), {1, 2}, cel.UNKNOWN], ids=["surrogate", "object", "set", "unknown"]
)
def test_foreign_data_without_a_cel_form_is_refused(bad: Any) -> None:
    with pytest.raises(ValueError):
        cel.to_cel({"x": [bad]})


def test_foreign_data_nested_too_deeply_is_refused() -> None:
    deep: Any = []
    for _ in range(65):
        deep = [deep]
    with pytest.raises(ValueError, match="too deeply"):
        cel.to_cel(deep)
