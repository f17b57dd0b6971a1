"""What everything together costs: one Gate with key, rules, log, metrics and traces, beside the stack of packages that
does the same.

Run it: `python tests/bench/stack.py`. As in `gate.py`, all rows come from one run. Nothing is sampled, and lines of the
log go nowhere, on either side.
"""

import asyncio
import importlib.util
import logging
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import celpy
from asgi_correlation_id import CorrelationIdMiddleware
from asgi_logger.middleware import AccessLoggerMiddleware
from celpy.adapter import json_to_cel
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.responses import PlainTextResponse
from starlette_exporter import PrometheusMiddleware

from agentgate import AccessLog, APIKeyAuth, CELRules, Gate, Metrics, Tracing, hash_key

_SPEC = importlib.util.spec_from_file_location("gate_bench", Path(__file__).with_name("gate.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
gate = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(gate)

RULES = {
    "readers": 'request.method == "GET"',
    "below headers": 'request.path.startsWith("/headers")',
    "a known client": 'request.headers["user-agent"] != "bad"',
}
OURS, THEIRS = "one Gate", "a stack of packages"


class CEL:
    """Rules in CEL as one would write them with cel-python: compiled once, asked for each request."""

    def __init__(self, app: Any) -> None:
        self.app = app
        environment = celpy.Environment()
        self.programs = [environment.program(environment.compile(rule)) for rule in RULES.values()]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        request = {"method": scope["method"], "path": scope["path"], "headers": headers}
        activation = {"request": json_to_cel(request)}
        if not all(program.evaluate(activation) for program in self.programs):
            await PlainTextResponse("forbidden", 403)(scope, receive, send)
            return
        await self.app(scope, receive, send)


def contestants() -> dict[str, Any]:
    """The two, and the app that they stand in front of."""
    provider = TracerProvider(sampler=ParentBased(ALWAYS_OFF), shutdown_on_exit=False)

    def null(line: str) -> None:
        pass

    ours = Gate(
        gate.bare,
        authenticate=[APIKeyAuth({"alice": hash_key(gate.KEY)})],
        authorize=[CELRules(require=RULES)],
        observe=[AccessLog(null, format="json"), Metrics(), Tracing(provider=provider)],
    )
    logger = logging.Logger("access")
    logger.addHandler(logging.NullHandler())
    theirs: Any = AuthenticationMiddleware(CEL(gate.bare), backend=gate.KeyBackend())
    theirs = PrometheusMiddleware(theirs, group_paths=False)
    theirs = AccessLoggerMiddleware(theirs, logger=logger)
    theirs = OpenTelemetryMiddleware(theirs, tracer_provider=provider, meter_provider=NoOpMeterProvider())
    theirs = CorrelationIdMiddleware(theirs, validator=None)
    return {"bare app": gate.bare, OURS: ours, THEIRS: theirs}


async def _measure(rounds: int, requests: int) -> dict[str, float]:
    apps = contestants()
    times: dict[str, list[float]] = {name: [] for name in apps}
    for _ in range(rounds):
        for name, app in apps.items():
            times[name].append(await gate._round(app, requests))
    return {name: statistics.median(values) for name, values in times.items()}


def measure(rounds: int = 11, requests: int = 500) -> Mapping[str, float]:
    """Microseconds of CPU per request that each adds to the bare app: medians of interleaved rounds."""
    times = asyncio.run(_measure(rounds, requests))
    return {name: time - times["bare app"] for name, time in times.items()}


def main() -> None:
    added = measure()
    print("| added to a bare app | µs per request | of the stack |\n| --- | ---: | ---: |")
    for name in (OURS, THEIRS):
        print(f"| {name} | {added[name]:.1f} | {added[name] / added[THEIRS]:.2f} |")


if __name__ == "__main__":
    main()
