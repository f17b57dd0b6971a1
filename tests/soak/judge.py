"""Judge: whether the callers' book, the upstream's ledger and the gateways' access logs tell the same story."""

import re
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from .book import COMPLETE, DENIED, LEFT, NAMES, UNREACHED, UNSENT, Book
from .words import Ledger

MOST: Final = 10  # examples of one fault

_LINE: Final = re.compile(r'"http\.path": "/soak/([a-z-]+)/(\d+)/\d+"').search
_PRINCIPAL: Final = re.compile(r'"principal": "([^"]*)"').search
_ID: Final = re.compile(r"\bp\d{3}\b").findall


def faults(book: Book, ledger: Ledger, logs: Sequence[Path], requests: int, folder: Path) -> list[str]:
    """Everything that does not agree; `requests`: how many reached the gateways."""
    received, answered = ledger.read()
    found = list(book.faults)
    if book.fault_count > len(book.faults):
        found.append(f"... and {book.fault_count - len(book.faults)} more")
    found += [f"upstream: {line}" for line in (folder / "upstream-faults").read_text().splitlines()[:MOST]]
    lines = Lines(book, logs)
    found += lines.faults
    if lines.total != requests:
        found.append(f"{requests} requests reached the gateways, and {lines.total} are in their access logs")
    for what, numbers in (
        ("received by the upstream, though refused", _where(book, lambda n, out: out == DENIED and received[n] > 0)),
        ("sent to the upstream twice", _where(book, lambda n, out: received[n] > (1 if book.once[n] else 2))),
        ("answered, and lost on the way back", _where(book, lambda n, out: _lost(out, answered[n]))),
        ("complete, though never answered", _where(book, lambda n, out: out == COMPLETE and not answered[n])),
        ("not finished", _where(book, lambda n, out: out == UNSENT)),
        ("not in the access log", _where(book, lambda n, out: not lines.count[n] and _reached(out, received[n]))),
        ("in the access log more than once", _where(book, lambda n, out: lines.count[n] > 1)),
    ):
        examples = [f"{number} ({NAMES[book.outcomes[number]]}, {lines.kinds.get(number)})" for number in numbers]
        if examples:
            found.append(f"{len(examples)} {what}: {', '.join(examples[:MOST])}")
    return found


def _where(book: Book, holds: Callable[[int, int], bool]) -> Iterator[int]:
    return (number for number, outcome in enumerate(book.outcomes[: book.next]) if holds(number, outcome))


def _lost(outcome: int, answered: int) -> bool:
    return answered == Ledger.DONE and outcome not in (COMPLETE, LEFT)


def _reached(outcome: int, received: int) -> bool:
    """Whether the gateway must have seen it: one that was left may have gone before that."""
    return received > 0 if outcome in (LEFT, UNREACHED) else True


class Lines:
    """The access logs: how many lines each request has, and whether they name its caller."""

    def __init__(self, book: Book, logs: Sequence[Path]) -> None:
        self.count = array("H", bytes(2 * book.size))
        self.total = 0
        self.faults: list[str] = []
        self.kinds: dict[int, str] = {}  # of those that did not end well
        for log in logs:
            with log.open() as file:
                for line in file:
                    self._read(book, line)

    def _read(self, book: Book, line: str) -> None:
        found = _LINE(line)
        if found is None:
            self._fault(f"a line of the access log that is no request's: {line[:200]}")
            return
        self.total += 1
        number = int(found[2])
        if book.outcomes[number] not in (COMPLETE, LEFT):
            self.kinds[number] = found[1]
        self.count[number] += 1
        principal = _PRINCIPAL(line)
        named = _ID(principal[1]) if principal is not None else []
        expected = [] if book.outcomes[number] == DENIED else [f"p{book.callers[number]:03}"]
        if named != expected and (named or book.outcomes[number] == COMPLETE):
            self._fault(f"request {number}: {named or 'nobody'} in the access log, and not {expected}")

    def _fault(self, text: str) -> None:
        if len(self.faults) < MOST:
            self.faults.append(text)
