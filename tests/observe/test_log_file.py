"""LogFile: lines reach the file that stands at the path, whatever is done to it, and nobody waits."""

import errno
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agentgate import AccessLog, ConfigurationError, Request
from agentgate.observe import line_writer
from agentgate.observe.line_writer import Cut, LineWriter
from agentgate.observe.log_file import LogFile
from agentgate.record import Record


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_lines_are_appended(tmp_path: Path) -> None:
    """A file that is there is kept; one that is not is made, and is nobody else's to read."""
    path = tmp_path / "access.log"
    path.write_text("old\n")
    LogFile(path).write("a\nb\n")
    assert lines(path) == ["old", "a", "b"]
    made = tmp_path / "new.log"
    LogFile(made).write("caf\u00e9 \ud800\n")
    assert lines(made) == ["caf\u00e9 \\ud800"]
    assert made.stat().st_mode & 0o007 == 0


def test_a_moved_file_is_followed(tmp_path: Path) -> None:
    """logrotate renames the file, and makes the next one or not: no line is lost, and none is written twice."""
    path, old = tmp_path / "access.log", tmp_path / "access.log.1"
    writer = LineWriter(LogFile(path))
    writer("a")
    writer.flush()
    path.rename(old)
    writer("b")
    writer.flush()
    path.rename(tmp_path / "access.log.2")
    path.write_text("made by logrotate\n")
    writer("c")
    writer.flush()
    path.unlink()
    writer("d")
    writer.flush()
    assert (lines(old), lines(tmp_path / "access.log.2")) == (["a"], ["b"])
    assert lines(path) == ["d"]
    assert writer.dropped == 0


def test_a_truncated_file_goes_on_at_its_start(tmp_path: Path) -> None:
    """logrotate's copytruncate."""
    path = tmp_path / "access.log"
    file = LogFile(path)
    file.write("a\n")
    os.truncate(path, 0)
    file.write("b\n")
    assert path.read_bytes() == b"b\n"


def test_a_path_is_that_of_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = LogFile(Path("access.log"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "access.log").unlink()
    file.write("a\n")
    assert lines(tmp_path / "access.log") == ["a"]


def test_where_the_next_file_cannot_be_made_the_old_one_goes_on(tmp_path: Path) -> None:
    """A moved file has a name still, under which its lines are found; a removed one has none, and they are counted."""
    folder, kept = tmp_path / "logs", tmp_path / "kept"
    folder.mkdir()
    writer = LineWriter(LogFile(folder / "access.log"), lambda dropped: f"dropped={dropped}")
    (folder / "access.log").rename(kept)
    folder.rmdir()
    writer("a")
    writer.flush()
    assert lines(kept) == ["a"]
    kept.unlink()
    writer("b")
    writer("c")
    writer.flush()
    assert writer.dropped == 2
    folder.mkdir()
    writer("d")
    writer.flush()
    assert lines(folder / "access.log") == ["dropped=2", "d"]


def test_a_fifo_in_the_place_of_the_file_stops_nobody(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    file = LogFile(path)
    path.rename(tmp_path / "old")
    os.mkfifo(path)
    file.write("a\n")
    assert lines(tmp_path / "old") == ["a"]


@pytest.mark.parametrize("made", ["folder", "fifo", "no folder", "device"])
def test_what_cannot_be_a_log_is_a_fault(tmp_path: Path, made: str) -> None:
    path = tmp_path / "access.log"
    if made == "folder":
        path.mkdir()
    elif made == "fifo":
        os.mkfifo(path)
    elif made == "device":
        path = Path("/dev/null")
    else:
        path = tmp_path / "none" / "access.log"
    with pytest.raises(ConfigurationError, match="access log: "):
        AccessLog(path)


FULL = """
import resource, signal, sys
from pathlib import Path
from agentgate.observe.line_writer import LineWriter
from agentgate.observe.log_file import LogFile

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path(sys.argv[1])
writer = LineWriter(LogFile(path), lambda dropped: f"dropped={dropped}")
resource.setrlimit(resource.RLIMIT_FSIZE, (25, resource.RLIM_INFINITY))
for _ in range(4):
    writer("0123456789")
writer.flush()
print(writer.dropped, flush=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
writer("later")
writer.flush()
print(writer.dropped)
"""


def test_a_full_disk_costs_the_lines_that_do_not_fit(tmp_path: Path) -> None:
    """What was cut off ends its line; how many lines are missing is said when there is room again."""
    if resource.getrlimit(resource.RLIMIT_FSIZE)[1] != resource.RLIM_INFINITY:
        pytest.skip("files are limited here")
    path = tmp_path / "access.log"
    done = subprocess.run([sys.executable, "-c", FULL, path], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["2", "0"]
    assert done.stderr == "the access log cannot be written (EFBIG): its lines are lost until it can\n"
    assert lines(path) == ["0123456789", "0123456789", "012", "dropped=2", "later"]


def test_a_notice_that_was_cut_off_is_said_again() -> None:
    """Lines of which nobody was told stay counted, whatever of a flush was written."""

    class Cuts:
        def __init__(self, *written: int) -> None:
            self.written = [*written]

        def write(self, text: str) -> None:
            raise Cut(self.written.pop(0), errno.ENOSPC)

        def flush(self) -> None:
            """Nothing is kept back."""

    writer = LineWriter(Cuts(1, 0, 2))
    writer._lines.extend("abc")
    writer.flush()
    assert writer.dropped == 2  # b and c
    writer._lines.extend("de")
    writer.flush()
    assert writer.dropped == 4  # and d and e: the notice was not written
    writer._lines.extend("fg")
    writer.flush()
    assert writer.dropped == 1  # the notice was, and f


def test_what_waits_is_bounded_in_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_writer, "MAX_WAITING", 100)
    monkeypatch.setattr(LineWriter, "_start", lambda self: None)  # nobody takes them
    writer = LineWriter()
    for _ in range(50):
        writer("0123456789")
    assert (len(writer._lines), writer.dropped) == (10, 40)


def record() -> Record:
    made = Record(Request.http())
    made.status, made.duration = 200, 0.0
    return made


@pytest.mark.parametrize("format", ["text", "json"])
def test_what_is_said_of_dropped_lines_can_be_parsed(format: Any, tmp_path: Path) -> None:
    """It is a line of the log's own format, and no request's."""
    path = tmp_path / "access.log"
    log = AccessLog(path, format=format)
    assert isinstance(log._write, LineWriter)
    log._write.dropped = 7
    log.end(None, record())
    log.close()
    notice, line = lines(path)
    if format == "json":
        said = json.loads(notice)
        assert list(said) == ["level", "time", "scope", "dropped", "message"]
        assert (said["level"], said["scope"], said["dropped"]) == ("warn", "access_log", 7)
        assert json.loads(line)["scope"] == "request"
    else:
        time, level, rest = notice.split("\t")
        assert (len(time), level) == (27, "warn")
        assert rest == 'access_log dropped=7 message="lines were dropped: whoever takes them is too slow"'


def test_closing_a_log_that_writes_elsewhere_does_nothing() -> None:
    AccessLog(lambda line: None).close()
    AccessLog().close()
