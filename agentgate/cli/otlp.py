"""`--otlp` and the variables `OTEL_*`: where the spans of a command go. Only here is a tracer provider made and set, as
the whole process is ours."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final
from urllib.parse import urlsplit

from ..errors import ConfigurationError, needs_extra
from ..policy import Observer

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL: Final = "http/protobuf"


def exporting(url: str | None) -> tuple[list[Observer], Callable[[], AbstractContextManager[None]]]:
    """What traces requests: nothing, unless the option or a variable names a receiver. `url`: its base, as
    `OTEL_EXPORTER_OTLP_ENDPOINT` has it; sampler, headers, resource and the like are the variables' to say. Spans are
    sent while the block runs that is returned with it: by a thread, so that each process has to have its own."""
    if not _is_wanted(url):
        return [], nullcontext
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise ConfigurationError(needs_extra("sending traces", "otel")) from None
    from opentelemetry import trace

    from ..observe.tracing import Tracing

    named = Resource({SERVICE_NAME: "agentgate"}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=Resource.create(named.attributes), shutdown_on_exit=False)
    endpoint = None if url is None else f"{url.rstrip('/')}/v1/traces"
    exporter = OTLPSpanExporter(endpoint=endpoint)
    trace.set_tracer_provider(provider)  # for those of the `mcp` SDK, too

    @contextmanager
    def sending() -> Iterator[None]:
        provider.add_span_processor(BatchSpanProcessor(exporter))
        try:
            yield
        finally:
            provider.shutdown()

    return [Tracing()], sending


def _is_wanted(url: str | None) -> bool:
    """Whether spans are to be sent. Raises `ConfigurationError`."""
    if url is None:
        named = next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), None)
        off = os.environ.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower() == "none"
        if named is None or off or os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
            return False
    else:
        named = url
    faults = [
        f"{name}={os.environ[name]}: spans are sent as {_PROTOCOL} alone"
        for name in _PROTOCOLS
        if os.environ.get(name, _PROTOCOL) not in ("", _PROTOCOL)
    ]
    if not _is_http(named):
        faults.append("the OTLP endpoint is an http or https URL, such as http://localhost:4318")
    if faults:
        raise ConfigurationError(faults)
    return True


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)
