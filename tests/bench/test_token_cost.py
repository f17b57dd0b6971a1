"""The cost of a token stays where it is: coarse bounds that a noisy machine does not break."""

import importlib.util
from pathlib import Path

_SPEC = importlib.util.spec_from_file_location("tokens_bench", Path(__file__).with_name("tokens.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
bench = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(bench)


def test_a_token_that_was_seen_before_costs_little_more_than_a_key() -> None:
    """Wherever its keys come from; and remembering it is what makes it so."""
    added = bench.measure_gates(rounds=5, requests=300)
    for keys in ("keys in code", "keys of the issuer"):
        assert added[f"token seen before, {keys}"] < added["API key"] * 1.7
        assert added[f"token seen before, {keys}"] < added[f"token never seen (RS256), {keys}"] / 2


def test_verifying_costs_no_more_than_pyjwt_alone() -> None:
    """Though more is checked: nothing is decoded twice."""
    for algorithm, (ours, theirs) in bench.measure_verifying(rounds=5, tokens=100).items():
        assert ours < theirs * 1.3, algorithm
