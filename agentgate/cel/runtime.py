"""What generated functions call: the slow paths, the bookkeeping of absorbed errors, and the way out.

A generated function gives every Python operation the number of its CEL node as line number. So the place of an error
is in its traceback, and costs nothing until there is one. Absorbed errors are kept as notes, not as exceptions: an
exception would hold its frame and with it the request.
"""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType, TracebackType
from typing import Any, Final, NamedTuple, NoReturn

from agentgate.cel.errors import CELError, EvaluationError, Unknown
from agentgate.cel.limits import MAX_WORK
from agentgate.cel.tree import Name, Node, Select, path_of
from agentgate.cel.types import Type
from agentgate.cel.values import (
    KINDS,
    NONE,
    UNKNOWN,
    Fault,
    LimitFault,
    Missing,
    Optional,
    UInt,
    has,
    keys,
    kind,
    map_key,
    no_overload,
    to_python,
)

FILENAME: Final = "<cel>"

# What `&&`, `||`, exists() and all() absorb. A limit is not among it, nor is anything that is no error of the language.
ABSORBED: Final = (Fault, Unknown, LookupError, TypeError, ValueError, ArithmeticError, AttributeError)
CAUGHT: Final = (*ABSORBED, RecursionError, MemoryError)
# Results that are what they are: no part of them can be a wrapped key or UNKNOWN.
PLAIN: Final = frozenset({bool, int, UInt, float, str, bytes, type(None), Type})
SIZED: Final = frozenset({str, bytes, list, dict})

_REASONS: dict[type, tuple[str, str]] = {
    KeyError: ("no_such_key", "no such key"),
    AttributeError: ("no_such_field", "no such field"),
    TypeError: ("no_overload", "no such overload"),
    UnicodeError: ("conversion", "invalid UTF-8"),
    OverflowError: ("overflow", "integer overflow"),
    RecursionError: ("limit", "data nested too deeply"),
    MemoryError: ("limit", "out of memory"),
}


class Note(NamedTuple):
    """What is kept of an absorbed error."""

    unknown: bool
    kind: str
    reason: str
    place: tuple[CodeType | None, int]  # code and instruction: which line that is, is found if somebody asks
    path: str = ""  # which part of what stands there is missing, where a reader told


class Noted(Fault):
    """An absorbed error that turned out to decide the result after all."""

    def __init__(self, note: Note) -> None:
        super().__init__(note.kind, note.reason)
        self.note = note


def note(error: BaseException, earlier: Note | None) -> Note:
    """Keep an error. Of two, an unknown outranks an error, else the earlier stays: the rule of the specification."""
    if isinstance(error, LimitFault):
        raise error
    found = error.note if isinstance(error, Noted) else _note(error)
    return found if earlier is None or (found.unknown and not earlier.unknown) else earlier


def _note(error: BaseException) -> Note:
    if isinstance(error, Fault):
        kind, reason = error.kind, error.reason
    else:
        kind, reason = next(
            (_REASONS[cls] for cls in type(error).__mro__ if cls in _REASONS), ("error", "evaluation failed")
        )
    path = error.path if isinstance(error, Missing) else ""
    return Note(isinstance(error, Unknown), kind, reason, _place(error.__traceback__), path)


def _place(traceback: TracebackType | None) -> tuple[CodeType | None, int]:
    place: tuple[CodeType | None, int] = (None, 0)
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if code.co_filename == FILENAME:
            place = code, traceback.tb_lasti
        traceback = traceback.tb_next
    return place


def _line(code: CodeType | None, instruction: int) -> int:
    lines = () if code is None else code.co_lines()
    return next((line for start, end, line in lines if start <= instruction < end and line), 0)


def failure(error: BaseException, source: str, places: list[Node]) -> CELError:
    """The error that the caller sees. It keeps nothing of the one that was caught: neither its text nor its frames."""
    found = error.note if isinstance(error, Noted) else _note(error)
    if found.unknown:
        return Unknown()
    node = places[_line(*found.place) - 1]
    while found.path and isinstance(node, Select) and path_of(node) != found.path:
        node = node.operand
    reason = found.reason
    if isinstance(node, Name):
        reason = f"no such variable: {node.name!r}"
    elif isinstance(node, Select) and found.kind in ("no_such_key", "no_such_field"):
        reason = f"{reason}: {node.field!r}"  # a word of the policy, not of the request
    return EvaluationError(found.kind, reason, source, node.place.at, node.place.until)


def reraise(noted: Note) -> NoReturn:
    """Raise a noted error."""
    raise Noted(noted)


def not_bool(value: Any) -> NoReturn:
    """An operand of a logical operator is no bool."""
    no_overload(value)


def absent(error: Exception) -> bool:
    """What default() passes over: a missing variable, key or field."""
    return isinstance(error, KeyError | AttributeError) or (
        isinstance(error, Fault) and error.kind in ("no_such_key", "no_such_field")
    )


def failed(error: Exception) -> bool:
    """What coalesce() passes over: every error, but neither what is unknown nor a limit."""
    return not (isinstance(error, LimitFault | Unknown) or (isinstance(error, Noted) and error.note.unknown))


def unknown() -> NoReturn:
    """A field is UNKNOWN."""
    raise Unknown


def over_budget() -> NoReturn:
    """The evaluation has used up its steps (`agentgate.cel.cost`)."""
    raise LimitFault("limit", f"more than {MAX_WORK} steps")


def items(value: Any) -> list[Any]:
    """What a macro with one variable goes over: elements of a list, keys of a map."""
    name = kind(value)
    if name == "map":
        return keys(value)
    if name == "list":
        return list(value)
    no_overload(value)


def pairs(value: Any) -> list[tuple[Any, Any]]:
    """What a macro with two variables goes over: index and element of a list, key and value of a map."""
    name = kind(value)
    if name == "map":
        return [(key, value[map_key(key)]) for key in keys(value)]
    if name == "list":
        return list(enumerate(value))
    no_overload(value)


def map_pairs(value: Any) -> list[tuple[Any, Any]]:
    """The entries of a map, for mapValues() and filterKeys()."""
    return pairs(value) if kind(value) == "map" else no_overload(value)


def single_entry(value: Any) -> tuple[Any, Any]:
    """The only entry of a map, for transformMapEntry()."""
    entries = map_pairs(value)
    if len(entries) != 1:
        raise Fault("argument", "transformMapEntry() needs maps with one entry")
    return entries[0]


def inside(value: Any) -> Any:
    """Whether an optional has a value. Raises Fault for what is no optional."""
    return value.present if value.__class__ is Optional else no_overload(value)


def added(result: list[Any], value: Any) -> None:
    """Put what an optional holds into a list literal."""
    if inside(value):
        result.append(value.value)


def entered(result: list[tuple[Any, Any]], key: Any, value: Any) -> None:
    """The same for an entry of a map literal."""
    if inside(value):
        result.append((key, value.value))


def _attribute(operand: Any, field: str) -> Any:
    """A field of a struct that is no dict; NONE if it is absent. Raises Unknown if it is UNKNOWN."""
    if operand.__class__ in KINDS or operand is UNKNOWN:
        no_overload(operand)
    value = getattr(operand, field, NONE)
    return no_overload(UNKNOWN) if value is UNKNOWN else value


def get_optional(operand: Any, field: str) -> Optional:
    """`operand.?field` of a struct, or `operand.field` of an optional one."""
    if operand.__class__ is Optional:
        return get_optional(operand.value, field) if operand.present else NONE
    if operand.__class__ is dict:
        return Optional(operand[field]) if has(operand, field) else NONE
    value = _attribute(operand, field)
    return NONE if value is NONE else Optional(value)


def has_read(path: str, read: Callable[..., Any], *given: Any) -> bool:
    """`has()` of what a reader reads."""
    try:
        value = read(*given)
    except KeyError:
        return False
    except Missing as missing:
        if missing.path == path:
            return False
        raise
    return value is not UNKNOWN or no_overload(UNKNOWN)


def get_read(path: str, read: Callable[..., Any], *given: Any) -> Optional:
    """`operand.?field` of what a reader reads."""
    return Optional(read(*given)) if has_read(path, read, *given) else NONE


def has_field(operand: Any, field: str) -> bool:
    """`has(operand.field)` of a struct that is no dict."""
    if operand.__class__ is Optional:
        return bool(get_optional(operand, field).present)
    return _attribute(operand, field) is not NONE


def export(value: Any) -> Any:
    """The result as the caller sees it."""
    return value if value.__class__ in PLAIN else to_python(value)
