"""`agentgate audit`: who called what by an access log, what was refused, and by which rule.

Logs are read and nothing else: it needs no configuration, no key and no network, and runs where the log is.
"""

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ..audit.document import document
from ..audit.findings import Findings, find, moment
from ..audit.names import keys_of
from ..audit.page import page
from ..audit.report import report
from ..errors import ConfigurationError

_WIDTH: Final = 100  # of the report where no terminal says its own
_BAR: Final = 30  # characters of the progress bar
_EVERY: Final = 0.2  # seconds between two looks of it


def audit(
    files: Sequence[str], *, by: str, since: str | None, until: str | None, as_json: bool, html: str | None
) -> int:
    """Print the report, or the JSON document, and write the page if one is wanted."""
    keys = keys_of(by)
    now = datetime.now(UTC)
    start = moment("--since", since, now) if since is not None else None
    end = moment("--until", until, now) if until is not None else None
    if html is not None:
        _check_page(html, files)
    with _Progress() as progress:
        found = find(files, keys, since=start, until=end, told=progress)
    if html is not None:
        _write_page(html, found)
    with contextlib.suppress(BrokenPipeError):  # the reader has seen enough
        for line in [json.dumps(document(found))] if as_json else report(found, _columns()):
            _print(line)
        sys.stdout.flush()
        return 0
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it ends
    return 0


def _print(line: str) -> None:
    """In the terminal's own encoding, whatever that has no letters for."""
    encoding = sys.stdout.encoding or "utf-8"
    print(line.encode(encoding, "replace").decode(encoding))


def _columns() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else _WIDTH


def _check_page(html: str, files: Sequence[str]) -> None:
    """Before an hour is spent on reading."""
    path = Path(html)
    if path.is_dir() or not path.parent.is_dir():
        raise ConfigurationError(f"--html: {html} is no place for a file")
    for file in files:
        if path.exists() and Path(file).exists() and path.samefile(file):
            raise ConfigurationError(f"--html: {html} is the log itself")


def _write_page(html: str, found: Findings) -> None:
    try:
        Path(html).write_text(page(found), "utf-8", "replace")
    except OSError as exc:
        raise ConfigurationError(f"--html: cannot write {html} ({type(exc).__name__})") from None


class _Progress:
    """How much has been read, on standard error where that is a terminal."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._next = 0.0

    def __enter__(self) -> "_Progress":
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
