"""One line of an access log to its fields: text (logfmt) or JSON, as `AccessLog` and agentgateway write them.

A line is taken only where it is one from its first byte to its last. Other programs write to the same stream, and may
quote what a client sent: a request inside one of their lines is no request.
"""

import json
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple

Fields = dict[str, Any]

_TIME: Final = r"(\d{4}-(?:0[1-9]|1[0-2])-[0-3]\d)T([01]\d|2[0-3]):([0-5]\d):[0-5]\d\.\d{1,6}Z"
_HEAD: Final = re.compile(_TIME + "\tinfo\trequest ", re.ASCII).match
_WHEN: Final = re.compile(_TIME, re.ASCII).fullmatch
_FIELD: Final = re.compile(r'([^ ="]+)=(?:"([^"\\]*(?:\\.[^"\\]*)*)"|([^ "]*))(?: |$)').match
_DROPPED: Final = tuple(
    re.compile(pattern, re.ASCII).match
    for pattern in (
        _TIME + r"\twarn\taccess_log dropped=(?P<lines>\d{1,12}) ",
        r'\{"level": "warn", "time": "' + _TIME + r'", "scope": "access_log", "dropped": (?P<lines>\d{1,12}),',
    )
)


class Line(NamedTuple):
    """One request: its time as written, the minute since 1970 that it is in, and its fields under the log's keys.

    Values are text; in JSON also numbers, as they were written.
    """

    time: str
    minute: int
    fields: Fields


def read_line(text: str) -> Line | None:
    """The request that a line, without its end, is about; None of any other line."""
    if text.startswith("{"):
        return _json(text)
    head = _HEAD(text)
    if head is None:
        return None
    rest = text[head.end() :]
    try:
        fields = _quoted(rest) if '"' in rest else _bare(rest)
        return Line(text[: head.end() - 14], _minute(text[:16]), fields)
    except ValueError:
        return None


def dropped(text: str) -> int:
    """How many lines are missing, by a line that says so, as the log itself does; 0 of any other line."""
    found = next(filter(None, (match(text) for match in _DROPPED)), None)
    return int(found["lines"]) if found else 0


def _bare(text: str) -> Fields:
    """Without a quote in it, as most are."""
    return _named([pair.split("=", 1) for pair in text.split(" ")])


def _quoted(text: str) -> Fields:
    pairs, end = [], 0
    while end < len(text):
        found = _FIELD(text, end)
        if found is None:
            raise ValueError("not logfmt")
        key, quoted, bare = found.groups()
        pairs.append((key, bare if quoted is None else _unescaped(quoted)))
        end = found.end()
    return _named(pairs)


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text
    try:
        value: str = json.loads(f'"{text}"')
    except ValueError:
        return text  # agentgateway's escapes are Rust's
    return value


def _named(pairs: Any) -> Fields:
    fields = _once(pairs)
    if "" in fields:
        raise ValueError("a value without a key")
    return fields


def _once(pairs: Any) -> Fields:
    """A key given twice is no line of ours: which one would hold?"""
    fields = dict(pairs)  # ValueError where a pair has one part
    if len(fields) != len(pairs):
        raise ValueError("a key is given twice")
    return fields


_decode: Final = json.JSONDecoder(object_pairs_hook=_once).decode


def _json(text: str) -> Line | None:
    try:
        found = _decode(text)
    except (ValueError, RecursionError):
        return None
    time = found.get("time")
    if found.get("scope") != "request" or not isinstance(time, str) or _WHEN(time) is None:
        return None
    try:
        return Line(time, _minute(time[:16]), found)
    except ValueError:
        return None


@lru_cache(maxsize=4096)
def _minute(text: str) -> int:
    """Minutes since 1970. ValueError of a day that no month has."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) // 60
