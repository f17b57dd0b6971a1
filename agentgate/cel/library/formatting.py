"""`format` of the strings extension: `%s %d %b %o %x %X %f %e %%`, with a precision for `%f` and `%e`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import Any

from agentgate.cel.functions import Library
from agentgate.cel.library.core import bounded, format_double
from agentgate.cel.limits import MAX_STRING
from agentgate.cel.values import Fault, LimitFault, UInt, keys, kind, map_key

_CLAUSE = re.compile(r"%(?:(%)|(?:\.([0-9]{1,3}))?([sdboxXfe])|())")
_MAX_NESTING = 32


def _text(value: Any, depth: int = _MAX_NESTING) -> str:
    """`%s`: strings as they are, lists and maps with theirs inside, maps in the order of the text of their keys."""
    if depth < 0:
        raise LimitFault("limit", "value nested too deeply to be formatted")
    name = kind(value)
    if name == "list":
        return f"[{', '.join(_bounded_parts(_text(v, depth - 1) for v in value))}]"
    if name == "map":
        items = sorted((_text(key), key) for key in keys(value))
        parts = (f"{text}: {_text(value[map_key(key)], depth - 1)}" for text, key in items)
        return f"{{{', '.join(_bounded_parts(parts))}}}"
    if name not in _TEXT:
        raise Fault("format", "%s cannot show a value of this type")
    return _TEXT[name](value)


def _bounded_parts(parts: Iterator[str]) -> Iterator[str]:
    total = 0
    for part in parts:
        total += len(part)
        if total > MAX_STRING:
            raise LimitFault("limit", f"string longer than {MAX_STRING}")
        yield part


def _bytes(value: bytes) -> str:
    return value.decode(errors="replace")


_TEXT: dict[str, Callable[[Any], str]] = {
    "string": str,
    "bytes": _bytes,
    "bool": lambda v: "true" if v else "false",
    "null_type": lambda v: "null",
    "int": str,
    "uint": lambda v: str(int(v)),
    "double": format_double,
    "type": str,
    "google.protobuf.Timestamp": str,
    "google.protobuf.Duration": str,
}


def _integer(value: Any) -> int:
    if value.__class__ is not int and value.__class__ is not UInt:
        raise Fault("format", "this clause needs an integer")
    return int(value)


def _decimal(value: Any, _: str | None) -> str:
    if value.__class__ is float:
        if math.isfinite(value):
            raise Fault("format", "%d needs an integer")
        return format_double(value)
    return str(_integer(value))


def _binary(value: Any, _: str | None) -> str:
    return str(int(value)) if value.__class__ is bool else format(_integer(value), "b")


def _hexadecimal(value: Any, _: str | None) -> str:
    if value.__class__ is str:
        return value.encode().hex()
    return value.hex() if value.__class__ is bytes else format(_integer(value), "x")


def _floating(letter: str) -> Callable[[Any, str | None], str]:
    def clause(value: Any, precision: str | None) -> str:
        number = value if value.__class__ is float else float(_integer(value))
        if not math.isfinite(number):
            return format_double(number)
        return format(number, f".{precision or 6}{letter}")

    return clause


_CLAUSES: dict[str, Callable[[Any, str | None], str]] = {
    "s": lambda v, _: _text(v),
    "d": _decimal,
    "b": _binary,
    "o": lambda v, _: format(_integer(v), "o"),
    "x": _hexadecimal,
    "X": lambda v, _: _hexadecimal(v, None).upper(),
    "f": _floating("f"),
    "e": _floating("e"),
}


def _format(template: str, arguments: Any) -> str:
    rest = iter(arguments)

    def replace(match: re.Match[str]) -> str:
        percent, precision, letter, unknown = match.groups()
        if percent:
            return "%"
        if unknown is not None or (precision and letter not in "fe"):
            raise Fault("format", "unknown formatting clause")
        for argument in rest:
            return _CLAUSES[letter](argument, precision)
        raise Fault("format", "fewer arguments than formatting clauses")

    return str(bounded("".join(_bounded_parts(_pieces(template, replace)))))


def _pieces(template: str, replace: Callable[[re.Match[str]], str]) -> Iterator[str]:
    end = 0
    for match in _CLAUSE.finditer(template):
        yield template[end : match.start()]
        yield replace(match)
        end = match.end()
    yield template[end:]


LIBRARY: Library = [("<string>.format(list(dyn)) -> string", _format)]
