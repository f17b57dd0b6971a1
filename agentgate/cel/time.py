"""Timestamps and durations to the nanosecond, which Python's own classes cannot hold.

A timestamp lies within the years 1 to 9999; a duration fits 64 bits of nanoseconds (about 292 years), as in the
reference implementation. Leap seconds do not exist.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from functools import total_ordering
from typing import Any
from zoneinfo import ZoneInfo

from agentgate.cel.values import INT_MAX, INT_MIN, Fault, register

_SECOND = 1_000_000_000
_LONGEST = 256  # characters of a duration that anybody writes
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_FIRST = -62_135_596_800 * _SECOND  # 0001-01-01T00:00:00Z
_LAST = 253_402_300_800 * _SECOND - 1  # 9999-12-31T23:59:59.999999999Z

_RFC3339 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,32}))?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_OFFSET = re.compile(r"([+-]?)([0-9]{2}):([0-9]{2})")
_DURATION_PART = re.compile(r"([0-9]{0,20})(?:\.([0-9]{0,20}))?(h|ms|m|s|us|µs|μs|ns)")
_UNIT = {
    "h": 3600 * _SECOND,
    "m": 60 * _SECOND,
    "s": _SECOND,
    "ms": 1_000_000,
    "us": 1000,
    "µs": 1000,
    "μs": 1000,
    "ns": 1,
}


@total_ordering
class _Nanoseconds:
    """A count of nanoseconds in a range. Equality and order are within one class only."""

    __slots__ = ("ns",)
    _range: tuple[int, int]

    def __init__(self, ns: int) -> None:
        if not self._range[0] <= ns <= self._range[1]:
            raise Fault("overflow", f"{type(self).__name__.lower()} out of range")
        self.ns = ns

    def __eq__(self, other: object) -> bool:
        return self.ns == other.ns if isinstance(other, type(self)) else NotImplemented

    def __lt__(self, other: Any) -> bool:
        return self.ns < other.ns if isinstance(other, type(self)) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.ns)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self})"


class Timestamp(_Nanoseconds):
    """A moment: `ns` nanoseconds since 1970-01-01T00:00:00Z. `str()` writes RFC 3339 in UTC."""

    __slots__ = ()
    _range = (_FIRST, _LAST)

    @classmethod
    def parse(cls, text: str) -> Timestamp:
        """A moment written as in RFC 3339; digits beyond nanoseconds are cut. Raises Fault."""
        match = _RFC3339.fullmatch(text)
        if match is None:
            raise Fault("conversion", "not a timestamp")
        year, month, day, hour, minute, second = map(int, match.groups()[:6])
        if hour > 23 or minute > 59 or second > 59:
            raise Fault("conversion", "not a timestamp")
        try:
            days = date(year, month, day).toordinal() - _EPOCH_DAY
        except ValueError:
            raise Fault("conversion", "not a timestamp") from None
        offset = timedelta(0) if match[8] in "Zz" else _offset(match[8])
        seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset // timedelta(seconds=1)
        return cls(seconds * _SECOND + int((match[7] or "0").ljust(9, "0")[:9]))

    @classmethod
    def of(cls, moment: datetime) -> Timestamp:
        """The same moment as an aware datetime."""
        return cls((moment - _EPOCH) // timedelta(microseconds=1) * 1000)

    def datetime(self, zone: tzinfo = UTC) -> datetime:
        """The same moment as a datetime, cut to microseconds."""
        return (_EPOCH + timedelta(microseconds=self.ns // 1000)).astimezone(zone)

    def __str__(self) -> str:
        seconds, fraction = divmod(self.ns, _SECOND)
        moment = _EPOCH + timedelta(seconds=seconds)
        digits = f".{fraction:09}".rstrip("0") if fraction else ""
        return f"{moment.year:04}{moment:-%m-%dT%H:%M:%S}{digits}Z"


class Duration(_Nanoseconds):
    """A signed length of time: `ns` nanoseconds. `str()` writes seconds: `90s`, `0.5s`."""

    __slots__ = ()
    _range = (INT_MIN, INT_MAX)

    @classmethod
    def parse(cls, text: str) -> Duration:
        """A length written as `1h30m`, `-1.5s`, `10ms`; units h, m, s, ms, us, ns. Raises Fault. Linear in the text."""
        if len(text) > _LONGEST:
            raise Fault("conversion", "not a duration")
        body = text[1:] if text[:1] in ("+", "-") else text
        total, at = 0, 0
        while at < len(body):
            match = _DURATION_PART.match(body, at)
            if match is None or not (match[1] or match[2]):
                break
            unit = _UNIT[match[3]]
            total += int(match[1] or "0") * unit
            if match[2]:
                total += int(match[2]) * unit // 10 ** len(match[2])
            at = match.end()
        if (at < len(body) or not body) and body != "0":
            raise Fault("conversion", "not a duration")
        return cls(-total if text[0] == "-" else total)

    @classmethod
    def of(cls, delta: timedelta) -> Duration:
        """The same length as a timedelta."""
        return cls(delta // timedelta(microseconds=1) * 1000)

    def timedelta(self) -> timedelta:
        """The same length as a timedelta, cut to microseconds."""
        return timedelta(microseconds=toward_zero(self.ns, 1000))

    def __str__(self) -> str:
        seconds, fraction = divmod(abs(self.ns), _SECOND)
        digits = f".{fraction:09}".rstrip("0") if fraction else ""
        return f"{'-' if self.ns < 0 else ''}{seconds}{digits}s"


register(Timestamp, "google.protobuf.Timestamp", ordered=True)
register(Duration, "google.protobuf.Duration", ordered=True)


def toward_zero(a: int, b: int) -> int:
    """a / b, the fraction cut off, as in C; Python's // rounds down."""
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


def _offset(text: str) -> timedelta:
    match = _OFFSET.fullmatch(text)
    if match is None or int(match[2]) > 23 or int(match[3]) > 59:
        raise Fault("conversion", "not a time zone")
    delta = timedelta(hours=int(match[2]), minutes=int(match[3]))
    return -delta if match[1] == "-" else delta


def zone(name: str) -> tzinfo:
    """A time zone: an offset (`+02:00`, `02:00`) or an IANA name (`Europe/Rome`). Raises Fault."""
    if _OFFSET.fullmatch(name):
        return timezone(_offset(name))
    try:
        return ZoneInfo(name)
    except (ValueError, LookupError, OSError):
        raise Fault("conversion", "not a time zone") from None
