"""No literal, name or key of an expression can become code, and generated code can reach nothing."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agentgate import cel
from agentgate.cel.emit import _GLOBALS
from agentgate.cel.scan import RESERVED
from agentgate.cel.types import TYPE_NAMES

NAMES = st.one_of(
    st.from_regex(r"[_a-zA-Z][_a-zA-Z0-9]{0,12}", fullmatch=True),
    st.sampled_from(
        [
            *_GLOBALS,
            "A",
            "e",
            "f",
            "n",
            "x",
            "t",
            "v1",
            "k1",
            "self",
            "class",
            "def",
            "None",
            "True",
            "__import__",
            "exec",
        ]
    ),
)
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.sampled_from(['"""', "'''", "\\", '"+A+"', "{}", "%s", "\n", "\x00"]),
)


def literal(text: str) -> str:
    return '"' + "".join(f"\\U{ord(c):08x}" for c in text) + '"'


@settings(max_examples=200, deadline=None)
@given(TEXTS)
@example("');__import__('os')#")
def test_a_literal_is_its_value_however_it_is_written(text: str) -> None:
    assert cel.compile(literal(text)).evaluate({}) == text
    assert cel.compile(f"{{{literal(text)}: 1}}[{literal(text)}]").evaluate({}) == 1
    plain = text.replace("\\", "\\\\").replace("'", "\\'").replace("\r", "\\r").replace("\n", "\\n")
    assert cel.compile(f"'''{plain}'''").evaluate({}) == text
    assert cel.compile(f"x == '{plain}' && x.startsWith('{plain}') && x in ['{plain}']").evaluate({"x": text}) is True


@settings(max_examples=200, deadline=None)
@given(NAMES.filter(lambda name: name not in {*RESERVED, *TYPE_NAMES}))
def test_a_name_is_a_key_of_the_variables_or_a_variable_of_a_macro_and_nothing_else(name: str) -> None:
    assert cel.compile(f".{name}").evaluate({name: 1}) == 1
    assert cel.compile(f"v.{name}").evaluate({"v": {name: 1}}) == 1
    assert cel.compile(f"[1, 2].map({name}, {name} + {name})").evaluate({}) == [2, 4]
    with pytest.raises(cel.EvaluationError):
        cel.compile(f".{name}", check=False).evaluate({})


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="abx_.,:?()[]{}\"'\\`=!<>&|+-*/% \n0123456789eEuUxX", max_size=60))
def test_any_text_is_a_value_or_an_error_of_the_language(source: str) -> None:
    with contextlib.suppress(cel.CELError):
        cel.compile(source, check=False).evaluate({"a": 1, "b": "x", "x": {"a": [1]}})


@pytest.mark.parametrize(
    "source",
    [
        "v.__class__",
        "v.real",
        "[].append",
        "''.format",
        "{}.keys",
        "''.join.__self__",
        "v['__class__']",
        "jwt.__dict__",
        "request.__class__",
        "has(request.__class__)",
        "request['__init__']",
        "request.?__class__",
    ],
)
def test_attributes_of_python_are_out_of_reach(source: str) -> None:
    class View:
        path = "/"

    data: dict[str, Any] = {"v": 1, "jwt": {}, "request": View()}
    with pytest.raises(cel.CELError):
        cel.compile(source, variables={"v": "dyn", "jwt": "map(string, dyn)", "request": {"path": "string"}}).evaluate(
            data
        )
    with pytest.raises(cel.CELError):
        cel.compile(source, check=False).evaluate(data)


def test_generated_code_has_no_builtins() -> None:
    evaluate: Any = cel.compile("1").evaluate
    assert evaluate.__globals__["__builtins__"] == {}
