"""Event streams (`text/event-stream`), split while they pass: whole events, as the HTML standard cuts them.

An event keeps its bytes, so that one nobody changes goes on as it came. What the stream ends in the middle of is no
event: clients discard it, and so it never leaves here. Nothing is held but the one event that is not complete.
"""

import re
from typing import Final

MAX_EVENT_BYTES: Final = 8 * 1024 * 1024  # of one event: a tool's result may hold a picture

_LINE_END: Final = re.compile(rb"\r\n|\n|\r(?!\n)")
# A CR behind another kind of line end is half of the next one until the byte behind it has come.
_BLANK_LINE: Final = re.compile(rb"(?:\r\n|\n)(?:\r\n|\n|\r(?=[^\n]))|\r(?:\r\n|\r(?!\n))")
_COMMENT: Final = re.compile(rb":[^\r\n]*(?:\r\n|\n|\r(?=[^\n]))")
_BOM: Final = b"\xef\xbb\xbf"


class EventTooLarge(ValueError):
    """One event has more bytes than may be held."""


class Event:
    """One event of a stream, or a comment between two: `raw` is all of it, with the blank line that ends it."""

    __slots__ = ("raw",)

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    @property
    def data(self) -> bytes | None:
        """What the event's `data` lines hold together; None when it has none, and so tells nobody anything."""
        values = [value for name, value in map(_field, _lines(self.raw)) if name == b"data"]
        return b"\n".join(values) if values else None

    def with_data(self, data: bytes) -> bytes:
        """The event with other data, and every other line of it (`id`, `event`, `retry`, comments) as it was."""
        end_match = _LINE_END.search(self.raw)
        end = end_match[0] if end_match else b"\n"
        lines: list[bytes] = []
        put = False
        for line in _lines(self.raw):
            if _field(line)[0] != b"data":
                lines.append(line)
            elif not put:
                lines += [b"data: " + part for part in data.split(b"\n")]
                put = True
        return end.join([*lines, b"", b""])

    def without_data(self) -> bytes:
        """What is left of the event without its data: clients are told nothing, and still know where they are in the
        stream."""
        end_match = _LINE_END.search(self.raw)
        end = end_match[0] if end_match else b"\n"
        lines = [line for line in _lines(self.raw) if _field(line)[0] not in (b"data", b"event")]
        return end.join([*lines, b"", b""]) if lines else b""

    def __repr__(self) -> str:
        return f"<Event {len(self.raw)} bytes>"  # never what it says


class Splitter:
    """Cuts one stream into events, however its bytes come."""

    def __init__(self, limit: int = MAX_EVENT_BYTES) -> None:
        self._limit = limit
        self._held = bytearray()
        self._looked = 0  # up to where no event ends

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that are complete with this chunk. Raises `EventTooLarge`."""
        held = self._held
        held += chunk
        events: list[Event] = []
        start = 0
        while True:
            # A comment between events is a sign of life: it does not wait for the next event.
            match = _COMMENT.match(held, start) or _BLANK_LINE.search(held, max(start, self._looked - 3))
            if match is None:
                break
            events.append(Event(bytes(held[start : match.end()])))
            start = match.end()
        del held[:start]
        self._looked = len(held)
        if len(held) > self._limit:
            raise EventTooLarge(f"an event of more than {self._limit} bytes")
        return events


def _lines(raw: bytes) -> list[bytes]:
    """The lines of an event, empty ones left out."""
    return [line for line in _LINE_END.split(raw.removeprefix(_BOM)) if line]


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name, value.removeprefix(b" ")
