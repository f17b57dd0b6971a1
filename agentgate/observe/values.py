"""What an expression gives, as a value of the log: one that JSON has, and never a large one."""

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from agentgate import cel

from .fields import CUT, MAX_VALUE

MAX_DEPTH: Final = 16


class NotLoggable(Exception):
    """A value that has no form in JSON."""


def loggable(value: Any) -> Any:
    """Text, number, bool, list or map, as JSON has them: times and durations as text, bytes in base64. A text is cut
    after `MAX_VALUE` characters, a list or map after as many in all; each says so with `...`. Raises `NotLoggable`."""
    return _within(value, [MAX_VALUE], MAX_DEPTH)


def text_of(key: Any) -> str:
    """A key of a map, as JSON has it."""
    return key if key.__class__ is str else str(getattr(key, "value", key)).lower()


def _within(value: Any, left: list[int], depth: int) -> Any:
    cls = value.__class__
    if cls is str:
        return _text(value, left)
    if cls is bool or value is None:
        left[0] -= 5
        return value
    if cls is int or cls is cel.UInt:
        left[0] -= len(str(int(value)))
        return int(value)
    if cls is float:
        left[0] -= 8
        return value if math.isfinite(value) else str(value)
    if cls is bytes:
        return _text(base64.b64encode(value[:MAX_VALUE]).decode(), left)
    if cls is cel.Timestamp or cls is cel.Duration or cls is cel.Type:
        return _text(str(value), left)
    if cls is cel.Optional and value.present:
        return _within(value.value, left, depth)
    if depth == 0:
        return CUT
    if isinstance(value, Mapping):
        return _map(value, left, depth - 1)
    if isinstance(value, Sequence):
        return _list(value, left, depth - 1)
    raise NotLoggable


def _text(value: str, left: list[int]) -> str:
    room = max(left[0], 0)
    left[0] -= len(value) + 3  # quotes and a comma
    return value if len(value) <= room else value[:room] + CUT


def _list(value: Sequence[Any], left: list[int], depth: int) -> list[Any]:
    found: list[Any] = []
    for element in value:
        if left[0] <= 0:
            found.append(CUT)
            break
        found.append(_within(element, left, depth))
    return found


def _map(value: Mapping[Any, Any], left: list[int], depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, element in value.items():
        if left[0] <= 0:
            found[CUT] = CUT
            break
        name = _text(text_of(key), left)
        found[name] = _within(element, left, depth)
    return found
