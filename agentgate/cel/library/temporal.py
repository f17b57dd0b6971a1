"""Timestamps and durations: conversions and accessors.

Counting starts where the specification starts it: getMonth, getDayOfMonth and getDayOfYear at 0, getDate at 1, Sunday
is day 0.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from agentgate.cel.functions import Library
from agentgate.cel.time import Duration, Timestamp, toward_zero, zone

_SECOND = 1_000_000_000

_FIELDS: dict[str, Callable[[datetime], int]] = {
    "getFullYear": lambda t: t.year,
    "getMonth": lambda t: t.month - 1,
    "getDayOfYear": lambda t: t.timetuple().tm_yday - 1,
    "getDayOfMonth": lambda t: t.day - 1,
    "getDate": lambda t: t.day,
    "getDayOfWeek": lambda t: t.isoweekday() % 7,
    "getHours": lambda t: t.hour,
    "getMinutes": lambda t: t.minute,
    "getSeconds": lambda t: t.second,
    "getMilliseconds": lambda t: t.microsecond // 1000,
}


def _milliseconds(d: Duration) -> int:
    # The milliseconds within the second, as the conformance tests want it; the other accessors give the whole length.
    return toward_zero(d.ns, 1_000_000) - toward_zero(d.ns, _SECOND) * 1000


def _in_utc(field: Callable[[datetime], int]) -> Callable[[Timestamp], int]:
    return lambda t: field(t.datetime(UTC))


def _in_zone(field: Callable[[datetime], int]) -> Callable[[Timestamp, str], int]:
    return lambda t, name: field(t.datetime(zone(name)))


LIBRARY: Library = [
    ("timestamp(string) -> timestamp", Timestamp.parse),
    ("timestamp(int) -> timestamp", lambda seconds: Timestamp(seconds * _SECOND)),
    ("duration(string) -> duration", Duration.parse),
    ("duration(int) -> duration", lambda seconds: Duration(seconds * _SECOND)),
    *((f"<timestamp>.{name}() -> int", _in_utc(field)) for name, field in _FIELDS.items()),
    *((f"<timestamp>.{name}(string) -> int", _in_zone(field)) for name, field in _FIELDS.items()),
    ("<duration>.getHours() -> int", lambda d: toward_zero(d.ns, 3600 * _SECOND)),
    ("<duration>.getMinutes() -> int", lambda d: toward_zero(d.ns, 60 * _SECOND)),
    ("<duration>.getSeconds() -> int", lambda d: toward_zero(d.ns, _SECOND)),
    ("<duration>.getMilliseconds() -> int", _milliseconds),
]
