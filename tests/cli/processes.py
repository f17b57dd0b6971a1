"""The command `agentgate` as a process."""

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

COMMAND = (sys.executable, "-c", "import sys; from agentgate.cli import main; sys.exit(main())")
SECONDS = 180  # for anything to happen; no test that passes waits so long


class Process:
    """One run of the command, with what it says."""

    def __init__(self, *arguments: str) -> None:
        self.popen = subprocess.Popen(
            [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
        )
        # A process that says nothing must not hang the tests.
        self._timer = threading.Timer(SECONDS, self.popen.kill)
        self._timer.start()

    def log_line(self) -> str:
        """The next line of the log."""
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        assert line, "it has ended"
        return line.rstrip("\n")

    def error_line(self) -> str:
        """The next line on standard error."""
        assert self.popen.stderr is not None
        line = self.popen.stderr.readline()
        assert line, "it has ended"
        return line.rstrip("\n")

    def end(self, number: int = signal.SIGINT) -> tuple[int, list[str], str]:
        """Signal the end. Returns the exit code, the lines of the log, and the rest of standard error."""
        self.popen.send_signal(number)
        return self.wait()

    def wait(self) -> tuple[int, list[str], str]:
        out, err = self.popen.communicate()
        self._timer.cancel()
        return self.popen.returncode, out.splitlines(), err

    def close(self) -> None:
        self._timer.cancel()
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.communicate()


@contextmanager
def running(*arguments: str) -> Iterator[Process]:
    process = Process(*arguments)
    try:
        yield process
    finally:
        process.close()


def finished(*arguments: str) -> tuple[int, list[str], str]:
    """A run that ends by itself."""
    with running(*arguments) as process:
        return process.wait()


def port_of(text: str) -> int:
    found = re.search(r"(?:localhost|127\.0\.0\.1|\[::1\]):(\d+)", text)
    assert found is not None
    return int(found[1])


@contextmanager
def serving(files: Sequence[str], *arguments: str) -> Iterator[tuple[Process, int, list[str]]]:
    """The process, its port, and what it said before it was up."""
    with running("serve", *files, "--port", "0", *arguments) as process:
        said = []
        while not (line := process.error_line()).startswith("listening on "):
            said.append(line)
        yield process, port_of(line), said
