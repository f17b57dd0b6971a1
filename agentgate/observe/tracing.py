"""Tracing: one span for each request and one for each request to an upstream, through OpenTelemetry's API alone.

It makes spans and hands the trace on. Where they go, and which of them are kept, is the host's to say, by its tracer
provider: none is configured here. Without one nothing is traced, and headers go on as they came.
"""

from contextvars import Token

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, StatusCode

from .. import __version__
from ..attempt import Attempt
from ..policy import Observer
from ..record import Record
from ..request import Request, Scope
from . import semconv as names
from .span_attributes import Later, answered, asked, attempt_name, message_of, method_shown, received, sent
from .trace_context import (
    BAGGAGE,
    TRACEPARENT,
    TRACESTATE,
    baggage_of,
    from_headers,
    from_meta,
    headers_for,
    is_excessive,
    with_baggage,
)

_BAGGAGE = frozenset({BAGGAGE})
_OURS = frozenset({TRACEPARENT, TRACESTATE})
_ALL = _OURS | _BAGGAGE


class _Traced:
    """One request's spans."""

    __slots__ = ("attached", "attempt", "context", "drops_baggage", "known", "span", "start")

    def __init__(self) -> None:
        self.span: Span | None = None  # None where nothing is traced
        self.context: Context | None = None  # in which it is the current one
        self.start = 0  # in nanoseconds since the epoch
        self.known = 0  # so many details it knows
        self.attached: Token[Context] | None = None
        self.attempt: tuple[Span, int] | None = None  # under way, and how many details it knows
        self.drops_baggage = False


class Tracing(Observer):
    """Traces requests. `provider`: the tracer provider; None for the one that the host has set, now or later.

    `public_endpoint`: whoever calls is not trusted, so a trace begins here, sampled or not by our own decision; the one
    that the caller names is linked, and its baggage goes no further.
    """

    def __init__(self, *, provider: trace.TracerProvider | None = None, public_endpoint: bool = False) -> None:
        self.public_endpoint = public_endpoint
        self._tracer = trace.get_tracer("agentgate", __version__, provider, names.SCHEMA_URL)

    def start(self, request: Request) -> _Traced:
        return _Traced()

    def judged(self, token: _Traced, record: Record) -> None:
        if record.span_id is not None:
            return  # it has its span from another one of these, further out
        request = record.view
        by_name = request.by_name
        current = get_current()
        ambient = trace.get_current_span(current).get_span_context()
        parent: SpanContext | None = ambient if ambient.is_valid else None
        links: list[SpanContext] = []
        if TRACEPARENT in by_name or record.protocol == "mcp":
            parent, links = self._parent(record, parent)
        context = current
        if parent is not None and parent is not ambient:
            context = trace.set_span_in_context(NonRecordingSpan(parent), current)
        if BAGGAGE in by_name:
            baggage = baggage_of(request.raw_headers)
            token.drops_baggage = self.public_endpoint or is_excessive(baggage)
            if not (token.drops_baggage or ambient.is_valid):  # who has begun that span has read it
                current = with_baggage(baggage, current)
        method = method_shown(request)
        start = int(request.now * 1e9)
        span = self._tracer.start_span(
            method if record.route is None else f"{method} {record.route}",
            context,
            SpanKind.SERVER,
            Later(asked, record),
            [Link(link) for link in links] if links else None,
            start,
        )
        mine = span.get_span_context()
        if not mine.is_valid or (parent is not None and mine.span_id == parent.span_id):
            return  # nobody has set a provider
        token.span, token.start, token.known = span, start, len(record.details)
        ours = headers_for(mine)
        _, record.trace_id, record.span_id, _ = ours["traceparent"].split("-")
        record.sampled = mine.trace_flags.sampled
        token.context = trace.set_span_in_context(span, current)
        if record.duration is None:  # else it was refused, and no app comes next
            token.attached = attach(token.context)
            if record.app_scope is not None:
                _tell(record.app_scope, ours, anew=TRACEPARENT in by_name or TRACESTATE in by_name)

    def _parent(self, record: Record, around: SpanContext | None) -> tuple[SpanContext | None, list[SpanContext]]:
        """The parent of a request's span, and what is linked. It is the call in an MCP message, if that names itself;
        else `around`, which somebody has begun in this process; else the caller over HTTP."""
        given = from_headers(record.view.raw_headers)
        meta = None
        if record.protocol == "mcp":
            params = message_of(record).get("params")
            meta = from_meta(params.get("_meta")) if isinstance(params, dict) else None
        if self.public_endpoint:
            return around, [one for one in (None if around else given, meta) if one is not None]
        around = around or given
        if meta is None:
            return around, []
        return meta, [] if around is None or around.span_id == meta.span_id else [around]

    def forwarding(self, token: _Traced, record: Record, attempt: Attempt) -> None:
        if token.span is None:
            if token.drops_baggage:
                attempt.change_headers(_BAGGAGE, ())
            return
        attributes = Later(sent, (record, attempt))
        span = self._tracer.start_span(attempt_name(record), token.context, SpanKind.CLIENT, attributes)
        token.attempt = span, len(record.details)
        ours = [(name.encode(), value.encode()) for name, value in headers_for(span.get_span_context()).items()]
        attempt.change_headers(_ALL if token.drops_baggage else _OURS, ours)

    def forwarded(self, token: _Traced, record: Record, attempt: Attempt) -> None:
        if token.attempt is None:
            return
        (span, known), token.attempt = token.attempt, None
        if span.is_recording():
            found = received(record, attempt, known)
            span.set_attributes(found)
            if names.ERROR_TYPE in found:
                span.set_status(StatusCode.ERROR)
        span.end()

    def returned(self, token: _Traced, record: Record) -> None:
        if token.attached is not None:
            detach(token.attached)
            token.attached = None

    def end(self, token: _Traced, record: Record) -> None:
        span = token.span
        if span is None:
            return
        start = token.start
        if span.is_recording():
            found = answered(record, token.known)
            span.set_attributes(found)
            if record.route is None:
                route = found.get(names.HTTP_ROUTE)
                if route is not None:
                    span.update_name(f"{method_shown(record.request)} {route}")
            if record.streamed and record.first_byte is not None:
                span.add_event(names.FIRST_BYTE, timestamp=start + int(record.first_byte * 1e9))
            if names.ERROR_TYPE in found:
                span.set_status(StatusCode.ERROR)
        span.end(start + int((record.duration or 0) * 1e9))

    def __repr__(self) -> str:
        return f"Tracing(public_endpoint={self.public_endpoint})"


def _tell(scope: Scope, ours: dict[str, str], *, anew: bool) -> None:
    """Have what reads the headers, in the app, find the span that it is in: not everybody asks for the current one.
    `anew`: there are such headers already."""
    headers = scope["headers"]
    if anew:
        headers = [pair for pair in headers if pair[0] != TRACEPARENT and pair[0] != TRACESTATE]
    scope["headers"] = [*headers, *[(name.encode(), value.encode()) for name, value in ours.items()]]
