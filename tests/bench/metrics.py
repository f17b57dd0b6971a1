"""What Metrics cost: microseconds of CPU that they add to a request, beside what other middleware adds for Prometheus.

Run it: `python tests/bench/metrics.py`. As in `gate.py`, all rows come from one run.
"""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_fastapi_instrumentator import Instrumentator
from starlette.applications import Starlette

from agentgate import APIKeyAuth, Gate, Metrics, Observer, Record, hash_key

_SPEC = importlib.util.spec_from_file_location("gate_bench", Path(__file__).with_name("gate.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
gate = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(gate)


class Nobody(Observer):
    """An observer that keeps nothing: what is left is the Gate's own cost."""

    def end(self, token: Any, record: Record) -> None:
        pass


def _instrumented() -> Any:
    """The instrumentator's middleware around the bare app, as `Instrumentator().instrument(app)` would add it."""
    app = Starlette()
    Instrumentator(registry=CollectorRegistry()).instrument(app)
    (middleware,) = app.user_middleware
    return middleware.cls(gate.bare, *middleware.args, **middleware.kwargs)


def contestants() -> dict[str, Any]:
    """What is measured; the first one is what the others are compared with."""
    keys = {"alice": hash_key(gate.KEY)}
    return {
        "bare app": gate.bare,
        "Gate: nobody": Gate(gate.bare, observe=[Nobody()]),
        "Gate: Metrics": Gate(gate.bare, observe=[Metrics()]),
        "Gate: API key, nobody": Gate(gate.bare, authenticate=[APIKeyAuth(keys)], observe=[Nobody()]),
        "Gate: API key, Metrics": Gate(gate.bare, authenticate=[APIKeyAuth(keys)], observe=[Metrics()]),
        "prometheus-fastapi-instrumentator": _instrumented(),
    }


def measure(rounds: int = 15, requests: int = 2000) -> Mapping[str, float]:
    """Microseconds of CPU per request that each contestant adds to the bare app; and what Metrics add to a Gate."""
    added: dict[str, float] = dict(gate.measure(rounds, requests, contestants()))
    added["Metrics, in a Gate"] = added["Gate: Metrics"] - added["Gate: nobody"]
    added["Metrics, in a Gate with a key"] = added["Gate: API key, Metrics"] - added["Gate: API key, nobody"]
    return added


def main() -> None:
    added = measure()
    reference = added["prometheus-fastapi-instrumentator"]
    print("| added to a bare app | µs per request | of the instrumentator |\n| --- | ---: | ---: |")
    for name, microseconds in added.items():
        if name != "bare app":
            print(f"| {name} | {microseconds:.1f} | {microseconds / reference:.2f} |")


if __name__ == "__main__":
    main()
