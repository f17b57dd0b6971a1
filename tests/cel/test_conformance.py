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

# The only tests that are not run: 25 that use cel.block, cel.index and cel.iterVar, which optimizers write and
# authors do not.
SKIPPED_SUITES = {"block_ext"}

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


@needs_data
def test_every_conformance_test_passes_but_for_the_macros_that_only_optimizers_write() -> None:
    """Value tests and error tests are counted apart: a missing function would pass the error tests."""
    counts: Counter[tuple[str, str]] = Counter()
    misses = []
    for test in usable_tests():
        kind = "error" if "error" in test["expect"] else "value"
        found = "skipped" if test["suite"] in SKIPPED_SUITES else outcome(test)
        counts[kind, found if found in ("pass", "skipped") else "miss"] += 1
        if found not in ("pass", "skipped"):
            misses.append(f"{test['suite']}/{test['section']}/{test['name']}: {test['expr']!r}: {found}")
    assert misses == []
    assert counts == {("value", "pass"): 1526, ("error", "pass"): 192, ("value", "skipped"): 25}
