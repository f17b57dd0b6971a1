"""Operators and conversions of the standard library."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from agentgate.cel import values
from agentgate.cel.functions import Library
from agentgate.cel.limits import MAX_LIST, MAX_STRING
from agentgate.cel.time import Duration, Timestamp, toward_zero
from agentgate.cel.types import TYPE_NAMES, Type
from agentgate.cel.values import INT_MAX, INT_MIN, UINT_MAX, Fault, LimitFault, UInt

_INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
_DOUBLE = re.compile(r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|inf|infinity|nan)", re.IGNORECASE)
_BOOL = {
    text: value
    for value, texts in ((True, "1 t T TRUE true True"), (False, "0 f F FALSE false False"))
    for text in texts.split()
}


def int64(value: int) -> int:
    """The value, if it fits 64 bits."""
    if INT_MIN <= value <= INT_MAX:
        return value
    raise Fault("overflow", "integer overflow")


def uint64(value: int) -> UInt:
    """The value as an unsigned integer, if it fits 64 bits."""
    if 0 <= value <= UINT_MAX:
        return UInt(value)
    raise Fault("overflow", "unsigned integer overflow")


def bounded(text: Any) -> Any:
    """A string or bytes, if an expression may build one that long."""
    if len(text) > MAX_STRING:
        raise LimitFault("limit", f"string longer than {MAX_STRING}")
    return text


def join_text(a: Any, b: Any) -> Any:
    """a + b, its size checked before it is built."""
    if len(a) + len(b) > MAX_STRING:
        raise LimitFault("limit", f"string longer than {MAX_STRING}")
    return a + b


def join_lists(a: Any, b: Any) -> list[Any]:
    """a + b of lists, their size checked before they are joined."""
    if len(a) + len(b) > MAX_LIST:
        raise LimitFault("limit", f"list longer than {MAX_LIST}")
    return [*a, *b]


def _nonzero(b: int) -> int:
    if b == 0:
        raise Fault("division", "division by zero")
    return b


def _remainder(a: int, b: int) -> int:
    int64(toward_zero(a, _nonzero(b)))  # -2^63 % -1 overflows where its quotient does
    return int(math.copysign(1, a)) * (abs(a) % abs(b))


def _divide(a: float, b: float) -> float:
    if b:
        return a / b
    return math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a) * math.copysign(1, b)


def truncate(value: float) -> int:
    """A double without its fraction. Raises Fault for what is no number."""
    if not math.isfinite(value):
        raise Fault("overflow", "integer overflow")
    return math.trunc(value)


def _to_int(value: float) -> int:
    # Open at both ends: the doubles next to the limits stand for integers beyond them.
    if not -(2.0**63) < value < 2.0**63:
        raise Fault("overflow", "integer overflow")
    return truncate(value)


def _parse_int(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise Fault("conversion", "not an integer")
    return int64(int(text))


def _parse_uint(text: str) -> UInt:
    if not _INTEGER.fullmatch(text) or text[0] in "+-":
        raise Fault("conversion", "not an unsigned integer")
    return uint64(int(text))


def _parse_double(text: str) -> float:
    if len(text) > 400 or not _DOUBLE.fullmatch(text):
        raise Fault("conversion", "not a double")
    return float(text)


def _parse_bool(text: str) -> bool:
    if text not in _BOOL:
        raise Fault("conversion", "not a bool")
    return _BOOL[text]


def format_double(value: float) -> str:
    """The shortest text that reads back as the same double: `3`, `0.5`, `1e+06`, `NaN`, `-Infinity`."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    point = len(digits) + int(exponent)  # 0.digits x 10^point
    text = "".join(map(str, digits))
    if value and not -4 < point <= 21:
        text = f"{text[0]}{'.' + text[1:] if text[1:] else ''}e{point - 1:+03}"
    elif point <= 0:
        text = f"0.{'0' * -point}{text}"
    else:
        text = text.ljust(point, "0")
        text = text[:point] + ("." + text[point:] if text[point:] else "")
    return "-" * sign + text


def _decode(data: bytes) -> str:
    try:
        return str(bounded(data.decode()))
    except UnicodeDecodeError:
        raise Fault("conversion", "invalid UTF-8") from None


def type_of(value: Any) -> Type:
    """`type(value)`"""
    return TYPE_NAMES[values.kind(value)]


def same(value: Any) -> Any:
    """The value itself."""
    return value


def _fail(_: str = "") -> Any:
    # The text stays out of the error: it may be built from the request.
    raise Fault("fail", "fail() was called")


def _arithmetic() -> Library:
    uint_difference: Callable[[int, int], UInt] = lambda a, b: uint64(int(a) - int(b))  # noqa: E731
    return [
        ("_+_(int, int) -> int", lambda a, b: int64(a + b)),
        ("_+_(uint, uint) -> uint", lambda a, b: uint64(int(a) + int(b))),
        ("_+_(double, double) -> double", lambda a, b: a + b),
        ("_+_(string, string) -> string", join_text),
        ("_+_(bytes, bytes) -> bytes", join_text),
        ("_+_(list(A), list(A)) -> list(A)", join_lists),
        ("_+_(timestamp, duration) -> timestamp", lambda a, b: Timestamp(a.ns + b.ns)),
        ("_+_(duration, timestamp) -> timestamp", lambda a, b: Timestamp(a.ns + b.ns)),
        ("_+_(duration, duration) -> duration", lambda a, b: Duration(a.ns + b.ns)),
        ("_-_(int, int) -> int", lambda a, b: int64(a - b)),
        ("_-_(uint, uint) -> uint", uint_difference),
        ("_-_(double, double) -> double", lambda a, b: a - b),
        ("_-_(timestamp, timestamp) -> duration", lambda a, b: Duration(a.ns - b.ns)),
        ("_-_(timestamp, duration) -> timestamp", lambda a, b: Timestamp(a.ns - b.ns)),
        ("_-_(duration, duration) -> duration", lambda a, b: Duration(a.ns - b.ns)),
        ("_*_(int, int) -> int", lambda a, b: int64(a * b)),
        ("_*_(uint, uint) -> uint", lambda a, b: uint64(int(a) * int(b))),
        ("_*_(double, double) -> double", lambda a, b: a * b),
        ("_/_(int, int) -> int", lambda a, b: int64(toward_zero(a, _nonzero(b)))),
        ("_/_(uint, uint) -> uint", lambda a, b: UInt(int(a) // _nonzero(int(b)))),
        ("_/_(double, double) -> double", _divide),
        ("_%_(int, int) -> int", _remainder),
        ("_%_(uint, uint) -> uint", lambda a, b: UInt(int(a) % _nonzero(int(b)))),
        ("-_(int) -> int", lambda a: int64(-a)),
        ("-_(double) -> double", lambda a: -a),
    ]


def _relations() -> Library:
    orders = {"_<_": values.less, "_<=_": values.less_equal, "_>_": values.greater, "_>=_": values.greater_equal}
    numbers = ("int", "uint", "double")
    pairs = [(t, t) for t in ("bool", "string", "bytes", "timestamp", "duration")] + [
        (a, b) for a in numbers for b in numbers
    ]
    return [
        ("_==_(A, A) -> bool", values.equal),
        ("_!=_(A, A) -> bool", lambda a, b: not values.equal(a, b)),
        ("@in(A, list(A)) -> bool", values.contains),
        ("@in(A, map(A, B)) -> bool", values.contains),
        ("_[_](list(A), int) -> A", values.index),
        ("_[_](map(A, B), A) -> B", values.index),
        ("_[_](optional_type(list(A)), int) -> optional_type(A)", values.index),
        ("_[_](optional_type(map(A, B)), A) -> optional_type(B)", values.index),
        ("_[?_](list(A), int) -> optional_type(A)", values.optional_index),
        ("_[?_](map(A, B), A) -> optional_type(B)", values.optional_index),
        ("_[?_](optional_type(list(A)), int) -> optional_type(A)", values.optional_index),
        ("_[?_](optional_type(map(A, B)), A) -> optional_type(B)", values.optional_index),
        ("!_(bool) -> bool", lambda a: not a),
        *((f"{name}({a}, {b}) -> bool", call) for name, call in orders.items() for a, b in pairs),
    ]


_CONVERTED = "bool int uint double string bytes timestamp duration"

LIBRARY: Library = [
    *_arithmetic(),
    *_relations(),
    ("type(A) -> type(A)", type_of),
    ("dyn(A) -> dyn", same),
    ("fail() -> dyn", _fail),
    ("fail(string) -> dyn", _fail),
    *((f"{name}({name}) -> {name}", same) for name in _CONVERTED.split()),
    ("int(uint) -> int", lambda v: int64(int(v))),
    ("int(double) -> int", _to_int),
    ("int(string) -> int", _parse_int),
    ("int(timestamp) -> int", lambda v: v.ns // 1_000_000_000),
    ("uint(int) -> uint", uint64),
    ("uint(double) -> uint", lambda v: uint64(truncate(v))),
    ("uint(string) -> uint", _parse_uint),
    ("double(int) -> double", float),
    ("double(uint) -> double", float),
    ("double(string) -> double", _parse_double),
    ("bool(string) -> bool", _parse_bool),
    ("bytes(string) -> bytes", str.encode),
    ("string(bool) -> string", lambda v: "true" if v else "false"),
    ("string(int) -> string", str),
    ("string(uint) -> string", lambda v: str(int(v))),
    ("string(double) -> string", format_double),
    ("string(bytes) -> string", _decode),
    ("string(timestamp) -> string", str),
    ("string(duration) -> string", str),
]
