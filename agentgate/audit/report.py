"""The findings as text for a terminal: totals, then what was refused by which rule, then who called what."""

from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from typing import Final, NamedTuple

from . import shown
from .findings import Findings
from .tally import Cause, Group

ROWS: Final = 30  # of a table; what is below them is told as a number
_LEAST: Final = 10  # columns of a text, however narrow the terminal is


class Column(NamedTuple):
    """A heading, and whether numbers stand below it: they stay in one line."""

    name: str
    number: bool = False


Row = Sequence[str]


def report(found: Findings, columns: int) -> Iterator[str]:
    """The lines of it, none wider than so many columns as long as there is room for the numbers."""
    tally, total = found.tally, found.tally.total
    notes = [line for note in shown.notes(found) for line in shown.lines(note, columns)]
    if not total.calls:
        yield from (f"{shown.files(found)}: no calls", *notes)
        return
    yield f"{shown.files(found)}: {shown.count(total.calls)} calls"
    yield shown.period(found)
    yield from _totals(total)
    yield from notes
    if tally.refusals:
        yield from ("", "Refused, and by which rule")
        yield from _causes(shown.causes(tally.refusals), "reason", columns)
    if tally.shadows:
        yield from ("", "Let through, but would have been refused")
        yield from _causes(shown.causes(tally.shadows), "policy", columns)
    yield from ("", "Calls by " + ", ".join(map(shown.plain, tally.by)))
    yield from _groups(found, columns)


def _totals(total: Group) -> Iterator[str]:
    for name, number in (
        ("refused", total.refused),
        ("would have been refused", total.shadow),
        ("failed", total.failed),
    ):
        if number or name == "refused":
            yield f"  {name:24}{shown.count(number)} ({shown.share(number, total.calls)})"
    if total.input or total.output:
        yield f"  {'tokens':24}{shown.tokens(total.input)} in, {shown.tokens(total.output)} out"
    half, most = total.quantile(0.5), total.quantile(0.99)
    yield f"  {'duration':24}p50 {shown.duration(half)}, p99 {shown.duration(most)}"


def _causes(causes: Sequence[Cause], source: str, columns: int) -> Iterator[str]:
    rows = [
        (
            shown.count(cause.calls),
            shown.plain(cause.rule or cause.text or None),
            shown.plain(cause.source),
            shown.top(cause.who, cause.calls),
            shown.top(cause.what, cause.calls),
        )
        for cause in causes[:ROWS]
    ]
    heads = (Column("calls", True), Column("rule, or why"), Column(source), Column("who"), Column("what"))
    yield from _table(heads, rows, columns)
    yield from _rest(len(causes), sum(cause.calls for cause in causes[ROWS:]))


def _groups(found: Findings, columns: int) -> Iterator[str]:
    total, groups = found.tally.total, found.tally.heaviest()
    heads = [Column(shown.plain(name)) for name in found.tally.by] + [Column("calls", True)]
    optional: list[tuple[Column, int, Callable[[Group], int]]] = [
        (Column("refused", True), total.refused, lambda group: group.refused),
        (Column("shadow", True), total.shadow, lambda group: group.shadow),
        (Column("failed", True), total.failed, lambda group: group.failed),
    ]
    shows = [(head, of) for head, there, of in optional if there]
    heads += [head for head, _ in shows]
    if total.input or total.output:
        heads += [Column("in", True), Column("out", True)]
    heads += [Column("p50", True), Column("p99", True)]
    rows = []
    for key, group in groups[:ROWS]:
        row = [*map(shown.plain, key), shown.count(group.calls)]
        row += [shown.count(of(group)) if of(group) else "" for _, of in shows]
        if total.input or total.output:
            row += [shown.tokens(number) if number else "" for number in (group.input, group.output)]
        rows.append([*row, shown.duration(group.quantile(0.5)), shown.duration(group.quantile(0.99))])
    yield from _table(heads, rows, columns)
    yield from _rest(len(groups), sum(group.calls for _, group in groups[ROWS:]))
    if found.tally.folded:
        yield f"others: {shown.count(found.tally.others.calls)} calls"


def _rest(rows: int, calls: int) -> Iterator[str]:
    if rows > ROWS:
        yield f"... and {shown.count(rows - ROWS)} more, of {shown.count(calls)} calls; --json has them all"


def _table(heads: Sequence[Column], rows: Sequence[Row], columns: int) -> Iterator[str]:
    widths = [max(shown.width(cell) for cell in column) for column in zip([h.name for h in heads], *rows, strict=True)]
    texts = [number for number, head in enumerate(heads) if not head.number]
    while sum(widths) + 2 * (len(widths) - 1) > columns:
        widest = max(texts, key=lambda number: widths[number])
        if widths[widest] <= _LEAST:
            break
        widths[widest] -= 1
    yield from _row(heads, widths, [head.name for head in heads])
    yield "  ".join("-" * width for width in widths)
    for row in rows:
        yield from _row(heads, widths, row)


def _row(heads: Sequence[Column], widths: Sequence[int], cells: Row) -> Iterator[str]:
    """A row in as many lines as its longest text needs."""
    texts = [shown.lines(cell, width) for cell, width in zip(cells, widths, strict=True)]
    for line in zip_longest(*texts, fillvalue=""):
        placed = []
        for head, width, text in zip(heads, widths, line, strict=True):
            blanks = " " * (width - shown.width(text))
            placed.append(blanks + text if head.number else text + blanks)
        yield "  ".join(placed).rstrip()
