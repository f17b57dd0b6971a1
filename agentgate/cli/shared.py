"""What the workers of one gateway share: standard output, line by line, and the metrics, which are one sum."""

import fcntl
import io
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from typing import TextIO

from ..observe.exposition import MULTIPROCESS
from .workers import Supervisor, Work


class WholeLines(io.TextIOBase):
    """Standard output for several processes: what is written at once stays together, however long it is and however
    slowly it is read. Bound to no process: each that writes takes the lock, and loses it when it ends."""

    def __init__(self, stream: TextIO) -> None:
        self._descriptor = stream.fileno()
        self._lock = tempfile.TemporaryFile()  # noqa: SIM115  for as long as this is there

    def write(self, text: str) -> int:
        """Write it all. Raises OSError when nobody reads any more."""
        data = memoryview(text.encode("utf-8", "backslashreplace"))
        fcntl.lockf(self._lock, fcntl.LOCK_EX)
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        finally:
            fcntl.lockf(self._lock, fcntl.LOCK_UN)
        return len(text)

    def flush(self) -> None:
        """Nothing is kept back."""


class Shared:
    """What is there while the workers are. `measured`: whether Metrics are made in the meantime; their values are then
    kept in files of a temporary folder, one set for each worker, so that the one in its place goes on counting, and no
    number of ends makes more of them."""

    def __init__(self, *, measured: bool) -> None:
        self._number = 0  # of the worker that this process is; here, none
        self._output = WholeLines(sys.stdout)
        self._folder = tempfile.TemporaryDirectory(prefix="agentgate-metrics-") if measured else None
        if self._folder is not None:
            os.environ[MULTIPROCESS] = self._folder.name
            from prometheus_client import values

            values.ValueClass = values.MultiProcessValue(lambda: self._number)  # type: ignore[no-untyped-call]

    def __enter__(self) -> "Shared":
        return self

    def __exit__(self, *exc: object) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def supervise(
        self,
        sockets: Sequence[Sequence[socket.socket]],
        work: Work,
        *,
        up: Callable[[], None],
        warn: Callable[[str], None],
        drain: float,
        grace: float,
    ) -> int:
        """As `Supervisor` does it."""

        def be(number: int, supervisor: socket.socket) -> None:
            self._number = number
            with redirect_stdout(self._output):
                work(number, supervisor)

        return Supervisor(sockets, be, up=up, died=self._died, warn=warn, drain=drain, grace=grace).run()

    def _died(self, number: int) -> None:
        """What the worker had under way is over."""
        if self._folder is not None:
            from prometheus_client.multiprocess import mark_process_dead

            mark_process_dead(number)  # type: ignore[no-untyped-call]
