"""JSON with one reading: strict RFC 8259 as UTF-8, or nothing.

Parsers disagree about doubled members, byte order marks, `NaN`, huge numbers and lone surrogates, and each such
disagreement lets a policy judge one document while the app acts on another. What has two readings is refused here; no
message quotes the document.
"""

import json
import math
import re
from typing import Any, Final

MAX_DEPTH: Final = 64  # arrays and objects inside one another; parsers behind us may recurse
_MAX_INT: Final = 2**64 - 1  # the largest integers that parsers keep apart from floats
_MIN_INT: Final = -(2**63)
_MAX_DIGITS: Final = 20

_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]").search
_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKETS: Final = re.compile(r"[\[{]|[\]}]")


class StrictJSONError(ValueError):
    """The bytes are not JSON, or can be read in two ways. The message says which rule they break, not where."""


def loads(data: bytes) -> Any:
    """The value of one JSON document. Raises `StrictJSONError`.

    Refused beside what RFC 8259 excludes: a byte order mark, other encodings than UTF-8, a member given twice, more
    than `MAX_DEPTH` levels, integers outside of 64 bits, numbers too large for a double, lone surrogates.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise StrictJSONError("not UTF-8") from None
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH and _depth(text) > MAX_DEPTH:  # the first: cheap, mostly enough
        raise StrictJSONError("nested too deeply")
    try:
        value = _decode(text)
    except StrictJSONError:
        raise
    except (ValueError, RecursionError):
        raise StrictJSONError("not valid JSON") from None
    if _SURROGATE(data):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise StrictJSONError("a lone surrogate") from None
    return value


def _depth(text: str) -> int:
    depth = deepest = 0
    for bracket in _BRACKETS.findall(_STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise StrictJSONError("a member is given twice")
    return members


def _integer(digits: str) -> int:
    value = int(digits) if len(digits) <= _MAX_DIGITS else _MAX_INT + 1
    if not _MIN_INT <= value <= _MAX_INT:
        raise StrictJSONError("an integer outside of 64 bits")
    return value


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise StrictJSONError("a number too large")
    return value


def _constant(word: str) -> float:
    raise StrictJSONError(f"{word} is no JSON")


_decode: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant
).decode
