"""What a replay came to: as text for people, as a document for programs."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from ..audit.shown import count, cut, lines, plain, width
from .differences import Difference, Replay

_TITLES: Final = (("refused", "Now refused"), ("allowed", "Now allowed"), ("undecided", "Undecided"))
_HEADS: Final = ("calls", "caller", "call", "now", "before", "first")
_LACKS: Final = ("calls", "caller", "call", "the log does not have", "before", "first")
_CAPS: Final = (12, 24, 36, 0, 32, 40)  # columns of each; what is left is for the reason
_REASON: Final = 3  # the column of it
_MIN_REASON: Final = 32
_SKIPPED: Final = (
    ("without", "have no replay fields: log with --log-replay"),
    ("other_version", "have replay fields of another version, and were passed over"),
    ("malformed", "have replay fields that are damaged or forged, and were passed over"),
    ("other", "are not of an access log in JSON, or damaged, and were passed over"),
)


def document(found: Replay) -> dict[str, Any]:
    """All of it, in what JSON has."""
    return asdict(found)


def report(found: Replay, columns: int) -> Iterator[str]:
    """Line by line."""
    refused, allowed = (_calls(one for one in found.changed if one.outcome == way) for way in ("refused", "allowed"))
    yield (
        f"{count(found.replayed)} calls: {count(found.unchanged)} unchanged, {count(refused)} now refused, "
        f"{count(allowed)} now allowed, {count(_calls(found.undecided))} undecided"
    )
    for outcome, title in _TITLES:
        groups = [one for one in (*found.changed, *found.undecided) if one.outcome == outcome]
        if groups:
            yield from ("", title, *_table(groups, _LACKS if outcome == "undecided" else _HEADS, columns))
    notes = [*_notes(found)]
    if notes:
        yield from ("", *notes)


def _calls(groups: Any) -> int:
    return sum(one.count for one in groups)


def _table(groups: Sequence[Difference], heads: Sequence[str], columns: int) -> Iterator[str]:
    cells = [
        (count(one.count), one.caller, one.called, one.after, one.before, f"{Path(one.file).name}:{one.line}")
        for one in groups
    ]
    rows = [heads, *([plain(cell) for cell in row] for row in cells)]
    widths = [max(width(row[n]) for row in rows) for n in range(len(heads))]
    widths = [min(size, cap) if cap else size for size, cap in zip(widths, _CAPS, strict=True)]
    left = columns - sum(widths) + widths[_REASON] - 2 * len(widths)
    widths[_REASON] = min(widths[_REASON], max(_MIN_REASON, left))
    for row in rows:
        shown = [cut(cell, size) for cell, size in zip(row, widths, strict=True)]
        shown[_REASON], *more = lines(row[_REASON], widths[_REASON])
        padded = [cell + " " * (size - width(cell)) for cell, size in zip(shown, widths, strict=True)]
        yield "  ".join([" " * (widths[0] - width(shown[0])) + shown[0], *padded[1:]]).rstrip()
        indent = " " * (sum(widths[:_REASON]) + 2 * _REASON)
        yield from (indent + text for text in more)


def _notes(found: Replay) -> Iterator[str]:
    if found.missing:
        yield f"{count(found.missing)} lines are missing: the gateway dropped them when its log was read too slowly."
    for name, text in _SKIPPED:
        number = getattr(found, name)
        if number:
            yield f"{count(number)} lines {text} (first: {plain(found.examples[name])})."
