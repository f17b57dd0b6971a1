"""Workers: several processes of one gateway, forked from the one that has loaded it, which looks after them.

What can be wrong with the configuration was found before the first one is forked; all of them have the same keys, rules
and secrets, whatever has become of the files meanwhile. A worker that ends is started again; one that ends before all
of them are up ends everything. The supervisor serves nothing itself, and when it is gone, its workers end.
"""

import gc
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from .listen import close

SHORT_LIFE: Final = 10.0  # seconds; a worker that lives for less is started again later and later
FIRST_DELAY: Final = 0.1
LONGEST_DELAY: Final = 10.0
MARGIN: Final = 3.0  # seconds that a worker has beyond the grace before it is killed

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

Work = Callable[[int, socket.socket], None]
"""What a worker does: its number, from 1, and the line to the supervisor, which it gives a byte when it is up, and
which gives it one for each signal."""


@dataclass(frozen=True)
class _Worker:
    number: int
    pid: int
    line: socket.socket
    began: float


class Supervisor:
    """Keeps a worker for each group of `sockets` until SIGINT or SIGTERM, and gives the exit code.

    `up` is called when all of them are up, `died` with the number of each that ended, when it does.
    """

    def __init__(
        self,
        sockets: Sequence[Sequence[socket.socket]],
        work: Work,
        *,
        up: Callable[[], None],
        died: Callable[[int], None],
        warn: Callable[[str], None],
        drain: float,
        grace: float,
    ) -> None:
        self._sockets = sockets
        self._work = work
        self._up, self._died, self._warn = up, died, warn
        self._drain, self._grace = drain, grace
        self._workers: dict[int, _Worker] = {}
        self._starting = set(range(1, len(sockets) + 1))  # those that have never been up
        self._due: dict[int, float] = {}  # when to start which one again
        self._delays: dict[int, float] = {}
        self._closing: float | None = None  # when nothing more is accepted
        self._killing = 0.0  # when the worst is to be done
        self._signals = 0
        self._code = 0
        self._selector = selectors.DefaultSelector()

    def run(self) -> int:
        """Until all workers have ended."""
        gc.collect()
        gc.freeze()  # what is loaded stays where it is, in memory that all of them share
        with _signals() as heard, self._selector:
            self._selector.register(heard, selectors.EVENT_READ)
            try:
                for number in sorted(self._starting):
                    self._start(number)
                while self._workers or (self._due and not self._signals):
                    self._look(heard)
            finally:
                close(self._sockets)
                for worker in self._workers.values():  # only after an error of the supervisor
                    worker.line.close()
        return self._code

    def _look(self, heard: socket.socket) -> None:
        for key, _ in self._selector.select(self._patience()):
            if key.fileobj is heard:
                for _ in heard.recv(64):
                    self._end()
            elif key.data.number in self._workers:
                self._hear(key.data)
        now = time.monotonic()
        for number in [number for number, due in self._due.items() if due <= now and not self._signals]:
            del self._due[number]
            try:
                self._start(number)
            except OSError as exc:  # no memory or no process left, which may pass
                self._warn(f"worker {number} cannot be started: {exc.strerror}")
                self._due[number] = now + LONGEST_DELAY
        if self._closing is not None and now >= self._closing:
            close(self._sockets)  # the workers do the same with theirs; while one of them is left, clients would wait
            self._closing = None
        if self._signals and now >= self._killing:
            self._code = 1
            for worker in self._workers.values():
                os.kill(worker.pid, signal.SIGKILL)
            self._killing = now + MARGIN

    def _patience(self) -> float | None:
        moments = [*self._due.values()] if not self._signals else [self._killing]
        if self._closing is not None:
            moments.append(self._closing)
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def _end(self) -> None:
        """A first signal, and those that follow."""
        self._signals += 1
        if self._signals == 1:
            now = time.monotonic()
            self._closing = now + self._drain
            self._killing = now + self._drain + self._grace + MARGIN
        else:
            self._killing = min(self._killing, time.monotonic() + MARGIN)
        for worker in self._workers.values():
            _tell(worker.line)

    def _hear(self, worker: _Worker) -> None:
        """It is up, or has ended."""
        try:
            said = worker.line.recv(1)
        except OSError:
            said = b""
        if said:
            if self._starting:
                self._starting.discard(worker.number)
                if not self._starting:
                    self._up()
            return
        self._selector.unregister(worker.line)
        worker.line.close()
        _, status = os.waitpid(worker.pid, 0)
        del self._workers[worker.number]
        self._died(worker.number)
        how = _how(os.waitstatus_to_exitcode(status))
        if self._signals:
            return
        if self._starting:
            self._warn(f"worker {worker.number} could not start: it {how}")
            self._code = 1
            self._end()
            return
        delay = 0.0
        if time.monotonic() - worker.began < SHORT_LIFE:
            delay = self._delays.get(worker.number, FIRST_DELAY)
            self._delays[worker.number] = min(2 * delay, LONGEST_DELAY)
        else:
            self._delays.pop(worker.number, None)
        self._due[worker.number] = time.monotonic() + delay
        self._warn(f"worker {worker.number} {how}; another one takes its place")

    def _start(self, number: int) -> None:
        ours, theirs = socket.socketpair()  # closed by what collects them, should there be no fork
        sys.stdout.flush()  # or both would write what waits
        sys.stderr.flush()
        # A signal that comes before the worker has its own way to take one waits until then.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            pid = os.fork()
            if pid == 0:
                ours.close()
                self._be(number, theirs)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        theirs.close()
        worker = _Worker(number, pid, ours, time.monotonic())
        self._workers[number] = worker
        self._selector.register(ours, selectors.EVENT_READ, worker)

    def _be(self, number: int, line: socket.socket) -> None:
        """Be the worker, and never return."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            self._selector.close()
            for worker in self._workers.values():
                worker.line.close()  # or the end of the supervisor would not be heard
            close([group for index, group in enumerate(self._sockets, 1) if index != number])
            line.setblocking(False)
            self._work(number, line)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)  # what the supervisor has to tidy up is not for us


def _tell(line: socket.socket) -> None:
    try:
        line.send(b".")
    except OSError:
        pass  # it has just ended


def _how(code: int) -> str:
    return f"ended with exit code {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"


@contextmanager
def _signals() -> Iterator[socket.socket]:
    """A socket that has a byte for each SIGINT and SIGTERM."""
    heard, woken = socket.socketpair()
    with heard, woken:
        heard.setblocking(False)
        woken.setblocking(False)
        before = {number: signal.signal(number, lambda number, frame: None) for number in _SIGNALS}
        descriptor = signal.set_wakeup_fd(woken.fileno())
        try:
            yield heard
        finally:
            signal.set_wakeup_fd(descriptor)
            for number, handler in before.items():
                signal.signal(number, handler)
