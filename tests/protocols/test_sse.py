"""Event streams: cut as the HTML standard cuts them, however their bytes come."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgate.protocols.sse import Event, EventTooLarge, Splitter


def split(*chunks: bytes) -> list[tuple[bytes, bytes | None]]:
    splitter = Splitter()
    return [(event.raw, event.data) for chunk in chunks for event in splitter.feed(chunk)]


@pytest.mark.parametrize(
    ("stream", "data"),
    [
        (b"data: a\n\n", [b"a"]),
        (b"data: a\r\n\r\n", [b"a"]),
        (b"data: a\r\rx", [b"a"]),
        (b"data: a\n\r\n", [b"a"]),
        (b"data: a\r\n\n", [b"a"]),
        (b"data:a\ndata: b\ndata\n\n", [b"a\nb\n"]),
        (b"data:  a \n\n", [b" a "]),
        (b"event: m\nid: 7\nretry: 1\n\n", [None]),
        (b"id: 7\ndata: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"Data: a\n\n", [None]),
        (b" data: a\n\n", [None]),
        (b"data: a", []),
        (b"data: a\n", []),
        (b": ping\ndata: a\n\n", [None, b"a"]),
        (b": ping\n\ndata: a\n\n", [None, b"a"]),
        (b"\n\ndata: a\n\n", [None, b"a"]),
        (b"data: \xff\n\n", [b"\xff"]),
    ],
)
def test_events_are_cut_at_blank_lines(stream: bytes, data: list[bytes | None]) -> None:
    found = split(stream)
    assert [d for _, d in found if d is not None] == [d for d in data if d is not None]
    assert stream.startswith(b"".join(raw for raw, _ in found))


def test_an_event_ends_with_the_whole_of_its_blank_line() -> None:
    assert split(b"data: a\r\n\r", b"\n: end\n") == [(b"data: a\r\n\r\n", b"a"), (b": end\n", None)]


def test_a_comment_between_events_does_not_wait() -> None:
    splitter = Splitter()
    assert [event.raw for event in splitter.feed(b": still here\n")] == [b": still here\n"]
    assert [event.raw for event in splitter.feed(b"data: a\n: inside\n")] == []
    assert [event.data for event in splitter.feed(b"\n")] == [b"a"]


@given(
    st.lists(
        st.sampled_from([b"data: a", b"data: bb", b"data", b"id: 1", b": c", b"", b"event: x", b"\xef\xbb\xbf"]),
        max_size=12,
    ),
    st.lists(st.sampled_from([b"\n", b"\r\n", b"\r"]), min_size=12, max_size=12),
    st.lists(st.integers(0, 60), max_size=6),
)
def test_where_chunks_end_changes_nothing(lines: list[bytes], ends: list[bytes], cuts: list[int]) -> None:
    """The same events carry the same data; not a byte is lost or made up."""
    stream = b"".join(line + end for line, end in zip(lines, ends, strict=False)) + b"data: last\n\n"
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    chunks = [stream[start:end] for start, end in itertools.pairwise(places)]
    pieces, whole = split(*chunks), split(stream)
    assert [data for _, data in pieces if data is not None] == [data for _, data in whole if data is not None]
    assert b"".join(raw for raw, _ in pieces) == b"".join(raw for raw, _ in whole) == stream


@pytest.mark.parametrize(
    ("raw", "data", "changed"),
    [
        (b"data: a\n\n", b"b", b"data: b\n\n"),
        (b"id: 1\r\ndata: a\r\ndata: a\r\nretry: 5\r\n\r\n", b"b", b"id: 1\r\ndata: b\r\nretry: 5\r\n\r\n"),
        (b": c\ndata:a\n\n", b"b\nc", b": c\ndata: b\ndata: c\n\n"),
        (b"event: x\rdata: a\r\r", b"b", b"event: x\rdata: b\r\r"),
        (b"\ndata: a\n\n", b"b", b"data: b\n\n"),
    ],
)
def test_data_can_be_replaced_and_nothing_else(raw: bytes, data: bytes, changed: bytes) -> None:
    assert Event(raw).with_data(data) == changed
    assert Event(changed).data == data


def test_an_event_without_end_is_not_held_for_ever() -> None:
    splitter = Splitter(limit=10)
    assert splitter.feed(b"data: 1234") == []
    with pytest.raises(EventTooLarge):
        splitter.feed(b"5")
    assert len(Splitter(limit=10).feed(b"data: 123456789\n\n")) == 1


def test_what_an_event_says_is_not_shown() -> None:
    assert repr(Event(b"data: s3cret\n\n")) == "<Event 14 bytes>"
