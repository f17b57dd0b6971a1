"""The math extension. `math.greatest(a, b, ...)` and `math.least` become one list before they get here."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from agentgate.cel import values
from agentgate.cel.functions import Library
from agentgate.cel.library.core import int64
from agentgate.cel.values import INT_MAX, NUMBERS, UINT_MAX, Fault, UInt, no_overload


def _rounded(how: Callable[[float], float]) -> Callable[[float], float]:
    # NaN, infinities and the sign of zero pass through; Python's own rounding makes integers and would refuse them.
    return lambda v: math.copysign(how(v), v) if math.isfinite(v) else v


def _half_away(value: float) -> float:
    whole, fraction = float(math.trunc(value)), abs(math.fmod(value, 1))
    return whole + math.copysign(1, value) if fraction >= 0.5 else whole


def _sign(value: float) -> float:
    return value if value == 0 or math.isnan(value) else math.copysign(1.0, value)


def _signed(value: int) -> int:
    """64 bits as a signed integer."""
    value &= UINT_MAX
    return value if value <= INT_MAX else value - UINT_MAX - 1


def _shift(value: int, by: int, left: bool) -> int:
    if by < 0:
        raise Fault("argument", "shift by a negative number")
    if by > 63:
        return 0
    return (value << by if left else (value & UINT_MAX) >> by) & UINT_MAX


def _extreme(better: Callable[[Any, Any], bool]) -> Callable[[Any], Any]:
    def extreme(items: Any) -> Any:
        if not items:
            raise Fault("argument", "the list is empty")
        best = items[0]
        for item in items:
            if item.__class__ not in NUMBERS:
                no_overload(item)
            if better(item, best):
                best = item
        return best

    return extreme


def _extremes(name: str, better: Callable[[Any, Any], bool]) -> Library:
    number: Callable[[Any], Any] = lambda v: v  # noqa: E731
    many = _extreme(better)
    return [
        *((f"{name}({t}) -> {t}", number) for t in ("int", "uint", "double")),
        *((f"{name}(list({t})) -> {t}", many) for t in ("int", "uint", "double")),
    ]


def _bitwise(name: str, how: Callable[[int, int], int]) -> Library:
    return [
        (f"math.{name}(int, int) -> int", how),
        (f"math.{name}(uint, uint) -> uint", lambda a, b: UInt(how(int(a), int(b)))),
    ]


LIBRARY: Library = [
    *_extremes("math.@max", values.greater),
    *_extremes("math.@min", values.less),
    ("math.abs(int) -> int", lambda v: int64(abs(v))),
    ("math.abs(uint) -> uint", lambda v: v),
    ("math.abs(double) -> double", abs),
    ("math.sign(int) -> int", lambda v: (v > 0) - (v < 0)),
    ("math.sign(uint) -> uint", lambda v: UInt(v > 0)),
    ("math.sign(double) -> double", _sign),
    ("math.ceil(double) -> double", _rounded(math.ceil)),
    ("math.floor(double) -> double", _rounded(math.floor)),
    ("math.round(double) -> double", _rounded(_half_away)),
    ("math.trunc(double) -> double", _rounded(math.trunc)),
    *(
        (f"math.sqrt({t}) -> double", lambda v: math.sqrt(v) if not v < 0 else math.nan)
        for t in ("int", "uint", "double")
    ),
    ("math.isNaN(double) -> bool", math.isnan),
    ("math.isInf(double) -> bool", math.isinf),
    ("math.isFinite(double) -> bool", math.isfinite),
    *_bitwise("bitAnd", int.__and__),
    *_bitwise("bitOr", int.__or__),
    *_bitwise("bitXor", int.__xor__),
    ("math.bitNot(int) -> int", int.__invert__),
    ("math.bitNot(uint) -> uint", lambda v: UInt(UINT_MAX - v)),
    ("math.bitShiftLeft(int, int) -> int", lambda v, by: _signed(_shift(v, by, left=True))),
    ("math.bitShiftLeft(uint, int) -> uint", lambda v, by: UInt(_shift(int(v), by, left=True))),
    ("math.bitShiftRight(int, int) -> int", lambda v, by: _signed(_shift(v, by, left=False))),
    ("math.bitShiftRight(uint, int) -> uint", lambda v, by: UInt(_shift(int(v), by, left=False))),
]
