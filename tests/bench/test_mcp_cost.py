"""The cost of MCP stays where it is: coarse bounds that a noisy machine does not break."""

import importlib.util
from pathlib import Path

_SPEC = importlib.util.spec_from_file_location("mcp_calls_bench", Path(__file__).with_name("mcp_calls.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
bench = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(bench)


def test_reading_a_call_costs_a_small_multiple_of_a_key() -> None:
    added = bench.measure(rounds=5, requests=100)
    key = added["a call: API key"]
    assert added["a call: API key, MCP"] < key * 12
    assert added["a call: API key, MCP, a rule"] < key * 15
    assert added["a list of 50 tools, filtered"] < key * 250
    assert added["a stream of 100 events"] / 100 < key * 3
