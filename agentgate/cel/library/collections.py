"""Sizes, lists, maps and optionals."""

from __future__ import annotations

from typing import Any

from agentgate.cel.functions import Library
from agentgate.cel.limits import MAX_LIST
from agentgate.cel.values import NONE, Fault, LimitFault, Optional, kind

_ZERO: dict[str, Any] = {
    "bool": False,
    "int": 0,
    "uint": 0,
    "double": 0.0,
    "string": "",
    "bytes": b"",
    "null_type": None,
}


def _merge(a: Any, b: Any) -> dict[Any, Any]:
    if len(a) + len(b) > MAX_LIST:
        raise LimitFault("limit", f"map larger than {MAX_LIST}")
    return {**a, **b}


def _flatten(lists: Any, depth: int = 1) -> list[Any]:
    if not 0 <= depth <= 32:
        raise Fault("argument", "flatten depth out of range")
    result: list[Any] = []
    for element in lists:
        result.extend(_flatten(element, depth - 1) if depth and kind(element) == "list" else [element])
        if len(result) > MAX_LIST:
            raise LimitFault("limit", f"list longer than {MAX_LIST}")
    return result


def _is_zero(value: Any) -> bool:
    name = kind(value)
    return len(value) == 0 if name in ("list", "map") else name in _ZERO and bool(value == _ZERO[name])


def _value(o: Optional) -> Any:
    if not o.present:
        raise Fault("optional", "optional.none() has no value")
    return o.value


LIBRARY: Library = [
    *((f"size({t}) -> int", len) for t in ("string", "bytes", "list(A)", "map(A, B)")),
    *((f"<{t}>.size() -> int", len) for t in ("string", "bytes", "list(A)", "map(A, B)")),
    ("<list(A)>.reverse() -> list(A)", lambda items: items[::-1]),
    ("<list(list(A))>.flatten() -> list(A)", _flatten),
    ("<list(dyn)>.flatten(int) -> list(dyn)", _flatten),
    ("<map(A, B)>.merge(map(A, B)) -> map(A, B)", _merge),
    ("optional.of(A) -> optional_type(A)", Optional),
    ("optional.ofNonZeroValue(A) -> optional_type(A)", lambda v: NONE if _is_zero(v) else Optional(v)),
    ("optional.none() -> optional_type(A)", lambda: NONE),
    ("<optional_type(A)>.hasValue() -> bool", lambda o: o.present),
    ("<optional_type(A)>.value() -> A", _value),
    ("<optional_type(A)>.or(optional_type(A)) -> optional_type(A)", lambda o, other: o if o.present else other),
    ("<optional_type(A)>.orValue(A) -> A", lambda o, other: o.value if o.present else other),
]
