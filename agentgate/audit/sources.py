"""The lines of log files: plain or gzip, or standard input, in blocks of a bounded size.

What is read is told piece by piece, so that a log of any size needs the memory of one block.
"""

import gzip
import os
import stat
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import BinaryIO, Final, cast

from ..errors import ConfigurationError

STANDARD_INPUT: Final = "-"
MAX_LINE: Final = 2**20  # bytes; a longer line is passed over, and counts as one of somebody else's
TOO_LONG: Final = b"(a line that is too long)"

_BLOCK: Final = 2**18
_GZIP: Final = b"\x1f\x8b"

Told = Callable[[int, int], None]
"""Told now and then: bytes of the files that have been read, and of all of them, or 0 where nobody knows."""


def check(files: Sequence[str]) -> int:
    """The size of all files in bytes; 0 where a pipe is among them. Raises ConfigurationError with every fault."""
    faults: list[str] = []
    sizes: dict[tuple[int, int] | str, int] = {}
    for file in files:
        try:
            identity, size = _sized(file)
        except OSError as exc:
            faults.append(_cannot_read(file, exc))
            continue
        if identity in sizes:
            faults.append(f"{file} is given twice: its requests would count twice")
        sizes[identity] = size
    if faults:
        raise ConfigurationError(faults)
    return sum(sizes.values()) if all(sizes.values()) else 0


def blocks(files: Sequence[str], told: Told) -> Iterator[list[str]]:
    """Lines without their ends, many at a time, file by file.

    Raises ConfigurationError for a file that cannot be read to its end.
    """
    return (lines for _, lines in blocks_of(files, told))


def blocks_of(files: Sequence[str], told: Told) -> Iterator[tuple[str, list[str]]]:
    """The same, with the file of each."""
    size, before = check(files), 0
    for file in files:
        try:
            with nullcontext(sys.stdin.buffer) if file == STANDARD_INPUT else open(file, "rb") as opened:
                source = _Source(opened)
                for lines in _lines(source):
                    told(before + source.count, size)
                    yield file, lines
                before += source.count
        except (OSError, EOFError, zlib.error) as exc:
            raise ConfigurationError(_cannot_read(file, exc)) from None


class _Source:
    """A file that knows how much of it was read, and how it begins."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._start = file.read(len(_GZIP))
        self.is_gzip = self._start == _GZIP
        self.count = len(self._start)

    def read(self, size: int) -> bytes:
        if self._start:
            start, self._start = self._start, b""
            return start
        data = self._file.read(size)
        self.count += len(data)
        return data


def _lines(source: _Source) -> Iterator[list[str]]:
    read = gzip.GzipFile(fileobj=cast(BinaryIO, source)).read if source.is_gzip else source.read
    rest, passing = b"", False  # what has no end yet, and whether it is passed over
    while block := read(_BLOCK):
        *whole, rest = (rest + block).split(b"\n")
        if whole and passing:
            whole[0], passing = TOO_LONG, False
        if len(rest) > MAX_LINE or passing:
            rest, passing = b"", True
        if whole:
            yield _decoded(whole)
    if rest or passing:
        yield _decoded([TOO_LONG if passing else rest])


def _decoded(lines: list[bytes]) -> list[str]:
    text = b"\n".join(lines).decode("utf-8", "replace")
    return [line.removesuffix("\r") for line in text.split("\n")] if "\r" in text else text.split("\n")


def _sized(file: str) -> tuple[tuple[int, int] | str, int]:
    """What makes the file itself, and its bytes. A pipe is not opened: who writes to it would see it closed again."""
    if file == STANDARD_INPUT:
        return file, 0
    found = os.stat(file)
    if stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode):
        with open(file, "rb"):
            return (found.st_dev, found.st_ino), found.st_size
    return file, 0


def _cannot_read(file: str, exc: Exception) -> str:
    return f"cannot read {file} ({type(exc).__name__})"
