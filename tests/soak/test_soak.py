"""The soak, small: the code of the long one, for a few seconds; and that it would notice."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from .book import BROKEN, COMPLETE, DENIED, LEFT, Book
from .callers import Caller, Callers
from .client import Answer
from .judge import faults
from .plot import plot
from .run import Plan, Run
from .traffic import Errand, Traffic
from .watch import Rest, Sample, growth, leftovers
from .words import Ledger, filled

pytestmark = pytest.mark.anyio

# Memory is not yet at rest after seconds: it must not be out of all proportion.
SMALL = Plan(
    requests=20_000,
    seconds=5.0,
    streams=150,
    event_seconds=1.0,
    rounds=1,
    restarts=1,
    rotate_every=0.1,
    sample_every=0.2,
    growth=0.25,
)


async def test_a_small_soak(tmp_path: Path) -> None:
    """Nobody sees a byte of another's, nothing is lost, and nothing is left over."""
    report = await Run(SMALL, tmp_path, lambda text: None).run()
    assert report.faults == []
    assert report.figures["streams open at once"] == SMALL.streams
    assert set(report.figures["outcomes"]) >= {"complete", "failed", "denied", "broken off", "left"}
    assert report.figures["credentials replaced"] > 0
    assert report.figures["revoked credentials tried"] > 0
    svg = (tmp_path / "soak.svg").read_text()
    assert svg.count("<polyline") == 10
    assert len((tmp_path / "samples.csv").read_text().splitlines()) > 10


ANSWERS: dict[str, tuple[dict[str, Any], str]] = {
    "its own": ({}, ""),
    "another caller's": ({"canaries": [b"canary-p001-other-0"], "agents": [b"p001"]}, "p000 got"),
    "its own, as another": ({"agents": [b"p001"]}, "p000 got"),
    "its own, of another request": ({"canaries": [b"canary-p000-own-1"]}, "p000 got"),
    "one byte of another's": ({"body": [b"canary-p000-own-0\ncanarx"]}, "a byte that is not of"),
    "cut off, with a clean end": ({"body": [b"canary-p000-own-0\ncan"]}, "21 of 24 bytes, and a clean end"),
    "an error with a canary": ({"canaries": [], "agents": [], "status": 502}, "somebody's canary in an error"),
    "an error of nobody": ({"canaries": [], "agents": [], "status": 500, "body": [b"oops"]}, "status 500 from nobody"),
    "a refusal": ({"canaries": [], "agents": [], "status": 401, "body": [b"no"]}, "p000 was refused"),
}


@pytest.mark.parametrize(("changed", "fault"), ANSWERS.values(), ids=ANSWERS)
async def test_what_a_caller_must_not_see(tmp_path: Path, changed: dict[str, Any], fault: str) -> None:
    """An answer is this request's own to the last byte, or an error of the gateway's that has nothing of anybody."""
    book = Book(1)
    traffic = Traffic(book, Callers(tmp_path, 2, tokens=1, seed=0), 0, seed=0, until=1, seconds=1.0)
    errand = Errand(0, Caller("p000", "own", current=b"Bearer x"), "at-once", 24)
    errand.head()
    answer = Answer(asyncio.get_running_loop().create_future(), head_only=False)
    own = {
        "status": 200,
        "canaries": [errand.canary],
        "agents": [b"p000"],
        "body": [filled(errand.canary, 24)],
        "complete": True,
    }
    for name, value in {**own, **changed}.items():
        setattr(answer, name, value)
    answer.size = len(b"".join(answer.body))
    traffic.check(errand, answer)
    assert (fault in " ".join(book.faults)) if fault else not book.faults


class Told:
    """A story that agrees: one request, answered, received and logged. Tests change one thing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.book = Book(4)
        self.book.take(4)
        self.book.outcomes[0] = COMPLETE
        self.book.callers[0] = 7
        self.ledger = Ledger(folder / "ledger", 4)
        self.ledger.received(0)
        self.ledger.answering(0, Ledger.DONE)
        self.lines = ['{"http.path": "/soak/at-once/0/5", "http.status": 200, "principal": "p007-3"}']
        self.requests = 1
        (folder / "upstream-faults").touch()

    def faults(self) -> list[str]:
        log = self.folder / "log"
        log.write_text("".join(line + "\n" for line in self.lines))
        return faults(self.book, self.ledger, [log], self.requests, self.folder)


def test_a_story_that_agrees(tmp_path: Path) -> None:
    assert Told(tmp_path).faults() == []


@pytest.mark.parametrize(
    ("outcome", "received", "answered", "line", "fault"),
    [
        pytest.param(BROKEN, 1, Ledger.DONE, True, "answered, and lost on the way back", id="an answer lost"),
        pytest.param(COMPLETE, 1, 0, True, "complete, though never answered", id="an answer invented"),
        pytest.param(COMPLETE, 3, Ledger.DONE, True, "sent to the upstream twice", id="sent again and again"),
        pytest.param(DENIED, 1, 0, True, "received by the upstream, though refused", id="refused, and sent on"),
        pytest.param(LEFT, 1, 0, False, "not in the access log", id="forwarded, and not logged"),
        pytest.param(0, 0, 0, True, "not finished", id="neither an answer nor an end"),
    ],
)
def test_what_does_not_agree(
    tmp_path: Path, outcome: int, received: int, answered: int, line: bool, fault: str
) -> None:
    """Every check that a long run passes has something that it would not pass."""
    told = Told(tmp_path)
    told.book.outcomes[0] = outcome
    told.ledger.answering(0, answered)
    for _ in range(received - 1):
        told.ledger.received(0)
    if not received:
        told.ledger = Ledger(tmp_path / "another", 4)
    if not line:
        told.lines, told.requests = [], 0
    assert any(fault in found for found in told.faults())


def test_what_the_access_log_gets_wrong(tmp_path: Path) -> None:
    """A line too many, somebody else's name, a line that is no request's, and a request without a line."""
    told = Told(tmp_path)
    told.lines *= 2
    assert [fault.split(":")[0] for fault in told.faults()] == [
        "1 requests reached the gateways, and 2 are in their access logs",
        "1 in the access log more than once",
    ]
    told.lines = [told.lines[0].replace("p007", "p008")]
    assert told.faults() == ["request 0: ['p008'] in the access log, and not ['p007']"]
    told.lines = ['{"level": "warn", "dropped": 3}']
    assert "no request's" in told.faults()[0]


def test_a_post_is_sent_once_and_no_more(tmp_path: Path) -> None:
    told = Told(tmp_path)
    told.ledger.received(0)
    assert told.faults() == []
    told.book.once[0] = 1
    assert "sent to the upstream twice" in told.faults()[0]


def test_what_is_left_over() -> None:
    """Of a gateway at rest, in comparison with how it was before it had worked."""
    before = Rest(files=10, tasks=3, open=0, requests=0, of_requests={}, objects=1000)
    assert leftovers(before, before) == []
    after = Rest(files=12, tasks=4, open=1, requests=9, of_requests={"Record": 5}, objects=2000)
    assert leftovers(before, after) == [
        "2 more files than before",
        "1 more tasks than before",
        "1 more open than before",
        "5 of Record are left",
    ]


def sample(second: int, rss: float) -> Sample:
    return Sample(float(second), "traffic", 1.0, rss, 10, 5, 2, 1, 0, second * 100)


def test_growth_is_that_of_what_comes_after_the_warming_up() -> None:
    warming = [sample(second, 10.0) for second in range(10)]
    assert growth([*warming, *(sample(second, 100.0 + second // 50) for second in range(10, 100))]) == (100.0, 101.0)


def test_the_picture_has_a_line_for_each_phase_and_value(tmp_path: Path) -> None:
    samples = [sample(second, 60.0 + second) for second in range(1000)]
    plot(samples, tmp_path / "soak.svg")
    svg = (tmp_path / "soak.svg").read_text()
    assert svg.startswith("<svg ")
    longest = max(svg.split("<polyline"), key=len)
    assert 300 <= longest.count(",") <= 600
