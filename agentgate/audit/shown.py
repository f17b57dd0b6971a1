"""How numbers, times and the log's own texts are shown to people, on paper and on terminals."""

import textwrap
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from .findings import Findings
from .tally import Cause

NONE: Final = "(none)"  # where the log does not say
MAX_LINES: Final = 3  # of one text in a table
MAX_NAME: Final = 48  # columns of a name among others


def plain(text: str | None) -> str:
    """In one line, without what a terminal or a page would obey: clients choose the names of tools."""
    if text is None:
        return NONE
    return "".join([c if c.isprintable() else "?" for c in " ".join(text.split())])


def count(number: int) -> str:
    return f"{number:,}"


def tokens(number: int) -> str:
    """Three digits of a large number: `12.3M`."""
    for size, letter in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**4, "k")):
        if number >= size:
            unit = 1000 if letter == "k" else size
            return f"{number / unit:.3g}{letter}" if number < 1000 * unit else f"{number / unit:,.0f}{letter}"
    return count(number)


def duration(milliseconds: float | None) -> str:
    if milliseconds is None:
        return "-"
    if milliseconds < 1000:
        return f"{milliseconds:.0f}ms"
    return f"{milliseconds / 1000:.3g}s" if milliseconds < 100_000 else f"{milliseconds / 1000:,.0f}s"


def share(part: int, whole: int) -> str:
    """`2.5 %`; never 0 of what there is, nor all of what is not all."""
    percent = 100 * part / whole if whole else 0
    if 0 < percent < 0.1:
        return "<0.1 %"
    return f"{min(percent, 99.9) if part < whole else percent:.1f} %"


def width(text: str) -> int:
    """Columns that it takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def cut(text: str, columns: int) -> str:
    """At most so wide, with `…` for what is left out."""
    if width(text) <= columns:
        return text
    while width(text) > columns - 1:
        text = text[:-1]
    return text + "…"


def lines(text: str, columns: int) -> list[str]:
    """As many lines as it needs, but no more than a few; at least one."""
    if width(text) <= columns:
        return [text]
    if not text.isascii():
        return [cut(text, columns)]  # `textwrap` counts characters
    return textwrap.wrap(text, columns, max_lines=MAX_LINES, placeholder="...", break_on_hyphens=False) or [""]


def files(found: Findings) -> str:
    """The first of them, and how many more."""
    more = len(found.files) - 1
    return plain(found.files[0]) + (f" and {more} more" if more else "")


def period(found: Findings) -> str:
    """From the first request to the last one: `2026-11-24 00:00:03 to 23:59:58 UTC`."""
    first, last = (plain(time[:19]).replace("T", " ") for time in (found.tally.first, found.tally.last))
    return f"{first} to {last[11:] if last[:10] == first[:10] else last} UTC"


def minute(number: int, form: str) -> str:
    """Of minutes since 1970, in the form of `strftime`."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(minutes=number)).strftime(form)


def step(minutes: int) -> str:
    """`15 minutes`, `1 hour`, `7 days`."""
    for size, name in ((1440, "day"), (60, "hour"), (1, "minute")):
        if minutes % size == 0:
            return f"{minutes // size} {name}" + ("s" if minutes > size else "")
    raise AssertionError(minutes)


def top(names: Mapping[str | None, int], calls: int, most: int = 1) -> str:
    """The most frequent names, each with its number where it is not all of them."""
    if not names:
        return NONE
    ordered = sorted(names.items(), key=lambda item: (-item[1], item[0] or ""))
    named = [(cut(plain(name), MAX_NAME), number) for name, number in ordered[:most]]
    said = [name if number == calls else f"{name} ({count(number)})" for name, number in named]
    return ", ".join(said) + (f" +{len(ordered) - most}" if len(ordered) > most else "")


def causes(found: Mapping[tuple[str | None, ...], Cause]) -> list[Cause]:
    """The one with the most calls first."""
    return sorted(found.values(), key=lambda cause: (-cause.calls, cause.source or "", cause.rule or cause.text))


def notes(found: Findings) -> list[str]:
    """What the reader has to know of the log before believing the report."""
    said = []
    if found.missing:
        said.append(f"{count(found.missing)} lines are missing: the gateway could not write them, or not in time.")
    if found.other:
        said.append(f"{count(found.other)} lines are not of the access log, or damaged, and were passed over.")
    if found.outside:
        said.append(f"{count(found.outside)} calls are outside of the time asked for.")
    if found.tally.folded:
        said.append("There are too many groups: the smallest are counted as others, and the rest may lack some calls.")
    return said
