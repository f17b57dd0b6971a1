"""The conformance tests of the CEL specification, those that need no protocol buffers.

They come as data: one JSON object per line, as `cel-conformance.jsonl` in the folder that AGENTGATE_TEST_DATA names.
"""

from __future__ import annotations

import base64
import json
import math
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentgate import cel
from agentgate.cel.types import Type, parse_type
from agentgate.cel.values import keys, map_key, new_map

Test = dict[str, Any]

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "cel.md"

FOLDER = os.environ.get("AGENTGATE_TEST_DATA")
needs_data = pytest.mark.skipif(
    FOLDER is None, reason="AGENTGATE_TEST_DATA does not name the folder of cel-conformance.jsonl"
)


def usable_tests() -> Iterator[Test]:
    """The tests that need no protocol buffers."""
    assert FOLDER is not None
    for line in (Path(FOLDER) / "cel-conformance.jsonl").read_text(encoding="utf-8").splitlines():
        test = json.loads(line)
        if not test["needs_proto"]:
            yield test


def decode(tagged: list[Any]) -> Any:
    """A typed value of the data as a CEL value."""
    tag, *rest = tagged
    match tag:
        case "null":
            return None
        case "uint":
            return cel.UInt(rest[0])
        case "double":
            return float(rest[0])
        case "bytes":
            return base64.b64decode(rest[0])
        case "list":
            return [decode(item) for item in rest[0]]
        case "map":
            return new_map([(decode(key), decode(value)) for key, value in rest[0]])
        case "type":
            return Type(rest[0])
        case "timestamp":
            return cel.Timestamp(rest[0] * 10**9 + rest[1])
        case "duration":
            return cel.Duration(rest[0] * 10**9 + rest[1])
    return rest[0]


def identical(a: Any, b: Any) -> bool:
    """Typed equality: 1 is not 1u is not 1.0, NaN is NaN."""
    if a.__class__ is not b.__class__:
        return False
    if isinstance(a, list):
        return len(a) == len(b) and all(map(identical, a, b))
    if isinstance(a, dict):
        return len(a) == len(b) and all(
            map_key(key) in b and identical(a[map_key(key)], b[map_key(key)]) for key in keys(a)
        )
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    return bool(a == b)


def declarations(test: Test) -> dict[str, Any]:
    """The arguments of compile() that a test asks for."""
    variables: dict[str, str] = {}
    functions: dict[str, None] = {}
    for entry in test["type_env"]:
        if entry["kind"] == "var":
            variables[entry["name"]] = entry["type"]
        else:
            for overload in entry["overloads"]:
                functions[f"{entry['name']}({', '.join(overload['params'])}) -> {overload['result']}"] = None
    check = not test["disable_check"]
    return {
        "variables": variables if check or variables else None,
        "functions": functions,
        "container": test["container"],
        "check": check,
    }


def outcome(test: Test) -> str:
    """`pass`, or what went wrong."""
    expected = test["expect"]
    try:
        expression = cel.compile(test["expr"], **declarations(test))
        if "type" in expected and expression.type != parse_type(expected["type"]):
            return f"type {expression.type}"
        if test["check_only"]:
            return "pass"
        value = expression.evaluate({name: decode(bound) for name, bound in test["bindings"].items()})
    except cel.CELError as error:
        return "pass" if "error" in expected else f"error {error}"
    if "error" in expected:
        return "a value instead of an error"
    return "pass" if identical(value, decode(expected["value"])) else f"value {value!r}"


def rows(heading: str) -> list[list[str]]:
    """The rows of the table on the page that begins with this heading."""
    _, _, rest = PAGE.read_text(encoding="utf-8").partition(f"\n{heading}\n")
    lines = rest.split("\n\n")[0].splitlines()[1:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def misses_told() -> dict[str, str]:
    """The suites that the page says are missed, and why."""
    return {row[0]: row[2] for row in rows("| missed | tests | reason |") if row[0] != "not run"}


@needs_data
def test_the_page_tells_what_passes_and_every_miss_has_its_reason() -> None:
    """Value tests and error tests are counted apart: a missing function would pass the error tests."""
    passed: Counter[tuple[str, str]] = Counter()
    total: Counter[tuple[str, str]] = Counter()
    unexplained = []
    explained = misses_told()
    for test in usable_tests():
        suite, kind = test["suite"], "error" if "error" in test["expect"] else "value"
        found = outcome(test)
        for counted in (suite, "**total**"):
            total[counted, kind] += 1
            passed[counted, kind] += found == "pass"
        if found != "pass" and suite not in explained:
            unexplained.append(f"{suite}/{test['section']}/{test['name']}: {test['expr']!r}: {found}")
    assert unexplained == []
    suites = [*sorted({suite for suite, _ in total} - {"**total**"}), "**total**"]
    shown = []
    for suite in suites:
        kinds = (suite, "value"), (suite, "error")
        cells = [f"{passed[kind]} of {total[kind]}" if total[kind] else "-" for kind in kinds]
        missed = sum(total[kind] - passed[kind] for kind in kinds)
        shown.append([suite, *cells, str(missed or "")])
    assert shown == rows("| suite | value | error | missed |")
    told = {row[0]: int(row[1]) for row in rows("| missed | tests | reason |") if row[0] != "not run"}
    assert told == {row[0]: int(row[3]) for row in shown if row[3] and row[0] != "**total**"}
    assert passed["**total**", "value"] + passed["**total**", "error"] >= 1_680
