"""The cost of a Gate stays where it is: a coarse bound that a noisy machine does not break."""

import importlib.util
from pathlib import Path

_SPEC = importlib.util.spec_from_file_location("gate_bench", Path(__file__).with_name("gate.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
bench = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(bench)


def test_a_gate_costs_a_fraction_of_a_no_op_base_http_middleware() -> None:
    """API key and access log together cost less than a quarter of what a BaseHTTPMiddleware costs to do nothing, and a
    rate limit beside the key not much more than the key."""
    added = bench.measure(rounds=5, requests=500)
    reference = added["BaseHTTPMiddleware, no-op"]
    assert added["Gate: API key + access log"] < reference / 4
    # 12 us of a line's own, where a no-op BaseHTTPMiddleware takes 80, in text and in JSON.
    nothing = added["Gate: an observer that does nothing"]
    for name in ("Gate: access log", "Gate: access log as JSON"):
        assert added[name] - nothing < reference * 12 / 80
    key = added["Gate: API key"]
    assert added["Gate: API key + rate limit"] - key < 3 * key
