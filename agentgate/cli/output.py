"""What is printed of logs: how much of them has been read, and what came of it."""

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Final

_WIDTH: Final = 100  # of a report where no terminal says its own
_BAR: Final = 30  # characters of the progress bar
_EVERY: Final = 0.2  # seconds between two looks of it


def columns() -> int:
    """Of standard output."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else _WIDTH


def show(lines: Iterable[str]) -> None:
    """Print them, in the terminal's own encoding, whatever that has no letters for."""
    encoding = sys.stdout.encoding or "utf-8"
    with contextlib.suppress(BrokenPipeError):  # the reader has seen enough
        for line in lines:
            print(line.encode(encoding, "replace").decode(encoding))
        sys.stdout.flush()
        return
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it ends


class Progress:
    """How much has been read, on standard error where that is a terminal."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._next = 0.0

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown and self._next:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def __call__(self, done: int, size: int) -> None:
        now = time.monotonic()
        if self._shown and now >= self._next:
            self._next = now + _EVERY
            print("\r" + "".join(_bar(done, size)), end="", file=sys.stderr, flush=True)


def _bar(done: int, size: int) -> Iterator[str]:
    if size:
        part = min(done / size, 1.0)  # a log that is written to grows
        yield f"[{'#' * round(part * _BAR):{_BAR}}] {part:4.0%}  "
    yield f"{done / 1e6:,.0f} MB"
