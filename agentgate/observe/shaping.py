"""What one AccessLog does differently: which lines it writes, what it adds to them, and what it leaves out.

Expressions are compiled when the log is built, and every fault is told at once. When one fails on a request, its field
is left out; a filter that fails has the line written, as it is better seen once too often.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from agentgate import cel

from ..decision import Reason
from ..errors import ConfigurationError
from ..record import Record
from .fields import FIELDS, shadow_denials
from .values import loggable, text_of
from .variables import Flat, compiled

MAX_ADDED: Final = 64  # as agentgateway's documents allow
MAX_NAME: Final = 128  # characters
_MAX_FLAT: Final = 64  # fields that one flatten() makes: claims are as many as an issuer likes

_RESERVED: Final = frozenset({"level", "time", "scope", "replay"})
_NAME: Final = re.compile(r"[!#-<>-~]+").fullmatch
_NO_NAME: Final = re.compile(r"[^!#-<>-~]")

Value = Any  # as JSON has it


class Shape:
    """`filter` says which lines are written, `add` are further fields, `remove` are fields that are left out.

    A line is written, whatever the filter says, where the request was refused or went wrong, and where a shadow policy
    would have refused it.
    """

    def __init__(self, filter: str | None, add: Mapping[str, str], remove: Collection[str]) -> None:
        faults: list[str] = []
        self._filter = None if filter is None else _expression("filter", filter, "bool", faults)
        self._add = [
            (name, expression.evaluate)
            for name, text in _pairs(add, faults)
            if (expression := _expression(f"add {name}", text, None, faults)) is not None
        ]
        self._remove = frozenset(_removed(remove, add, faults))
        if faults:
            raise ConfigurationError(faults)

    def drops(self, record: Record) -> bool:
        """Whether the filter says that this request needs no line."""
        if self._filter is None or must_be_logged(record):
            return False
        try:
            return self._filter.evaluate(record) is False
        except Exception:  # of an expression, over what clients send: it says nothing, so the line is written
            return False

    def shape(self, fields: dict[str, Value], record: Record) -> dict[str, Value]:
        """The fields without those to leave out, and then those to add."""
        for name in self._remove:
            fields.pop(name, None)
        for name, evaluate in self._add:
            try:
                value = evaluate(record)
                added = {name: value} if not isinstance(value, Flat) else self._flattened(name, value, fields)
                found = {key: loggable(one) for key, one in added.items() if one is not None}
            except Exception:  # as above: the field is left out
                continue
            for key in found:
                fields.pop(key, None)  # one that is there moves to the end, as in agentgateway
            fields |= found
        return fields

    def _flattened(self, name: str, flat: Flat, fields: Mapping[str, Value]) -> dict[str, Value]:
        """Entries by names that are none yet: what a token says takes the place of nothing that the log says."""
        found: dict[str, Value] = {}
        for key, value in _entries(name, flat, flat.deep):
            if len(found) == _MAX_FLAT:
                break
            if key not in fields and key not in FIELDS and key not in self._remove:
                found[key] = value
        return found


def must_be_logged(record: Record) -> bool:
    """Whether a request was refused, or went wrong, or a shadow policy would have refused it: no filter drops its line.
    A client that goes away in the middle of an answer is none of these."""
    status = record.status
    return (
        (record.reason is not None and record.reason is not Reason.DIRECT_RESPONSE)
        or status is None
        or status in (401, 403, 429)
        or status >= 500
        or bool(shadow_denials(record))
    )


def _entries(name: str, entries: Mapping[Any, Value], deep: bool) -> Iterator[tuple[str, Value]]:
    for key, value in entries.items():
        within = f"{name}.{_NO_NAME.sub('_', text_of(key))}"[:MAX_NAME]
        if deep and isinstance(value, Mapping):
            yield from _entries(within, value, deep)
        else:
            yield within, value


def _expression(place: str, text: object, result: str | None, faults: list[str]) -> cel.Expression | None:
    if not isinstance(text, str):
        faults.append(f"{place}: an expression is text, not {type(text).__name__}")
        return None
    try:
        expression = compiled(text, result)
    except cel.CompileError as error:
        faults += [f"{place}: {problem}" for problem in error.problems]
        return None
    if isinstance(expression.type, cel.Struct):
        faults.append(f"{place}: {text} is not one value: name a field of it")
    return expression


def _pairs(add: object, faults: list[str]) -> list[tuple[str, str]]:
    if not isinstance(add, Mapping):
        faults.append(f"add is a mapping from names of fields to expressions, not {type(add).__name__}")
        return []
    if len(add) > MAX_ADDED:
        faults.append(f"add: {len(add)} fields are more than {MAX_ADDED}")
    found = []
    for name, text in add.items():
        if not isinstance(name, str) or not _NAME(name) or len(name) > MAX_NAME:
            faults.append(f"add: the name of a field is visible ASCII without quotes and equals signs, not {name!r}")
        elif name in _RESERVED:
            faults.append(f"add {name}: the line has its own {name}")
        else:
            found.append((name, text))
    return found


def _removed(remove: object, add: object, faults: list[str]) -> list[str]:
    if not isinstance(remove, Collection) or isinstance(remove, str | bytes):
        faults.append(f"remove is a list of names of fields, not {type(remove).__name__}")
        return []
    own = tuple(f"{name}." for name in add) if isinstance(add, Mapping) else ()  # those that flatten() may make
    found = []
    for name in remove:
        if not isinstance(name, str) or not (name in FIELDS or name.startswith(own)):
            faults.append(f"remove: the log has no field {name!r}")
        else:
            found.append(name)
    return found
