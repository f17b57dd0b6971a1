"""W3C Trace Context and Baggage: which of the headers that come in are believed, and how they are said going out.

OpenTelemetry's own propagator takes headers that the recommendation wants ignored, and drops keys that it allows; so
they are read here. Malformed or doubled ones are as good as none, and so are lists that are too long to be looked at.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.trace import SpanContext, TraceFlags, TraceState, get_current_span

from ..headers import RawHeaders

TRACEPARENT: Final = b"traceparent"
TRACESTATE: Final = b"tracestate"
BAGGAGE: Final = b"baggage"

MAX_STATE_MEMBERS: Final = 32
MAX_STATE_BYTES: Final = 8 * 1024  # of what is looked at
MAX_STATE_SENT: Final = 512  # characters that everybody has to pass on; more are not sent
MAX_BAGGAGE_BYTES: Final = 8 * 1024
MAX_BAGGAGE_MEMBERS: Final = 64

_OWS: Final = b" \t"
_FLAGS: Final = 0x03  # sampled, and random trace id: those that are defined
_PARENT: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?").fullmatch
_MEMBER: Final = re.compile(
    rb"([a-z0-9][a-z0-9_\-*/@]{0,255})=([\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e])"
).fullmatch
# A token, and a value that needs no quotes. What OpenTelemetry's propagator is not given, it cannot quote in a warning.
_BAGGAGE_MEMBER: Final = re.compile(
    rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+=[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*"
).fullmatch
_MAX_BAGGAGE_MEMBER: Final = 4096


class _State(TraceState):
    """As it came in: the constructor of `TraceState` drops keys by an older grammar."""

    def __init__(self, entries: Mapping[str, str]) -> None:
        super().__init__()
        self._dict = dict(entries)


def from_headers(headers: RawHeaders) -> SpanContext | None:
    """The caller's span, by its `traceparent` and `tracestate`; None where there is none to believe."""
    parents = [value for name, value in headers if name == TRACEPARENT]
    if len(parents) != 1:
        return None
    return span_context(parents[0], b",".join([value for name, value in headers if name == TRACESTATE]))


def from_meta(meta: Any) -> SpanContext | None:
    """The caller's span, by what the `_meta` of an MCP message says under the same names (SEP-414)."""
    if not isinstance(meta, dict):
        return None
    parent, state = meta.get("traceparent"), meta.get("tracestate")
    if not isinstance(parent, str):
        return None
    return span_context(_bytes(parent), _bytes(state) if isinstance(state, str) else b"")


def span_context(traceparent: bytes, tracestate: bytes = b"") -> SpanContext | None:
    """The span that these values name. Of a version to come, what is known here is read."""
    match = _PARENT(traceparent.strip(_OWS))
    if match is None or match[1] == b"ff" or (match[1] == b"00" and match[5] is not None):
        return None
    flags = TraceFlags(int(match[4], 16) & _FLAGS)
    context = SpanContext(int(match[2], 16), int(match[3], 16), True, flags, _state(tracestate))
    return context if context.is_valid else None


def headers_for(context: SpanContext) -> dict[str, str]:
    """The headers that make a request this span's child; `tracestate` only where there is something to say."""
    flags = context.trace_flags & _FLAGS
    headers = {"traceparent": f"00-{context.trace_id:032x}-{context.span_id:016x}-{flags:02x}"}
    if context.trace_state:
        headers["tracestate"] = _sent(context.trace_state)
    return headers


def current_headers() -> dict[str, str]:
    """Those of the span that is current here; none where none is."""
    context = get_current_span().get_span_context()
    return headers_for(context) if context.is_valid else {}


def baggage_of(headers: RawHeaders) -> bytes:
    """All of the baggage that came in, as one list."""
    return b",".join([value for name, value in headers if name == BAGGAGE])


def is_excessive(baggage: bytes) -> bool:
    """Whether it is more than is looked at, or sent on."""
    return len(baggage) > MAX_BAGGAGE_BYTES or baggage.count(b",") >= MAX_BAGGAGE_MEMBERS


def with_baggage(baggage: bytes, context: Context) -> Context:
    """The context with these members in it; properties, and members that are none, are left out."""
    members = []
    for part in baggage.split(b","):
        name, equals, value = part.partition(b";")[0].partition(b"=")
        member = name.strip(_OWS) + equals + value.strip(_OWS)
        if len(member) <= _MAX_BAGGAGE_MEMBER and _BAGGAGE_MEMBER(member):
            members.append(member.decode("ascii"))
    return W3CBaggagePropagator().extract({"baggage": ",".join(members)}, context)


def _state(header: bytes) -> TraceState | None:
    if not header or len(header) > MAX_STATE_BYTES:
        return None
    found: dict[str, str] = {}
    for part in header.split(b","):
        member = part.strip(_OWS)
        if not member:
            continue
        match = _MEMBER(member)
        if match is None:
            return None
        found.setdefault(match[1].decode("ascii"), match[2].decode("ascii"))
        if len(found) > MAX_STATE_MEMBERS:
            return None
    return _State(found)


def _sent(state: TraceState) -> str:
    """As the recommendation shortens a list: long members go first, then the oldest, which are last."""
    members = [f"{key}={value}" for key, value in state.items()]
    size = sum(map(len, members)) + len(members) - 1
    for member in [member for member in reversed(members) if len(member) > 128] + members[::-1]:
        if size <= MAX_STATE_SENT:
            break
        if member in members:
            members.remove(member)
            size -= len(member) + 1
    return ",".join(members)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # what is not ASCII is valid nowhere
