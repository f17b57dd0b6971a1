"""What must not grow, does not: a generous bound, for machines that have something else to do."""

import asyncio
import importlib.util
from pathlib import Path

import pytest

_SPEC = importlib.util.spec_from_file_location("scaling_bench", Path(__file__).with_name("scaling.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
bench = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(bench)


@pytest.mark.parametrize("kind", ["routes", "keys"])
def test_a_request_costs_the_same_with_many(kind: str) -> None:
    """Trying two thousand routes in order would cost ten times as much."""
    costs = asyncio.run(bench.measure(kind, (10, 2000), rounds=5))
    assert costs[2000] < 3 * costs[10]
