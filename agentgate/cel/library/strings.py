"""The strings extension. Positions count code points."""

from __future__ import annotations

from typing import Any

from agentgate.cel.functions import Library
from agentgate.cel.library.core import bounded
from agentgate.cel.limits import MAX_LIST, MAX_STRING
from agentgate.cel.values import Fault, LimitFault

# What the specification takes for white space; Python's own list also has the separators \x1c to \x1f.
_WHITESPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
_QUOTE = str.maketrans(
    {
        "\a": "\\a",
        "\b": "\\b",
        "\f": "\\f",
        "\n": "\\n",
        "\r": "\\r",
        "\t": "\\t",
        "\v": "\\v",
        "\\": "\\\\",
        '"': '\\"',
    }
)


def _position(position: int, text: str) -> int:
    if not 0 <= position <= len(text):
        raise Fault("index", "index out of range")
    return position


def _char_at(text: str, position: int) -> str:
    start = _position(position, text)
    return text[start : start + 1]


def _index_of(text: str, part: str, start: int = 0) -> int:
    return text.find(part, _position(start, text))


def _last_index_of(text: str, part: str, start: int | None = None) -> int:
    if start is None:
        return text.rfind(part)
    return text.rfind(part, 0, _position(start, text) + len(part))


def _substring(text: str, start: int, end: int | None = None) -> str:
    stop = _position(len(text) if end is None else end, text)
    if _position(start, text) > stop:
        raise Fault("index", "index out of range")
    return text[start:stop]


def _replace(text: str, old: str, new: str, limit: int = -1) -> str:
    count = text.count(old) if limit < 0 else min(limit, text.count(old))
    if len(text) + count * (len(new) - len(old)) > MAX_STRING:
        raise LimitFault("limit", f"string longer than {MAX_STRING}")
    return text.replace(old, new, count)


def _split(text: str, separator: str, limit: int = -1) -> list[str]:
    if limit == 0:
        return []
    if len(text) >= MAX_LIST:  # a shorter text cannot have too many parts
        parts = text.count(separator) + 1 if separator else len(text)
        if (parts if limit < 0 else min(parts, limit)) > MAX_LIST:
            raise LimitFault("limit", f"list longer than {MAX_LIST}")
    if separator:
        return text.split(separator, limit - 1 if limit > 0 else -1)
    return list(text) if limit < 0 or limit > len(text) else [*text[: limit - 1], text[limit - 1 :]]


def _join(items: Any, separator: str = "") -> str:
    if any(item.__class__ is not str for item in items):
        raise Fault("no_overload", "join needs a list of strings")
    if sum(map(len, items)) + len(separator) * len(items) > MAX_STRING:
        raise LimitFault("limit", f"string longer than {MAX_STRING}")
    return separator.join(items)


LIBRARY: Library = [
    ("<string>.contains(string) -> bool", str.__contains__),
    ("<string>.startsWith(string) -> bool", str.startswith),
    ("<string>.endsWith(string) -> bool", str.endswith),
    ("<string>.charAt(int) -> string", _char_at),
    ("<string>.indexOf(string) -> int", _index_of),
    ("<string>.indexOf(string, int) -> int", _index_of),
    ("<string>.lastIndexOf(string) -> int", _last_index_of),
    ("<string>.lastIndexOf(string, int) -> int", _last_index_of),
    # bytes know ASCII letters only, and are much faster than str.translate().
    ("<string>.lowerAscii() -> string", lambda s: s.encode().lower().decode()),
    ("<string>.upperAscii() -> string", lambda s: s.encode().upper().decode()),
    ("<string>.replace(string, string) -> string", _replace),
    ("<string>.replace(string, string, int) -> string", _replace),
    ("<string>.split(string) -> list(string)", _split),
    ("<string>.split(string, int) -> list(string)", _split),
    ("<string>.substring(int) -> string", _substring),
    ("<string>.substring(int, int) -> string", _substring),
    ("<string>.trim() -> string", lambda s: s.strip(_WHITESPACE)),
    ("<string>.reverse() -> string", lambda s: s[::-1]),
    ("<string>.stripPrefix(string) -> string", str.removeprefix),
    ("<string>.stripSuffix(string) -> string", str.removesuffix),
    ("<list(string)>.join() -> string", _join),
    ("<list(string)>.join(string) -> string", _join),
    ("strings.quote(string) -> string", lambda s: bounded(f'"{s.translate(_QUOTE)}"')),
]
