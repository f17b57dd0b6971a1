"""LineWriter: lines to standard output from a thread, so that nobody who logs ever waits for a pipe or a terminal."""

import atexit
import sys
import threading
import time
from collections import deque
from typing import Final, TextIO

MAX_LINES: Final = 10_000  # waiting to be written, as agentgateway has it; what comes on top is dropped and counted
GATHER_SECONDS: Final = 0.01  # lines that come within this time of the first are written at once with it

EXIT_SECONDS: Final = 2  # for what waits when the process ends; a pipe that nobody reads does not keep it longer


class LineWriter:
    """Call it with a line; the line is written soon after, by a thread that the first line starts.

    When `MAX_LINES` wait, further lines are dropped; how many is said in the log as soon as there is room again. Lines
    still waiting at exit are written then.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._lines: deque[str] = deque()
        self._wake = threading.Event()
        self._writing = threading.Lock()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self.dropped = 0

    def __call__(self, line: str) -> None:
        if self._thread is None:
            self._start()
        if len(self._lines) >= MAX_LINES:
            self.dropped += 1
            return
        self._lines.append(line)
        if not self._wake.is_set():
            self._wake.set()

    def flush(self) -> None:
        """Write what waits, now and in this thread."""
        with self._writing:
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            dropped, self.dropped = self.dropped, 0
            if dropped:
                lines.append(f"{dropped} access log lines were dropped: the reader of this stream is too slow")
            if lines:
                stream = self._stream or sys.stdout
                try:
                    stream.write("\n".join(lines) + "\n")
                    stream.flush()
                except (OSError, ValueError):  # the reader has gone, or the stream was closed
                    self.dropped += len(lines)

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="agentgate-access-log", daemon=True)
                self._thread.start()
                atexit.register(self._leave)

    def _leave(self) -> None:
        """At exit: leave the thread the time to write what waits, but no more than `EXIT_SECONDS`."""
        until = time.monotonic() + EXIT_SECONDS
        while (self._lines or self._writing.locked()) and time.monotonic() < until:
            self._wake.set()
            time.sleep(GATHER_SECONDS)

    def _run(self) -> None:
        while True:
            self._wake.wait()
            time.sleep(GATHER_SECONDS)
            self._wake.clear()
            self.flush()
