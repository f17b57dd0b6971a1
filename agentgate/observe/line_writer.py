"""LineWriter: lines to a stream from a thread, so that nobody who logs ever waits for a pipe, a terminal or a disk."""

import atexit
import errno
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

MAX_LINES: Final = 10_000  # waiting to be written, as agentgateway has it; what comes on top is dropped and counted
MAX_WAITING: Final = 64 * 1024 * 1024  # characters of them: lines may be long
GATHER_SECONDS: Final = 0.01  # lines that come within this time of the first are written at once with it

EXIT_SECONDS: Final = 2  # for what waits when the process ends; a pipe that nobody reads does not keep it longer


class Stream(Protocol):
    """Where lines go. Both methods raise OSError or ValueError when they cannot."""

    def write(self, text: str, /) -> object: ...

    def flush(self) -> object: ...


_logger = logging.getLogger("agentgate")


class Cut(OSError):
    """Only so many lines were written, and no more can be: for the reason that `errno` is."""

    def __init__(self, written: int, errno: int | None) -> None:
        super().__init__(errno, "")
        self.written = written


def _notice(dropped: int) -> str:
    return f"{dropped} lines were dropped"


class LineWriter:
    """Call it with a line; the line is written soon after, by a thread that the first line starts.

    When `MAX_LINES` or `MAX_WAITING` wait, further lines are dropped; how many is said in the log as soon as there is
    room again, by the line that `notice` makes of their number. Lines still waiting at exit are written then.
    `stream`: None is standard output, whatever that is at the time.
    """

    def __init__(self, stream: Stream | None = None, notice: Callable[[int], str] = _notice) -> None:
        self._stream = stream
        self._notice = notice
        self._lines: deque[str] = deque()
        self._waiting = 0  # characters, nearly: threads may miscount it between two flushes, which begin anew
        self._wake = threading.Event()
        self._writing = threading.Lock()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._failing = False
        self.dropped = 0

    def __call__(self, line: str) -> None:
        if self._thread is None:
            self._start()
        if len(self._lines) >= MAX_LINES or self._waiting >= MAX_WAITING:
            self.dropped += 1
            return
        self._waiting += len(line)
        self._lines.append(line)
        if not self._wake.is_set():
            self._wake.set()

    def flush(self) -> None:
        """Write what waits, now and in this thread."""
        with self._writing:
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            self._waiting = 0
            dropped, self.dropped = self.dropped, 0
            if dropped:
                lines.insert(0, self._notice(dropped))
            if lines:
                stream = self._stream or sys.stdout
                try:
                    stream.write("\n".join(lines) + "\n")
                    stream.flush()
                    self._failing = False
                except Cut as exc:
                    self._fails(exc)
                    self._lost(len(lines) - exc.written, dropped, noticed=exc.written > 0)
                except OSError as exc:  # the reader has gone, perhaps
                    self._fails(exc)
                    self._lost(len(lines), dropped, noticed=False)
                except ValueError:  # the stream was closed, as when a process ends
                    self._lost(len(lines), dropped, noticed=False)

    def _fails(self, exc: OSError) -> None:
        """Say so where operators look for errors, once: the log itself cannot."""
        if not self._failing:
            self._failing = True
            code = errno.errorcode.get(exc.errno or 0, type(exc).__name__)
            _logger.error("the access log cannot be written (%s): its lines are lost until it can", code)

    def _lost(self, lines: int, dropped: int, *, noticed: bool) -> None:
        """So many lines of a flush were not written. One of them may be the notice, which counts for what it says."""
        self.dropped += lines + (dropped - 1 if dropped and not noticed else 0)

    def close(self) -> None:
        """Leave the thread the time to write what waits, but no more than `EXIT_SECONDS`. What comes later is written
        all the same."""
        until = time.monotonic() + EXIT_SECONDS
        while self._thread is not None and time.monotonic() < until:
            if not (self._lines or self._writing.locked()):
                return
            self._wake.set()
            time.sleep(GATHER_SECONDS)

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="agentgate-access-log", daemon=True)
                self._thread.start()
                atexit.register(self.close)

    def _run(self) -> None:
        while True:
            self._wake.wait()
            time.sleep(GATHER_SECONDS)
            self._wake.clear()
            self.flush()
