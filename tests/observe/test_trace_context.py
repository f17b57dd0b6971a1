"""Which trace headers are believed: the cases of the harness of w3c/trace-context, by its names, through a gateway; and
what it does not ask."""

import timeit
from collections.abc import Sequence

import httpx
import pytest
from opentelemetry import baggage
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanContext, TraceFlags

from agentgate import HTTPBackend, Route, Tracing, create_gateway
from agentgate.observe.trace_context import (
    MAX_BAGGAGE_BYTES,
    MAX_STATE_BYTES,
    MAX_STATE_SENT,
    from_meta,
    headers_for,
    is_excessive,
    span_context,
    with_baggage,
)
from agentgate.testing import drive, http_scope

TRACE, SPAN = "12345678901234567890123456789012", "1234567890123456"
PARENT = f"00-{TRACE}-{SPAN}-00"
SAMPLED = f"00-{TRACE}-{SPAN}-01"

Pairs = Sequence[tuple[str, str]]


async def passed_on(headers: Pairs) -> tuple[str, dict[str, str], list[str]]:
    """What an upstream gets behind a gateway that traces: the trace, the state by its keys, and these in order."""
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, content=b"")

    provider = TracerProvider(shutdown_on_exit=False)
    gateway = create_gateway(
        Route("/", HTTPBackend("http://upstream", transport=httpx.MockTransport(answer))),
        observe=[Tracing(provider=provider)],
    )
    exchange = await drive(gateway, http_scope(headers=headers))
    assert exchange.status == 200
    (request,) = requests
    (parent,) = request.headers.get_list("traceparent")
    version, trace_id, span_id, flags = parent.split("-")
    assert (version, len(trace_id), len(span_id), len(flags)) == ("00", 32, 16, 2)
    assert trace_id.strip("0")
    assert span_id.strip("0")
    assert span_id != SPAN
    members = [part for value in request.headers.get_list("tracestate") for part in value.split(",")]
    return trace_id, dict(part.split("=") for part in members), [part.split("=")[0] for part in members]


def one(*values: str) -> list[Pairs]:
    return [[("traceparent", value)] for value in values]


BELIEVED: dict[str, list[Pairs]] = {
    "traceparent_included_tracestate_missing": one(SAMPLED),
    "traceparent_header_name_valid_casing": [
        [(name, SAMPLED)] for name in ("TraceParent", "TrAcEpArEnT", "TRACEPARENT")
    ],
    "traceparent_version_0xcc": one(f"cc-{TRACE}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like"),
    "traceparent_ows_handling": one(f" {SAMPLED}", f"\t{SAMPLED}", f"{SAMPLED} ", f"{SAMPLED}\t", f"\t {SAMPLED} \t"),
    "multiple_requests_with_valid_traceparent": one(SAMPLED, SAMPLED, SAMPLED),
    "propagates_random_flag": one(f"00-{TRACE}-{SPAN}-02"),
}
IGNORED: dict[str, list[Pairs]] = {
    "both_traceparent_and_tracestate_missing": [[]],
    "traceparent_duplicated": [[("traceparent", SAMPLED), ("traceparent", SAMPLED.replace("9012-", "9011-"))]],
    "traceparent_header_name": [[("trace-parent", SAMPLED)], [("trace.parent", SAMPLED)]],
    "traceparent_version_0x00": one(f"{SAMPLED}.", f"{SAMPLED}-what-the-future-will-be-like"),
    "traceparent_version_0xcc, a dot behind the flags": one(f"cc-{TRACE}-{SPAN}-01.what-the-future-will-be-like"),
    "traceparent_version_0xff": one(f"ff-{TRACE}-{SPAN}-01"),
    "traceparent_version_illegal_characters": one(f".0-{TRACE}-{SPAN}-01", f"0.-{TRACE}-{SPAN}-01"),
    "traceparent_version_too_long": one(f"000-{TRACE}-{SPAN}-01", f"0000-{TRACE}-{SPAN}-01"),
    "traceparent_version_too_short": one(f"0-{TRACE}-{SPAN}-01"),
    "traceparent_trace_id_all_zero": one(f"00-{'0' * 32}-{SPAN}-01"),
    "traceparent_trace_id_illegal_characters": one(f"00-.{TRACE[1:]}-{SPAN}-01", f"00-{TRACE[:-1]}.-{SPAN}-01"),
    "traceparent_trace_id_too_long": one(f"00-{TRACE}3-{SPAN}-01"),
    "traceparent_trace_id_too_short": one(f"00-{TRACE[:-1]}-{SPAN}-01"),
    "traceparent_parent_id_all_zero": one(f"00-{TRACE}-{'0' * 16}-01"),
    "traceparent_parent_id_illegal_characters": one(f"00-{TRACE}-.{SPAN[1:]}-01", f"00-{TRACE}-{SPAN[:-1]}.-01"),
    "traceparent_parent_id_too_long": one(f"00-{TRACE}-{SPAN}7-01"),
    "traceparent_parent_id_too_short": one(f"00-{TRACE}-{SPAN[:-1]}-01"),
    "traceparent_trace_flags_illegal_characters": one(f"00-{TRACE}-{SPAN}-.0", f"00-{TRACE}-{SPAN}-0."),
    "traceparent_trace_flags_too_long": one(f"00-{TRACE}-{SPAN}-001"),
    "traceparent_trace_flags_too_short": one(f"00-{TRACE}-{SPAN}-1"),
    "multiple_requests_without_traceparent": [[], [], []],
    "multiple_requests_with_illegal_traceparent": one(*[f"00-{'0' * 32}-{SPAN}-01"] * 3),
    "upper case": one(f"00-{'AB' * 16}-{SPAN}-01"),
    "not ASCII": one(f"00-{TRACE}-{SPAN}-0\xb2"),
}


@pytest.mark.anyio
@pytest.mark.parametrize("name", BELIEVED)
async def test_a_valid_parent_is_believed(name: str) -> None:
    for headers in BELIEVED[name]:
        assert (await passed_on(headers))[0] == TRACE


@pytest.mark.anyio
@pytest.mark.parametrize("name", IGNORED)
async def test_an_invalid_parent_is_as_good_as_none(name: str) -> None:
    """A trace of our own begins, with no state."""
    seen = set()
    for headers in IGNORED[name]:
        trace_id, state, _ = await passed_on([*headers, ("tracestate", "foo=1")])
        assert trace_id[:16] not in (TRACE[:16], "0" * 16, "ab" * 8)
        assert state == {}
        seen.add(trace_id)
    assert len(seen) == len(IGNORED[name])


Z256, Z257 = "z" * 256, "z" * 257
T_V14, T_V, T_V15 = "t" * 241 + "@" + "v" * 14, "t" * 242 + "@v", "t@" + "v" * 15
KEY = "abcdefghijklmnopqrstuvwxyz0123456789_-*/"
VALUE = "".join(chr(c) for c in range(0x20, 0x7F) if chr(c) not in ",=")
BARS = [[f"bar{n:02d}={n:02d}" for n in range(start, start + 10)] for start in (1, 11, 21)]

STATES: dict[str, list[tuple[list[str], dict[str, str]]]] = {
    "tracestate_included_traceparent_included": [(["foo=1,bar=2"], {"foo": "1", "bar": "2"})],
    "tracestate_empty_header": [([""], {}), (["foo=1", ""], {"foo": "1"}), (["", "foo=1"], {"foo": "1"})],
    "tracestate_multiple_headers_different_keys": [
        (["foo=1,bar=2", "rojo=1,congo=2", "baz=3"], {"foo": "1", "bar": "2", "rojo": "1", "congo": "2", "baz": "3"})
    ],
    "tracestate_duplicated_keys": [
        (lines, {"foo": "1"}) for lines in (["foo=1,foo=1"], ["foo=1,foo=2"], ["foo=1", "foo=1"], ["foo=1", "foo=2"])
    ],
    "tracestate_all_allowed_characters": [([f"{key}={VALUE}"], {key: VALUE}) for key in (KEY, f"{KEY}@a-z0-9_-*/")],
    "tracestate_ows_handling": [
        *[
            ([line], {"foo": "1", "bar": "2", "baz": "3"})
            for line in ("foo=1 \t , \t bar=2, \t baz=3", "foo=1\t \t,\t \tbar=2,\t \tbaz=3")
        ],
        *[([line], {"foo": "1"}) for line in (" foo=1", "\tfoo=1", "foo=1 ", "foo=1\t", "\t foo=1 \t")],
    ],
    "tracestate_key_illegal_characters": [([line], {}) for line in ("foo =1", "FOO=1", "foo.bar=1")],
    "tracestate_key_illegal_vendor_format": [
        (["foo@=1,bar=2"], {"foo@": "1", "bar": "2"}),
        (["@foo=1,bar=2"], {}),
        (["foo@@bar=1,bar=2"], {"foo@@bar": "1", "bar": "2"}),
        (["foo@bar@baz=1,bar=2"], {"foo@bar@baz": "1", "bar": "2"}),
    ],
    "tracestate_member_count_limit": [
        (
            [*map(",".join, BARS), "bar31=31,bar32=32"],
            {f"bar{n:02d}": f"{n:02d}" for n in range(1, 33)},
        ),
        ([*map(",".join, BARS), "bar31=31,bar32=32,bar33=33"], {}),
    ],
    "tracestate_key_length_limit": [
        *[(["foo=1", f"{key}=1"], {"foo": "1", key: "1"}) for key in (Z256, T_V14, T_V, T_V15)],
        (["foo=1", f"{Z257}=1"], {}),
    ],
    "tracestate_value_illegal_characters": [(["foo=bar=baz"], {}), (["foo=,bar=3"], {})],
}


@pytest.mark.anyio
@pytest.mark.parametrize("name", STATES)
async def test_the_state_goes_on_as_it_came(name: str) -> None:
    """In order; not at all where something of it is wrong."""
    for lines, state in STATES[name]:
        headers = [("traceparent", PARENT), *(("tracestate", line) for line in lines)]
        assert await passed_on(headers) == (TRACE, state, [*state])


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["trace-state", "trace.state"])
async def test_tracestate_header_name(name: str) -> None:
    assert (await passed_on([("traceparent", PARENT), (name, "foo=1")]))[1] == {}


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["TraceState", "TrAcEsTaTe", "TRACESTATE"])
async def test_tracestate_header_name_valid_casing(name: str) -> None:
    assert (await passed_on([("traceparent", PARENT), (name, "foo=1")]))[1] == {"foo": "1"}


@pytest.mark.anyio
@pytest.mark.parametrize("line", ["foo=1", "foo=1,bar=2"])
async def test_tracestate_included_traceparent_missing(line: str) -> None:
    assert (await passed_on([("tracestate", line)]))[1] == {}


# -- what the harness does not ask -----------------------------------------------------------------------------------


def test_flags_that_are_not_known_are_not_passed_on() -> None:
    context = span_context(f"00-{TRACE}-{SPAN}-ff".encode())
    assert context is not None
    assert headers_for(context) == {"traceparent": f"00-{TRACE}-{SPAN}-03"}


def test_a_state_that_is_too_long_to_be_looked_at_is_none() -> None:
    for state in (b"," * (MAX_STATE_BYTES + 1), b"foo=1," * MAX_STATE_BYTES):
        context = span_context(PARENT.encode(), state)
        assert context is not None
        assert not context.trace_state


@pytest.mark.parametrize(
    ("members", "kept"),
    [
        (["a=" + "x" * 100, "b=" + "x" * 200, "c=" + "x" * 201, "d=1"], "abd"),
        (["a=" + "x" * 200, "b=" + "x" * 100, "c=" + "x" * 100, "d=" + "x" * 120], "bcd"),
        ([f"{key}={'x' * 100}" for key in "abcdef"], "abcd"),
        ([f"{key}={'x' * 20}" for key in "abcdef"], "abcdef"),
    ],
    ids=["a long one, the last", "the only long one", "the last ones", "all fit"],
)
def test_a_state_that_is_too_long_to_be_sent_loses_long_members_first(members: list[str], kept: str) -> None:
    context = span_context(PARENT.encode(), ",".join(members).encode())
    assert context is not None
    sent = headers_for(context)["tracestate"]
    assert "".join(member[0] for member in sent.split(",")) == kept
    assert len(sent) <= MAX_STATE_SENT


def test_a_span_of_the_sdks_own_is_said_as_the_recommendation_has_it() -> None:
    context = SpanContext(0xABC, 0xDEF, False, TraceFlags(1))
    assert headers_for(context) == {"traceparent": f"00-{'0' * 29}abc-{'0' * 13}def-01"}


@pytest.mark.parametrize(
    "meta",
    [
        None,
        [],
        {},
        {"traceparent": None},
        {"traceparent": 1},
        {"traceparent": [SAMPLED]},
        {"traceparent": SAMPLED.encode()},
        {"traceparent": f"{SAMPLED}\n"},
        {"traceparent": "\ud800"},
        {"traceparent": SAMPLED.replace("0", "\uff10")},
        {"Traceparent": SAMPLED},
    ],
)
def test_a_message_that_names_no_span(meta: object) -> None:
    assert from_meta(meta) is None


@pytest.mark.parametrize(("state", "said"), [(None, ""), (7, ""), ("a=1", "a=1"), ("a=\u0100", ""), ("a=1,B=2", "")])
def test_a_message_that_names_one(state: object, said: str) -> None:
    context = from_meta({"traceparent": SAMPLED, "tracestate": state})
    assert context is not None
    assert context.is_remote
    assert headers_for(context).get("tracestate", "") == said


@pytest.mark.parametrize(
    ("header", "excessive"),
    [
        (b"a=1", False),
        (b",".join([b"a=1"] * 64), False),
        (b",".join([b"a=1"] * 65), True),
        (b"," * 30_000, True),
        (b"a=" + b"x" * (MAX_BAGGAGE_BYTES - 2), False),
        (b"a=" + b"x" * (MAX_BAGGAGE_BYTES - 1), True),
    ],
)
def test_how_much_baggage_is_too_much(header: bytes, excessive: bool) -> None:
    assert is_excessive(header) is excessive


@pytest.mark.parametrize(
    ("header", "members"),
    [
        (b"a=1,b=2", {"a": "1", "b": "2"}),
        (b" a = 1 ; secret=yes , b=x%20%C3%A4", {"a": "1", "b": "x \xe4"}),
        (b"a=,b", {"a": ""}),
        (b'a="1",b=1 2,c=\xff,=d,e=f=g', {"e": "f=g"}),
        (b"a=" + b"x" * 5000, {}),
        (b",,,", {}),
    ],
)
def test_baggage_is_what_has_a_name_and_a_value(
    header: bytes, members: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """What is none is left out, and no log says what it was."""
    assert baggage.get_all(with_baggage(header, Context())) == members
    assert caplog.records == []


def test_blanks_cost_no_more_than_letters() -> None:
    """They come from anybody, and are looked at for requests that are refused, too."""

    def seconds(header: bytes) -> float:
        return min(timeit.repeat(lambda: with_baggage(header, Context()), number=1, repeat=5))

    letters, blanks = b"a=" + b"b" * 4000 + b",c=" + b"d" * 4000, b"a" + b" " * 8000 + b"b"
    assert seconds(blanks) < 20 * seconds(letters)
