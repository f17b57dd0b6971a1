"""What callers and upstream agree on: how a request says what is to happen to it, and what its answer must be.

A request is for `/soak/<kind>/<number>/<size>`. Its canary names the caller, and is of that one request.
"""

import mmap
import re
from pathlib import Path
from typing import Final

CANARY: Final = b"x-canary"  # from the caller, and echoed
AGENT: Final = b"x-agent"  # from the gateway: who it says the caller is; echoed
MARK: Final = b"canary-"  # every canary begins like this, and nothing else of ours has it

WHOLE: Final = frozenset(
    {
        *("at-once", "late", "slow", "chunks", "events", "interim", "until-close", "no-content", "not-modified"),
        *("then-close", "then-reset-later", "then-surplus"),
    }
)
"""Kinds of answers that are answers: a caller who waits gets all of it."""
FAULTY: Final = frozenset(
    {
        *("reset-at-once", "reset-in-head", "reset-in-body", "reset-in-chunk", "ends-in-head", "ends-in-body"),
        *(
            "ends-in-chunks",
            "garbage",
            "garbage-in-head",
            "bad-chunk",
            "two-lengths",
            "silent",
            "stalls",
            "only-interim",
        ),
    }
)
"""Kinds of answers that are none: a caller gets an error of the gateway, or an answer that visibly breaks off."""
STREAM: Final = "stream"  # events for ever

EVENTS: Final = 8  # in an answer of the kind `events`

_PATH: Final = re.compile(rb"/soak/([a-z-]+)/(\d+)/(\d+)").fullmatch


def path_of(kind: str, number: int, size: int) -> bytes:
    return b"/soak/%b/%d/%d" % (kind.encode(), number, size)


def read_path(path: bytes) -> tuple[str, int, int]:
    """Kind, number, size."""
    found = _PATH(path)
    if found is None:
        raise ValueError("a path that no caller has asked for")
    return found[1].decode(), int(found[2]), int(found[3])


def filled(canary: bytes, size: int) -> bytes:
    """A body of so many bytes that is one request's and nobody else's."""
    line = canary + b"\n"
    return (line * (size // len(line) + 1))[:size]


def event(canary: bytes) -> bytes:
    return b"data: " + canary + b"\n\n"


def body_of(kind: str, canary: bytes, size: int) -> bytes:
    """The answer to a request of this kind."""
    if kind in ("no-content", "not-modified"):
        return b""
    return event(canary) * EVENTS if kind == "events" else filled(canary, size)


class Ledger:
    """What the upstream has received and answered, by number of the request: bytes in a file, which outlives it."""

    RECEIVED, ANSWERED = 0, 1
    BEGUN, DONE = 1, 2  # answering: the last byte is about to be written, and is written

    def __init__(self, path: Path, size: int) -> None:
        self.size = size
        if not path.exists():
            path.write_bytes(bytes(2 * size))
        with path.open("r+b") as file:
            self._bytes = mmap.mmap(file.fileno(), 2 * size)

    def received(self, number: int) -> None:
        self._bytes[number] = min(self._bytes[number] + 1, 255)

    def answering(self, number: int, state: int) -> None:
        self._bytes[self.size + number] = state

    def read(self) -> tuple[bytes, bytes]:
        """How often each was received; how far each was answered."""
        everything = self._bytes[:]
        return everything[: self.size], everything[self.size :]

    def close(self) -> None:
        self._bytes.close()
