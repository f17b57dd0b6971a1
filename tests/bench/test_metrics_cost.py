"""The cost of Metrics stays where it is: a coarse bound that a noisy machine does not break."""

import importlib.util
from pathlib import Path

_SPEC = importlib.util.spec_from_file_location("metrics_bench", Path(__file__).with_name("metrics.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
bench = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(bench)


def test_metrics_cost_at_most_a_third_of_the_instrumentator() -> None:
    added = bench.measure(rounds=5, requests=500)
    assert added["Metrics, in a Gate"] < added["prometheus-fastapi-instrumentator"] / 3
    assert added["Metrics, in a Gate with a key"] < added["prometheus-fastapi-instrumentator"] / 2
