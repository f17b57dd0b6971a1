"""Functions: how they are declared, checked and found at run time.

A function is a table of overloads, and an overload is a line of text with the Python function that does it:

    ("<string>.startsWith(string) -> bool", str.startswith)     a member function: s.startsWith("a")
    ("math.abs(int) -> int", abs)                               a global function, perhaps with a namespace
    ("size(list(A)) -> int", len)                               single capitals are type parameters

The line is read twice: by the checker as types, and at run time as classes, compared exactly. So an implementation
never sees an argument of a type it was not declared for, and none of Python's own conversions can leak into the
language.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from agentgate.cel.errors import Unknown
from agentgate.cel.time import Duration, Timestamp
from agentgate.cel.types import Struct, Type, parse_type
from agentgate.cel.values import KINDS, UNKNOWN, Fault, kind_of, no_overload
from agentgate.errors import ConfigurationError

Implementation = Callable[..., Any]
Library = Sequence[tuple[str, Implementation]]

_SIGNATURE = re.compile(r"(?:<(?P<receiver>.+)>\.)?(?P<name>[^(]+)\((?P<params>.*)\) -> (?P<result>.+)")
_PARAMETER = re.compile(r"(?<!param\()\b[A-Z]\b")
_RUN_TIME_NAME = {"timestamp": KINDS[Timestamp], "duration": KINDS[Duration]}
_CACHE = 256  # combinations of argument classes remembered per function; CEL has a dozen classes, views add few


@dataclass(frozen=True, slots=True)
class Overload:
    """One way to call a function; a member's receiver is its first parameter. Without `call` it is only checked."""

    params: tuple[Type, ...]
    result: Type
    member: bool = False
    call: Implementation | None = None

    def accepts(self, kinds: tuple[str | None, ...]) -> bool:
        """Whether arguments of these run-time types may be passed."""
        return len(kinds) == len(self.params) and all(map(_accepts, self.params, kinds))


def _accepts(param: Type, kind: str | None) -> bool:
    if param.name in ("dyn", "param"):
        return kind is not None
    return isinstance(param, Struct) or _RUN_TIME_NAME.get(param.name, param.name) == kind


class Function:
    """All overloads of one name."""

    def __init__(self, name: str, overloads: Iterable[Overload]) -> None:
        self.name = name
        self.overloads = tuple(overloads)

    def select(self, member: bool, count: int) -> list[Overload]:
        """The overloads for a call of this form."""
        return [o for o in self.overloads if o.member is member and len(o.params) == count]

    @cached_property
    def member(self) -> Implementation:
        """Calls the overload that fits the arguments, the receiver first. Raises Fault if none does."""
        return self._dispatcher([o for o in self.overloads if o.member])

    @cached_property
    def plain(self) -> Implementation:
        """The same for the global form."""
        return self._dispatcher([o for o in self.overloads if not o.member])

    def _dispatcher(self, overloads: list[Overload]) -> Implementation:
        found: dict[tuple[type, ...], Implementation] = {}

        def search(*arguments: Any) -> Implementation:
            classes = tuple([argument.__class__ for argument in arguments])
            implementation = _find(overloads, arguments, classes)
            if len(found) >= _CACHE:
                found.clear()
            found[classes] = implementation
            return implementation

        def call(*arguments: Any) -> Any:
            # Two arguments are the common case, and worth not building a list for.
            if len(arguments) == 2:
                a, b = arguments
                return (found.get((a.__class__, b.__class__)) or search(a, b))(a, b)
            return (found.get(tuple([a.__class__ for a in arguments])) or search(*arguments))(*arguments)

        return call


def _find(overloads: list[Overload], arguments: tuple[Any, ...], classes: tuple[type, ...]) -> Implementation:
    if any(argument is UNKNOWN for argument in arguments):
        no_overload(UNKNOWN)
    kinds = tuple(map(kind_of, classes))
    for overload in overloads:
        if overload.call is not None and overload.accepts(kinds):
            return overload.call
    return no_overload(*arguments)


def overload(signature: str, call: Implementation | None = None) -> tuple[str, Overload]:
    """Read a signature: its name and the overload. Raises ConfigurationError."""
    match = _SIGNATURE.fullmatch(signature)
    if match is None:
        raise ConfigurationError(f"not a signature: {signature!r}")
    types = [t for t in (match["receiver"], *_split(match["params"]), match["result"]) if t]
    *params, result = (parse_type(_PARAMETER.sub(lambda m: f"param({m[0]})", t)) for t in types)
    return match["name"], Overload(tuple(params), result, match["receiver"] is not None, call)


def _split(text: str) -> list[str]:
    """Split at the commas that are outside of brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "({") - (character in ")}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def declare(library: Iterable[tuple[str, Implementation | None]]) -> dict[str, Function]:
    """The functions of a library, by name."""
    overloads: dict[str, list[Overload]] = {}
    for signature, call in library:
        name, one = overload(signature, call)
        overloads.setdefault(name, []).append(one)
    return {name: Function(name, found) for name, found in overloads.items()}


def extend(known: Mapping[str, Function], library: Mapping[str, Implementation | None]) -> dict[str, Function]:
    """The known functions and those of a caller: `{signature: callable}`, tried after the known overloads of the same
    name.

    What a callable raises becomes an evaluation error without its text.
    """
    found = dict(known)
    for name, function in declare((signature, call and _guarded(call)) for signature, call in library.items()).items():
        found[name] = Function(name, (*(known[name].overloads if name in known else ()), *function.overloads))
    return found


def _guarded(call: Implementation) -> Implementation:
    def guarded(*arguments: Any) -> Any:
        try:
            result = call(*arguments)
        except (Fault, Unknown):
            raise
        except Exception:  # not BaseException: a cancelled task stays cancelled
            raise Fault("function", "a custom function failed") from None
        if kind_of(result.__class__) is None:
            raise Fault("function", "a custom function returned no CEL value")
        return result

    return guarded
