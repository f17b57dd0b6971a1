"""What an expression may not do: loop without bound, or make something of any size."""

import time
from typing import Any

import pytest

from agentgate import cel

DATA: dict[str, Any] = {
    "s": "a" * 40_000,
    "l": list(range(6_000)),
    "n": list(range(200)),
    "m": {str(i): i for i in range(6_000)},
}


@pytest.mark.parametrize(
    "source",
    [
        "n.all(a, n.all(b, true))",
        "n.exists(a, n.exists(b, n.exists(c, false)))",
        "l.map(a, a).map(b, b).size()",
        "m.all(k, true) && m.all(k, v, true)",
        "n.exists(a, -1 in l)",
        "s + s",
        "b'' + bytes(s) + bytes(s)",
        "l + l",
        "m.merge(m)",
        "n.map(a, s).join()",
        "s.replace('a', 'bb')",
        "s.replace('', '-')",
        "s.split('')",
        "s.split('a')",
        "'%s%s'.format([s, s])",
        "'%s'.format([[s, s]])",
        "toJson([s, s])",
        "strings.quote(s.replace('a', '\\n'))",
        "url.encode(s.replace('a', '/'))",
        "base64.encode(bytes(s.substring(0, 30000) + s.substring(0, 30000)))",
        "[l, l].flatten()",
        "s.regexReplace('a', '${0}' + s)",
    ],
)
def test_past_a_limit_is_an_error_that_nothing_absorbs(source: str) -> None:
    for text in (source, f"dyn({source}) == 1 || true", f"coalesce({source}, 1)", f"[1].exists(x, dyn({source}) == 1)"):
        started = time.perf_counter()
        with pytest.raises(cel.EvaluationError) as caught:
            cel.compile(text, check=False).evaluate(DATA)
        assert caught.value.kind == "limit"
        assert time.perf_counter() - started < 2


@pytest.mark.parametrize(
    "source", ["l.all(x, true)", "s.startsWith('a')", "n.all(a, [1, 2].all(b, true))", "s.size() + l.size()"]
)
def test_within_the_limits_it_is_not(source: str) -> None:
    cel.compile(source).evaluate(DATA)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("text.matches('(a+)+$')", "a" * 50_000 + "!"),
        ("text.matches('(a|aa)+$')", "a" * 50_000 + "!"),
        ("text.matches('(x+x+)+y')", "x" * 50_000),
        ("duration(text)", "1" * 30 + "h" + "1h" * 20_000 + "!"),
        ("timestamp(text)", "2024-01-01T00:00:00." + "1" * 50_000 + "Z"),
        ("int(text)", "1" * 60_000),
        ("double(text)", "1" * 60_000 + "e"),
        ("json(text)", "[" * 60_000),
        ("json(text)", '{"a":' * 10_000),
        ("json(text)", "9" * 60_000),
        ("cidr(text)", "1" * 60_000),
        ("base64.decode(text)", "=" * 60_000),
        ("form.decode(text)", "a&" * 30_000),
        ("text.format([1])", "%" * 60_001),
    ],
    ids=lambda value: value[:24],
)
def test_no_text_makes_a_function_slow(source: str, text: str) -> None:
    started = time.perf_counter()
    try:
        cel.compile(source).evaluate({"text": text})
    except cel.EvaluationError:
        pass
    assert time.perf_counter() - started < 1
