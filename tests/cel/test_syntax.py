"""Text -> tree: every fault has its place, and no text can hang or kill the parser."""

import sys
import time
from typing import Any

import pytest

from agentgate import cel
from agentgate.cel.limits import MAX_SOURCE


def problems(source: str) -> list[str]:
    """Each fault as `line:column message`."""
    with pytest.raises(cel.ParseError) as caught:
        cel.compile(source)
    return [f"{p.line}:{p.column} {p.message}" for p in caught.value.problems]


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("", "1:1 unexpected end of the expression"),
        ("a +", "1:4 unexpected end of the expression"),
        ("a..b", "1:3 unexpected token"),
        ("a ? b", "1:6 unexpected end of the expression"),
        ("a\n  && #", "2:6 unexpected character '#'"),
        ("(1", "1:3 unexpected end of the expression"),
        ("1)", "1:2 unexpected token"),
        ("a inb", "1:3 unexpected token"),
        ('"a" "b"', "1:5 unexpected token"),
        ('"a""b"', "1:4 unexpected token"),
        ("a.5", "1:2 unexpected token"),
        ("1in [1]", "1:1 a number runs into a name"),
        ("0x1g", "1:1 a number runs into a name"),
        ('a == "x', "1:6 unterminated string"),
        ("'it's'", "1:6 unterminated string"),
        ('"""a"', "1:1 unterminated string"),
        ('"a\nb"', "1:1 unterminated string"),
        (r'"\q"', "1:1 unknown escape sequence"),
        (r'"\ud800"', "1:1 no such code point"),
        (r'b"\u0041"', "1:1 unknown escape sequence"),
        ("9223372036854775808", "1:1 integer out of range"),
        ("-9223372036854775809", "1:2 integer out of range"),
        ("18446744073709551616u", "1:1 integer out of range"),
        ("1e999", "1:1 double out of range"),
        ("if", "1:1 'if' is a reserved word"),
        ("x + for", "1:5 'for' is a reserved word"),
        ("a.true", "1:3 a name is expected here"),
        ("`a-b`", "1:2 a name is expected here"),
        ("f(?x)", "1:3 unexpected token"),
        ("a == ? b", "1:6 unexpected token"),
        ("[?]", "1:2 unexpected `?`"),
        ("Account{name: 1}", "1:1 messages cannot be constructed: there are no message types here"),
        ("has(a)", "1:1 has() asks for a field: has(a.b)"),
        ('has(a["b"])', "1:1 has() asks for a field: has(a.b)"),
        ("[1].map(1, 2)", "1:9 the name of a variable is expected here"),
        ("[1].all(i, i, true)", "1:12 variable 'i' is named twice"),
        ("coalesce()", "1:1 coalesce() needs an argument"),
        ("'\ud800'", "1:2 unexpected surrogate"),
    ],
)
def test_a_fault_is_told_with_its_place(source: str, fault: str) -> None:
    assert fault in problems(source)


def test_all_bad_literals_and_names_are_told_at_once() -> None:
    assert problems('"\\q" == if && 1e999 > 99999999999999999999') == [
        "1:1 unknown escape sequence",
        "1:9 'if' is a reserved word",
        "1:15 double out of range",
        "1:23 integer out of range",
    ]


def test_the_source_line_is_shown_with_a_caret() -> None:
    with pytest.raises(cel.ParseError) as caught:
        cel.compile('a == 1 &&\n\tb == "x\\q"')
    assert str(caught.value) == '2:7: unknown escape sequence\n  \tb == "x\\q"\n  \t     ^~~~~'


@pytest.mark.parametrize(
    ("source", "value"),
    [
        (" \t\n\f\r 1 // comment ) \" '\n + 1", 2),
        ("[1, 2,]", [1, 2]),
        ("{'a': 1,}", {"a": 1}),
        ("{'if': 1}.if", 1),
        ("{'x-y': 1}.`x-y`", 1),
        ("'a'in['a']", True),
        ("'a' in\"a\".split('')", True),
        ("-9223372036854775808", -(2**63)),
        ("- 1", -1),
        ("1-1", 0),
        (".5 + 1.", None),
        ("0xFFu", cel.UInt(255)),
        (r"r'\d' + '\x41\101\u0041\U00000041\n'", "\\dAAAA\n"),
        (r"b'\xff\101é'", b"\xffA\xc3\xa9"),
        ("'''a\n'b\"'''", "a\n'b\""),
        ("true?1:2", 1),
        ("[?optional.none(), ?optional.of(1)]", [1]),
        ("{?'a': optional.none(), 'b': 2}", {"b": 2}),
        ("{'a': 1}.?b.orValue(3) + [4][?0].value()", 7),
        ('{"a":{"b":1}}["a"]["b"]', 1),
    ],
)
def test_what_is_legal_is_read(source: str, value: Any) -> None:
    if value is None:
        assert problems(source)
    else:
        assert cel.compile(source).evaluate({}) == value


@pytest.mark.parametrize(
    "source",
    [
        '"' + "\\n" * 8000,  # costs cel-python's lexer 2^8000
        "'" + "\\\\" * 8000,
        '"""' + '"a' * 5000,
        "r'" + "'" * 5000 + '"',
        "(" * 16000,
        "[" * 40 + "]" * 40,
        "!" * 16000 + "a",
        "-" * 16000 + "1",
        "a" + ".b" * 8000,
        "1" + "+1" * 8000,
        "a?b:" * 4000 + "c",
        "a" + "[0]" * 5000,
        "`" * 10000,
        "/" * 16000,
        "1" * 16000,
        "x" * (MAX_SOURCE + 1),
    ],
    ids=lambda source: f"{source[:6]!r}... {len(source)}",
)
def test_no_text_hangs_or_kills_the_parser(source: str) -> None:
    started = time.perf_counter()
    with pytest.raises(cel.CompileError):
        cel.compile(source)
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize(
    "source",
    [
        "(" * 32 + "1" + ")" * 32,
        "!" * 32 + "true",
        "[" * 30 + "]" * 30,
        "true ? true : " * 30 + "false",
        "1" + " + 1" * 32,
        " && ".join(["a == 1"] * 1500),
        " || ".join(["x.y"] * 2300),
        "[" + ",".join(["1"] * 5000) + "]",
        "(" * 14 + "true" + " && a || b)" * 14,
        "(" * 15 + "true" + " && a) || b" * 0 + " || b) && (a".join([""] * 1) + ")" * 15,
        "[1].exists(a, " * 15 + "true" + ")" * 15,
        "[1].map(a, " * 30 + "a" + ")" * 30,
        "optional.of(1).optMap(a, " * 15 + "a" + ")" * 15,
        "cel.bind(a, 1, " * 30 + "a" + ")" * 30,
        "default(x.z, " * 30 + "1" + ")" * 30,
        "true ? (true && " * 15 + "true" + ") : false" * 15,
    ],
    ids=lambda source: f"{source[:12]!r}... {len(source)}",
)
def test_what_is_within_the_limits_compiles_and_runs(source: str) -> None:
    assert cel.compile(source).evaluate({"a": 1, "b": True, "x": {"y": False}}) is not None


def test_parsing_leaves_nothing_behind_in_the_process() -> None:
    from celpy.celparser import CELParser

    limit, parser = sys.getrecursionlimit(), CELParser.CEL_PARSER
    cel.compile("1 + 1")
    assert sys.getrecursionlimit() == limit
    assert CELParser.CEL_PARSER is parser
