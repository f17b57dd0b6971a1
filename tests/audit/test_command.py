"""`agentgate audit`: what it reads, what it prints, and how it ends."""

import gzip
import io
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agentgate.audit import sources
from agentgate.audit.findings import moment
from agentgate.cli import main
from agentgate.errors import ConfigurationError

from .day import day, rendered

DAY = [line + "\n" for line in day(500)]


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "access.log"
    path.write_text("".join(DAY))
    return path


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main(["audit", "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def test_it_prints_a_report(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "access.log"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("access.log: 500 calls\n2026-11-24 ")
    assert err == ""


def test_json(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "access.log", "--by", "principal")
    assert found["files"] == ["access.log"]
    assert found["by"] == ["principal"]
    assert found["lines"] == {"read": 503, "other": 2, "outside": 0, "missing": 41}
    assert found["total"]["calls"] == sum(group["calls"] for group in found["groups"]) == 500
    assert {group["by"]["principal"] for group in found["groups"]} >= {"support-bot", None}
    refused = sum(cause["calls"] for cause in found["refusals"])
    assert refused == found["total"]["refused"] == sum(step["refused"] for step in found["timeline"]["steps"])
    assert {cause["rule"] for cause in found["shadow"]} == {"exports need a ticket"}
    assert found["timeline"]["steps"][0]["start"] % found["timeline"]["step"] == 0
    assert found["others"] is None


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("last", ["\n", ""])
def test_files_of_all_kinds_are_read_alike(
    ends: str, last: str, log: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = "".join(DAY).replace("\n", ends).removesuffix(ends).encode() + last.encode()
    log.write_bytes(data)
    Path("access.log.1.gz").write_bytes(gzip.compress(data[: len(data) // 2]) + gzip.compress(data[len(data) // 2 :]))
    Path("rotated").write_bytes(gzip.compress(data))  # known by its first bytes, not by its name
    plain = document(capsys, "access.log")
    for name in ("access.log.1.gz", "rotated"):
        assert document(capsys, name)["groups"] == plain["groups"]
    for piped in (data, gzip.compress(data)):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(piped)))
        assert document(capsys, "-")["groups"] == plain["groups"]
    both = document(capsys, "access.log", "rotated")
    assert both["total"]["calls"] == 1000
    assert both["lines"]["read"] == 1006


def test_lines_longer_than_blocks_and_longer_than_allowed(
    log: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "_BLOCK", 100)
    monkeypatch.setattr(sources, "MAX_LINE", 2000)
    plain = document(capsys, "access.log")
    assert plain["total"]["calls"] == 500
    long = rendered(datetime(2026, 11, 24, tzinfo=UTC), {"principal": "eve", "http.path": "/" + "x" * 5000}, "text")
    log.write_text(f"{long}\n{''.join(DAY)}{long}\n{DAY[1]}{long}")
    found = document(capsys, "access.log")
    assert found["total"]["calls"] == 501
    assert found["lines"]["other"] == plain["lines"]["other"] + 3
    assert all(group["by"]["principal"] != "eve" for group in found["groups"])


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ("missing.log", "cannot read missing.log (FileNotFoundError)"),
        (".", "cannot read . (IsADirectoryError)"),
        ("access.log ./access.log", "./access.log is given twice: its requests would count twice"),
        ("- -", "- is given twice: its requests would count twice"),
        ("torn.gz", "cannot read torn.gz (EOFError)"),
        ("broken.gz", "cannot read broken.gz (error)"),
        ("access.log --by principle", "--by: no line has a field 'principle'; there are principal, called, tool, "),
        ("access.log --by principal,", "--by: it is one field, or several with commas between them"),
        ("access.log --by tool,tool", "--by: a field is named twice"),
        ("access.log --since yesterday", "--since: 'yesterday' is no time"),
        ("access.log --until 0000-01-01", "--until: '0000-01-01' is no time"),
        ("access.log --html missing/page.html", "--html: missing/page.html is no place for a file"),
        ("access.log --html .", "--html: . is no place for a file"),
        ("access.log --html access.log", "--html: access.log is the log itself"),
    ],
)
def test_faults(arguments: str, fault: str, log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("torn.gz").write_bytes(gzip.compress(log.read_bytes())[:-9])
    Path("broken.gz").write_bytes(gzip.compress(b"x" * 10_000)[:20] + b"\xff" * 100)
    before = log.read_bytes()
    assert main(["audit", *arguments.split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert fault in err
    assert log.read_bytes() == before


def test_every_file_that_cannot_be_read_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "a.log", "b\x1b.log"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "cannot read a.log (FileNotFoundError)",
        "cannot read b?.log (FileNotFoundError)",
    ]


NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("30m", NOW - timedelta(minutes=30)),
        ("24h", NOW - timedelta(hours=24)),
        ("7d", NOW - timedelta(days=7)),
        ("2w", NOW - timedelta(weeks=2)),
        ("90s", NOW - timedelta(seconds=90)),
        ("2026-11-24", datetime(2026, 11, 24, tzinfo=UTC)),
        ("2026-11-24T10:00", datetime(2026, 11, 24, 10, tzinfo=UTC)),
        ("2026-11-24T10:00:00Z", datetime(2026, 11, 24, 10, tzinfo=UTC)),
        ("2026-11-24T10:00:00+02:00", datetime(2026, 11, 24, 8, tzinfo=UTC)),
    ],
)
def test_moments(text: str, time: datetime) -> None:
    assert moment("--since", text, NOW) == time


@pytest.mark.parametrize("text", ["", "h", "24", "24 h", "-1h", "1y", "٣h", "0001-01-01T00:00:00+10:00", "now"])
def test_no_moments(text: str) -> None:
    with pytest.raises(ConfigurationError, match="--since: "):
        moment("--since", text, NOW)


def test_since_and_until(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = document(capsys, "access.log")
    halves = [
        document(capsys, "access.log", "--since", "2026-11-24T14:00:00Z"),
        document(capsys, "access.log", "--until", "2026-11-24T14:00:00Z"),
    ]
    assert sum(half["total"]["calls"] for half in halves) == whole["total"]["calls"]
    assert [half["lines"]["outside"] for half in halves] == [halves[1]["total"]["calls"], halves[0]["total"]["calls"]]
    assert halves[1]["last"] < "2026-11-24T14:00:00" <= halves[0]["first"]
    assert halves[0]["since"] == "2026-11-24T14:00:00Z"
    ago = (datetime.now(UTC) - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S.000000Z")
    Path("now.log").write_text(f"{ago}\tinfo\trequest principal=alice\n")
    assert document(capsys, "now.log", "--since", "2h")["total"]["calls"] == 1
    assert document(capsys, "now.log", "--since", "30m")["total"]["calls"] == 0


def test_fields_that_a_log_has_added(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log.write_text("2026-11-24T10:00:00.000000Z\tinfo\trequest principal=alice team=blue\n")
    assert document(capsys, "access.log", "--by", "team")["groups"][0]["by"] == {"team": "blue"}


def test_page_and_report_come_together(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "access.log", "--html", "page.html"]) == 0
    assert "500 calls" in capsys.readouterr().out
    assert Path("page.html").read_text("utf-8").startswith("<!doctype html>")


def test_lone_surrogates_are_printed_and_written(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log.write_text('2026-11-24T10:00:00.000000Z\tinfo\trequest principal="\\ud800"\n')
    assert main(["audit", "access.log", "--html", "page.html", "--by", "principal"]) == 0
    assert document(capsys, "access.log", "--by", "principal") if capsys.readouterr() else None


@pytest.mark.parametrize(
    "line",
    [
        "a=b " * 250_000,
        'a="' + '\\"' * 500_000 + '"',
        'a="' + "x" * 1_000_000,
        "a=" + "b" * 1_000_000 + " principal=" + "c" * 40_000,
        " ".join(f"a{number}=b" for number in range(100_000)),
        " ".join(f'a{number}="b"' for number in range(80_000)),
    ],
    ids=["repeated", "escapes", "unended", "long", "many", "many quoted"],
)
def test_the_worst_of_lines_take_no_time_and_no_space(line: str, log: Path) -> None:
    text = f"2026-11-24T10:00:00.000000Z\tinfo\trequest {line}\n"
    log.write_text(text * 3)
    limited = "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**28, 2**28)); "
    assert run(limited + MAIN.replace("main()", "main([*sys.argv[1:], '--by', 'a'])"), log).returncode in (0, 2)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_for_terminals(
    log: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert main(["audit", "access.log"]) == 0
    assert "\r[##############################] 100%" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K")
    assert "\r" not in capsys.readouterr().out


def run(script: str, log: Path, **more: Any) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-W", "error", "-c", script, "audit", "access.log"]
    return subprocess.run(command, cwd=log.parent, capture_output=True, timeout=60, **more)


MAIN = "import sys; from agentgate.cli import main; sys.exit(main())"


def test_a_reader_that_leaves_is_no_fault(log: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-c", MAIN, "audit", "access.log"]
    done = subprocess.run(command, cwd=log.parent, stdout=writing, stderr=subprocess.PIPE, timeout=60)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def test_it_needs_no_extra_and_no_letters(log: Path) -> None:
    log.write_text('2026-11-24T10:00:00.000000Z\tinfo\trequest principal="\\u65e5\\u672c"\n')
    without = "import sys; sys.modules |= dict.fromkeys(('yaml', 'uvicorn', 'pydantic', 'starlette', 'httpx')); "
    done = run(without + MAIN, log, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"?? " in done.stdout
