"""What an evaluation may cost: a budget of steps bounds the time, whatever author and client have thought of."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgate import cel
from agentgate.cel.cost import weigh


def worst() -> ModuleType:
    """The script `tests/bench/cel_worst.py` as a module."""
    path = Path(__file__).parents[1] / "bench" / "cel_worst.py"
    spec = importlib.util.spec_from_file_location("bench_cel_worst", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_worst_that_we_could_think_of_ends_soon() -> None:
    """The goal is 50 ms, which docs/explanation/cel.md shows; this allows for a slow and busy machine."""
    slow = [(name, seconds) for name, seconds, _ in worst().measure(rounds=3) if seconds > 0.25]
    assert slow == []


@pytest.mark.parametrize(
    ("source", "within", "beyond"),
    [
        ("l.all(x, x >= 0)", 10_000, 10_001),
        ("l.all(x, x >= 0 && x != -1)", 5_000, 5_001),
        ("l.all(x, string(x) != 'a')", 5_000, 5_001),
        ("l.all(a, [1, 2].all(b, true))", 3_333, 3_334),
        ("l.all(x, true) && l.all(x, true)", 5_000, 5_001),
        ("l.exists(x, -1 in l) == false", 99, 101),
        ("l.map(x, 'a').join().size() > 0", 4_900, 5_100),
        ("l == l", 4_999, 5_001),
        ("toJson(l).size() > 0", 9_999, 10_001),
    ],
)
def test_how_far_the_steps_go(source: str, within: int, beyond: int) -> None:
    rule = cel.compile(source)
    assert rule.evaluate({"l": list(range(within))}) is True
    for _ in range(2):  # work is counted, not time: the answer is the same every time
        with pytest.raises(cel.EvaluationError, match="more than 10000 steps"):
            rule.evaluate({"l": list(range(beyond))})


@pytest.mark.parametrize("character", ["a", "é", "🐱"])
def test_a_search_costs_by_bytes_and_by_pattern(character: str) -> None:
    simple, large = cel.compile("t.matches('^.+$')"), cel.compile("t.matches('((a|b|c|d|e){0,10}){0,80}x')")
    width = len(character.encode())
    assert simple.evaluate({"t": character * (100_000 // width)}) is True
    assert large.evaluate({"t": character * (600 // width)}) is False
    for rule, size in ((simple, 700_000), (large, 800)):
        with pytest.raises(cel.EvaluationError, match="more than 10000 steps"):
            rule.evaluate({"t": character * (size // width)})


@pytest.mark.parametrize(
    "source",
    [
        "groups.exists(g, g.startsWith('team-') && g.endsWith('-500'))",
        "groups.filter(g, g.matches('^team-[0-9]+$')).size() == 600",
        "'team-7' in groups && groups.map(g, g.split('-')[1]).exists(n, n == '599')",
        "text.contains('needle') || !text.matches('(?i)drop\\\\s+table')",
        "json(document).items.all(i, i.price < 100) && sha256.encode(text) != ''",
        "cidrs.exists(c, cidr(c).containsIP('10.9.0.1'))",
    ],
)
def test_rules_that_people_write_are_far_from_it(source: str) -> None:
    data = {
        "groups": [f"team-{i}" for i in range(600)],
        "text": "some words, " * 6_000,
        "document": '{"items": [' + ",".join(f'{{"id": {i}, "price": {i % 100}}}' for i in range(1_500)) + "]}",
        "cidrs": [f"10.{i}.0.0/16" for i in range(200)],
    }
    assert cel.compile(source).evaluate(data) is True


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=600) | st.binary(max_size=600),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES, VALUES)
def test_more_weighs_no_less(a: object, b: object) -> None:
    assert weigh(a, b) == weigh(a) + weigh(b)
    assert weigh([a, b]) == 2 + weigh(a, b)
    assert weigh({"a": a}) == 1 + weigh(a)


def test_a_value_that_holds_itself_many_times_over_is_weighed_in_no_time() -> None:
    value: list[object] = [1, 1]
    for _ in range(100):
        value = [value, value]
    assert weigh(value) > 10_000
