"""LineWriter: lines get written, and nobody who logs ever waits."""

import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from agentgate import AccessLog
from agentgate.observe import line_writer
from agentgate.observe.line_writer import MAX_LINES, LineWriter


def until(condition: Callable[[], bool]) -> None:
    """Wait for the writer's thread; a test that waits longer than this has failed."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.002)


def test_lines_are_written_in_order() -> None:
    """Every line arrives, once, in the order in which it came."""
    stream = io.StringIO()
    writer = LineWriter(stream)
    for n in range(1000):
        writer(f"line {n}")
    until(lambda: stream.getvalue().count("\n") == 1000)
    assert stream.getvalue() == "".join(f"line {n}\n" for n in range(1000))
    writer("later")
    until(lambda: stream.getvalue().endswith("later\n"))
    assert writer.dropped == 0


def test_one_writer_is_started() -> None:
    """Whoever comes second finds a thread, and starts none."""
    writer = LineWriter(io.StringIO())
    writer("a")
    first = writer._thread
    writer._start()
    assert first is not None
    assert writer._thread is first


def test_flush_writes_what_waits() -> None:
    """`flush` writes at once, and nothing when nothing waits."""
    stream = io.StringIO()
    writer = LineWriter(stream)
    writer.flush()
    assert stream.getvalue() == ""
    writer("a")
    writer.flush()
    assert stream.getvalue() == "a\n"


def test_without_a_stream_it_is_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    """An AccessLog without a sink writes to standard output, whatever that is at the time."""
    writer = AccessLog()._write
    assert isinstance(writer, LineWriter)
    writer("a line")
    writer.flush()
    until(lambda: "a line\n" in capsys.readouterr().out or not writer._lines)


def test_many_threads_lose_no_line() -> None:
    """Threads that log at once start one writer, and all their lines are whole."""
    stream = io.StringIO()
    writer = LineWriter(stream)
    go = threading.Barrier(8)

    def log(name: int) -> None:
        go.wait()
        for n in range(200):
            writer(f"{name} {n}")

    threads = [threading.Thread(target=log, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: stream.getvalue().count("\n") == 1600)
    assert sorted(stream.getvalue().splitlines()) == sorted(f"{name} {n}" for name in range(8) for n in range(200))


def test_a_pipe_that_nobody_reads_stops_nobody() -> None:
    """When the reader of standard output is stuck, logging goes on without waiting; what is too much is counted."""
    reading, writing = os.pipe()
    stream = os.fdopen(writing, "w")
    writer = LineWriter(stream, lambda dropped: f"dropped={dropped}")
    line = "x" * 100
    began = time.perf_counter()
    sent = 0
    # Twice the lines that may wait, and on until some were dropped after the writer got stuck.
    while sent < 2 * MAX_LINES or not writer.dropped:
        writer(line)
        sent += 1
        assert time.perf_counter() - began < 20  # a writer that waited for the pipe would stay in the line above
    written: list[str] = []
    with os.fdopen(reading) as pipe:
        reader = threading.Thread(target=lambda: written.extend(pipe))  # now somebody reads
        reader.start()
        until(lambda: not writer._lines)
        writer.flush()  # says how many were dropped
        stream.close()
        reader.join()
    lines = [text for text in written if text == line + "\n"]
    said = [text.partition("=") for text in written if text != line + "\n"]
    assert {words for words, _, _ in said} == {"dropped"}
    assert len(lines) + sum(int(number) for _, _, number in said) == sent
    assert len(lines) >= MAX_LINES


@pytest.mark.parametrize("fault", [BrokenPipeError, ValueError("closed")])
def test_a_reader_that_has_gone_is_no_error(fault: Exception) -> None:
    """When standard output is closed, lines are dropped, and counted for whoever reads next."""

    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise fault

    writer = LineWriter(Gone(), lambda dropped: f"dropped={dropped}")
    writer._lines.extend(["a", "b"])
    writer.flush()
    assert writer.dropped == 2
    writer._lines.append("c")
    writer.flush()
    assert writer.dropped == 3  # and not the notice, which nobody has seen either
    heard = io.StringIO()
    writer._stream = heard
    writer("d")
    writer.flush()
    assert heard.getvalue() == "dropped=3\nd\n"


def test_lines_still_waiting_at_exit_are_written() -> None:
    """A process that ends at once has written its lines."""
    program = (
        "from agentgate.observe.line_writer import LineWriter; w = LineWriter(); [w(f'line {n}') for n in range(50)]"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "".join(f"line {n}\n" for n in range(50))


def test_a_stuck_pipe_does_not_hold_up_the_exit() -> None:
    """A process whose standard output nobody reads ends all the same."""
    program = (
        "from agentgate.observe.line_writer import LineWriter; w = LineWriter(); [w('x' * 100) for n in range(9000)]"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    try:
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()


def test_the_cap_is_the_references() -> None:
    """As many lines wait as agentgateway lets wait."""
    assert line_writer.MAX_LINES == 10_000
