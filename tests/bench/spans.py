"""What tracing costs: microseconds of CPU that it adds to a request, in-process, beside OpenTelemetry's own.

Run it: `python tests/bench/spans.py`. As in `gate.py`, all rows come from one run. Spans go to a batch processor
whose exporter throws them away; `opentelemetry-instrumentation-asgi` says what it says by default.
"""

import asyncio
import importlib.util
import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from opentelemetry.context import attach, detach
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler
from opentelemetry.trace import SpanKind, set_span_in_context

from agentgate import Gate, Observer, Tracing

_SPEC = importlib.util.spec_from_file_location("gate_bench", Path(__file__).with_name("gate.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
gate = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(gate)

EVENTS = 100
UNSAMPLED, SAMPLED = "Tracing, unsampled", "Tracing, sampled"
BY_HAND = "a span by hand that says nothing, unsampled"
CONTRIB, CONTRIB_UNSAMPLED = "opentelemetry-instrumentation-asgi", "opentelemetry-instrumentation-asgi, unsampled"
NOTHING, STREAM, TRACED_STREAM = "a Gate that tells nobody", "stream", "stream, traced"


class Discard(SpanExporter):
    """Throws spans away."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


class Nobody(Observer):
    """Is not interested."""

    def end(self, token: Any, record: Any) -> None:
        pass


class ByHand:
    """The least that a span around an app takes."""

    def __init__(self, app: Callable[..., Awaitable[None]], provider: TracerProvider) -> None:
        self.app = app
        self.tracer = provider.get_tracer("bench")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        span = self.tracer.start_span("GET", kind=SpanKind.SERVER)
        token = attach(set_span_in_context(span))
        try:
            await self.app(scope, receive, send)
        finally:
            detach(token)
            span.end()


async def stream(scope: Any, receive: Any, send: Any) -> None:
    """An app that answers in many pieces."""
    await send(gate.START)
    for _ in range(EVENTS):
        await send({"type": "http.response.body", "body": b"data: x\n\n", "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def provider(sampler: Sampler) -> TracerProvider:
    """The SDK, as it is set up in production but for where spans go."""
    made = TracerProvider(sampler=ParentBased(sampler), shutdown_on_exit=False)
    made.add_span_processor(BatchSpanProcessor(Discard()))
    return made


async def _measure(rounds: int, requests: int, off: TracerProvider, on: TracerProvider) -> dict[str, float]:
    meters = NoOpMeterProvider()
    apps = {
        "bare app": gate.bare,
        NOTHING: Gate(gate.bare, observe=[Nobody()]),
        UNSAMPLED: Gate(gate.bare, observe=[Tracing(provider=off)]),
        SAMPLED: Gate(gate.bare, observe=[Tracing(provider=on)]),
        BY_HAND: ByHand(gate.bare, off),
        CONTRIB_UNSAMPLED: OpenTelemetryMiddleware(gate.bare, tracer_provider=off, meter_provider=meters),
        CONTRIB: OpenTelemetryMiddleware(gate.bare, tracer_provider=on, meter_provider=meters),
        STREAM: Gate(stream, observe=[Nobody()]),
        TRACED_STREAM: Gate(stream, observe=[Tracing(provider=on)]),
    }
    times: dict[str, list[float]] = {name: [] for name in apps}
    for _ in range(rounds):
        for name, app in apps.items():
            times[name].append(await gate._round(app, requests // 10 if "stream" in name else requests))
    return {name: statistics.median(values) for name, values in times.items()}


def measure(rounds: int = 15, requests: int = 2000) -> Mapping[str, float]:
    """Microseconds of CPU per request: what tracing adds to a Gate that tells nobody, what OpenTelemetry's middleware
    adds to the bare app, and what a stream takes with and without."""
    off, on = provider(ALWAYS_OFF), provider(ALWAYS_ON)
    try:
        times = asyncio.run(_measure(rounds, requests, off, on))
    finally:
        off.shutdown()
        on.shutdown()
    bases = {UNSAMPLED: NOTHING, SAMPLED: NOTHING, STREAM: None, TRACED_STREAM: None}
    return {name: time - times.get(bases.get(name, "bare app") or "", 0.0) for name, time in times.items()}


def main() -> None:
    added = measure()
    reference = added[CONTRIB]
    print("| added to a request | µs | of OpenTelemetry's middleware |\n| --- | ---: | ---: |")
    for name in (BY_HAND, UNSAMPLED, SAMPLED, CONTRIB_UNSAMPLED, CONTRIB):
        print(f"| {name} | {added[name]:.1f} | {added[name] / reference:.2f} |")
    piece = (added[TRACED_STREAM] - added[STREAM] - added[SAMPLED]) / EVENTS
    print(f"\nAnd per piece of a stream: {piece:.2f} µs.")


if __name__ == "__main__":
    main()
