"""Findings: what a reading of log files came to, and within which time."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from ..errors import ConfigurationError
from .lines import dropped, read_line
from .names import unknown
from .sources import Told, blocks
from .tally import Tally

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_AGO: Final = re.compile(r"(\d{1,5})([smhdw])", re.ASCII).fullmatch


@dataclass(slots=True)
class Findings:
    """`other` lines were of something else, `outside` ones of another time; `missing` lines were never written."""

    files: Sequence[str]
    since: datetime | None
    until: datetime | None
    tally: Tally
    lines: int = 0
    other: int = 0
    outside: int = 0
    missing: int = 0


def find(
    files: Sequence[str], by: Mapping[str, str], *, since: datetime | None, until: datetime | None, told: Told
) -> Findings:
    """Count the requests in these files that are not before `since`, and before `until`.

    Raises ConfigurationError for files that cannot be read, and for a key in `by` that no request has.
    """
    found = Findings(files, since, until, Tally(by))
    count = found.tally.add
    bounds = (_second(since) if since else "", _second(until) if until else "~")
    timed = since is not None or until is not None
    for lines in blocks(files, told):
        found.lines += len(lines)
        for text in lines:
            line = read_line(text)
            if line is not None:
                if timed and not bounds[0] <= line.time[:19] < bounds[1]:
                    found.outside += 1
                else:
                    count(line)
            elif missing := dropped(text):
                found.missing += missing
            elif text and not text.isspace():
                found.other += 1
    if found.tally.unseen and found.tally.total.calls:
        raise unknown(found.tally.unseen, found.tally.seen)
    return found


def moment(option: str, text: str, now: datetime) -> datetime:
    """`24h` ago, or a time as in ISO 8601, which is UTC as the log is where it does not say otherwise.

    Raises ConfigurationError for anything else.
    """
    ago = _AGO(text)
    try:
        if ago:
            return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ConfigurationError(
            f"{option}: {text!r} is no time; it is 30m, 24h or 7d ago, or like 2026-11-24 or 2026-11-24T10:00:00Z"
        ) from None


def _second(time: datetime) -> str:
    """As the log writes it, to be compared as text; what is within a second of the bound is on its later side."""
    return time.strftime("%Y-%m-%dT%H:%M:%S") if time.year >= 1000 else ""
