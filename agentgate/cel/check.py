"""The checker: what every name means and what type every operation has, before anything runs.

All faults of an expression are collected. An operation that is wrong has the type `dyn` from then on, so that one
mistake is told once. Types agree as in the reference checker (`agentgate.cel.types`); what differs is that structs
are closed, and that literals which a function would refuse at run time (a regular expression, a network, a timestamp)
are refused here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from agentgate.cel import macros
from agentgate.cel.errors import Problem, problem
from agentgate.cel.functions import Function
from agentgate.cel.library import REFUSED
from agentgate.cel.library.regex import searcher
from agentgate.cel.tree import Bind, Call, Fallback, ListNode, Literal, Loop, MapNode, Name, Node, Select, walk
from agentgate.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DYN,
    INT,
    NULL,
    STRING,
    TYPE_NAMES,
    UINT,
    ClosedMap,
    Struct,
    Substitution,
    Type,
    list_of,
    map_of,
    optional_of,
)
from agentgate.cel.values import Fault, UInt

_LITERALS = {type(None): NULL, bool: BOOL, int: INT, UInt: UINT, float: DOUBLE, str: STRING, bytes: BYTES}
_KEYS = frozenset({"bool", "int", "uint", "string", "dyn", "param"})
# Conversions that are done once where their argument is a literal.
_FOLDED = frozenset({"cidr", "ip", "timestamp", "duration"})


@dataclass(frozen=True, slots=True)
class Environment:
    """What an expression may name. `variables` None: every name is a variable of type dyn."""

    functions: Mapping[str, Function]
    variables: Mapping[str, Type] | None = None
    container: str = ""
    strict: bool = True
    reasons: Mapping[str, str] = field(default_factory=dict)  # why names and fields that look like ours cannot be had
    readers: Mapping[str, Callable[..., Any]] | None = None  # how declared paths are read, instead of `[name]`

    def candidates(self, name: str, root: bool = False) -> Iterator[str]:
        """The names that `name` may stand for, inside the container: the innermost first."""
        parts = self.container.split(".") if self.container and not root else []
        for count in range(len(parts), -1, -1):
            yield ".".join([*parts[:count], name])


def check(root: Node, source: str, environment: Environment, result: Type | None = None) -> list[Problem]:
    """Set the type and the meaning of every node; the faults found. `result`: the type that the whole must have."""
    checker = _Checker(source, environment)
    found = checker.visit(root)
    if result is not None and not checker.types.assignable(found, result):
        checker.fault(root, f"the expression is {checker.types.resolve(found, DYN)}, not {result}")
    for node in walk(root):
        node.type = checker.types.resolve(node.type, DYN)
    return checker.problems if environment.strict else []


def _path(node: Node | None) -> tuple[Name, str] | None:
    """`a.b.c` as its first name and the whole path; None for anything else."""
    fields: list[str] = []
    while isinstance(node, Select) and not (node.optional or node.indexed or node.test):
        fields.append(node.field)
        node = node.operand
    return (node, ".".join([node.name, *reversed(fields)])) if isinstance(node, Name) else None


def _suggest(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


class _Checker:
    def __init__(self, source: str, environment: Environment) -> None:
        self.source = source
        self.environment = environment
        self.types = Substitution()
        self.problems: list[Problem] = []
        self.scope: dict[str, Type] = {}

    def fault(self, node: Node, message: str) -> Type:
        """A fault of an operation as a whole."""
        self.problems.append(problem(message, self.source, node.place.start, node.place.end))
        return DYN

    def fault_at(self, node: Node, message: str) -> Type:
        """A fault of a name or an operator."""
        self.problems.append(problem(message, self.source, node.place.at, node.place.until))
        return DYN

    def visit(self, node: Node) -> Type:
        node.type = _VISIT[node.__class__](self, node)
        return node.type

    def _resolved(self, node: Node) -> Type:
        return self.types.resolve(self.visit(node))

    def _needs(self, node: Node, wanted: Type, what: str) -> Type:
        found = self.visit(node)
        if not self.types.assignable(found, wanted):
            self.fault(node, f"{what} must be {wanted}, not {self._show(found)}")
        return wanted

    def _show(self, t: Type) -> str:
        return str(self.types.resolve(t, DYN))

    def _inside(self, variables: Mapping[str, Type], visit: Callable[[], Type]) -> Type:
        outer = self.scope
        self.scope = {**outer, **variables}
        try:
            return visit()
        finally:
            self.scope = outer

    # names

    def literal(self, node: Literal) -> Type:
        return _LITERALS[node.value.__class__]

    def _declared(self, name: str, root: bool) -> tuple[str | Type, Type] | None:
        """What a name means, and its type."""
        variables = self.environment.variables or {}
        for candidate in self.environment.candidates(name, root):
            if candidate in variables:
                return candidate, variables[candidate]
            if candidate in TYPE_NAMES:
                return TYPE_NAMES[candidate], Type("type", (TYPE_NAMES[candidate],))
        return None

    def name(self, node: Name) -> Type:
        if not node.root and node.name in self.scope:
            return self.scope[node.name]
        declared = self._declared(node.name, node.root)
        if declared is not None:
            node.ref, found = declared
            return found
        node.ref = node.name
        if node.name in self.environment.reasons:
            self.fault_at(node, f"{node.name} {self.environment.reasons[node.name]}")
        elif self.environment.variables is not None:
            known = [*self.environment.variables, *self.scope]
            self.fault_at(node, f"undeclared name {node.name!r}{_suggest(node.name, known)}")
        return DYN

    def select(self, node: Select) -> Type:
        path = _path(node)
        if path is not None and (path[0].root or path[0].name not in self.scope):
            declared = self._declared(path[1], path[0].root)
            if declared is not None:
                node.ref, found = declared
                return found
        operand = self._resolved(node.operand)
        inner = operand.params[0] if operand.name == "optional_type" else operand
        found = self._field(node, self.types.resolve(inner))
        if node.test:
            return BOOL
        return optional_of(found) if node.optional or inner is not operand else found

    def _field(self, node: Select, operand: Type) -> Type:
        if isinstance(operand, Struct | ClosedMap):
            if node.field in operand.fields:
                return operand.fields[node.field]
            name = operand.name if isinstance(operand, Struct) else operand.label
            reason = self.environment.reasons.get(f"{name}.{node.field}")
            if reason is not None:
                return self.fault_at(node, f"{name}.{node.field} {reason}")
            return self.fault_at(
                node, f"undefined field {node.field!r} in {name!r}{_suggest(node.field, operand.fields)}"
            )
        if operand.name == "map" and self.types.assignable(STRING, operand.params[0]):
            return operand.params[1]
        if operand.name in ("dyn", "param"):
            return DYN
        return self.fault_at(node, f"{self._show(operand)} has no field {node.field!r}")

    # calls

    def call(self, node: Call) -> Type:
        special = _SPECIAL.get(node.function)
        if special is not None:
            return special(self, node)
        function, name = self._function(node)
        given = [self.visit(argument) for argument in ([node.target] if node.target else []) + node.args]
        reason = REFUSED.get(f"<>.{name}" if node.target is not None else name)
        if reason is not None and not (function and function.select(node.target is not None, len(given))):
            return self.fault_at(node, f"{name}() {reason}")
        if function is None:
            if name in macros.NAMES:
                return self.fault_at(node, f"the macro {name!r} takes other arguments")
            known = [f for f in self.environment.functions if f[0].isalpha() and "@" not in f]
            return self.fault_at(node, f"undeclared function {name!r}{_suggest(name, [*known, *macros.NAMES])}")
        node.function = function.name
        result = self._overload(node, function, given)
        self._fold(node, function)
        return result

    def _function(self, node: Call) -> tuple[Function | None, str]:
        """The function that is called; for `math.abs(x)` the target turns out to be its namespace."""
        functions = self.environment.functions
        path = _path(node.target)
        if path is not None and (path[0].root or path[0].name not in self.scope):
            name = f"{path[1]}.{node.function}"
            for candidate in self.environment.candidates(name, path[0].root):
                if candidate in functions:
                    node.target = None
                    return functions[candidate], candidate
            namespaces = {known.rpartition(".")[0] for known in functions}
            declared = self.environment.variables is None or self._declared(path[1], path[0].root) is not None
            if path[1] in namespaces and not declared:
                node.target = None
                return None, name
        if node.target is not None:
            return functions.get(node.function), node.function
        found = (functions.get(candidate) for candidate in self.environment.candidates(node.function, node.root))
        return next((f for f in found if f is not None), None), node.function

    def _overload(self, node: Call, function: Function, given: list[Type]) -> Type:
        result: Type | None = None
        for overload in function.select(node.target is not None, len(given)):
            names: dict[Type, Type] = {}
            params = self.types.instantiate(overload.params, names)
            if self.types.assignable_all(given, params):
                (found,) = self.types.instantiate((overload.result,), names)
                found = self.types.resolve(found)
                result = found if result is None or result == found else DYN
        if result is not None:
            return result
        shown = ", ".join(map(self._show, given[1:] if node.target else given))
        what = f"{function.name.strip('_@')!r}"
        on = f" of {self._show(given[0])}" if node.target else ""
        return self.fault_at(node, f"no overload of {what}{on} for ({shown})")

    def _fold(self, node: Call, function: Function) -> None:
        """Do now what depends on literals alone; a literal that is refused is a fault of the expression."""
        last = node.args[-1] if node.args else None
        if not isinstance(last, Literal):
            return
        text: Any = last.value
        try:
            if function.name == "matches" and isinstance(text, str):
                node.folded = searcher(text)
            elif function.name == "regexReplace" and isinstance(node.args[0], Literal):
                searcher(str(node.args[0].value))
            elif function.name in _FOLDED and node.target is None and len(node.args) == 1:
                node.folded = function.plain(text)
        except Fault as fault:
            if fault.kind != "no_overload":
                self.fault(last, fault.reason)

    def logic(self, node: Call) -> Type:
        for operand in node.args:
            self._needs(operand, BOOL, f"an operand of {node.function.strip('_')}")
        return BOOL

    def condition(self, node: Call) -> Type:
        test, yes, no = node.args
        self._needs(test, BOOL, "a condition")
        a, b = self.visit(yes), self.visit(no)
        joined = self.types.join(a, b)
        return joined or self.fault(node, f"the branches of ?: differ: {self._show(a)} and {self._show(b)}")

    # collections

    def _joined(self, nodes: Iterable[Node], optional: Iterable[bool]) -> Type:
        """The type of all elements: the most general, dyn if they do not agree, a variable if there are none."""
        result: Type | None = None
        for node, marked in zip(nodes, optional, strict=True):
            found = self.visit(node)
            if marked:
                inner = self.types.fresh()
                if not self.types.assignable(found, optional_of(inner)):
                    self.fault(node, f"an element marked with ? must be optional, not {self._show(found)}")
                found = inner
            result = found if result is None else self.types.join(result, found) or DYN
        return self.types.fresh() if result is None else result

    def list_literal(self, node: ListNode) -> Type:
        return list_of(self._joined(node.items, [position in node.optional for position in range(len(node.items))]))

    def map_literal(self, node: MapNode) -> Type:
        keys = [key for key, _ in node.entries]
        key_type = self._joined(keys, [False] * len(keys))
        for key in keys:
            if self.types.resolve(key.type).name not in _KEYS:
                self.fault(key, f"{self._show(key.type)} cannot be a key of a map")
        marked = [position in node.optional for position in range(len(keys))]
        return map_of(key_type, self._joined([value for _, value in node.entries], marked))

    # macros

    def loop(self, node: Loop) -> Type:
        over = self._resolved(node.range)
        wanted = ("map",) if node.kind in ("mapValues", "filterKeys") else ("map", "list")
        if over.name not in (*wanted, "dyn", "param"):
            self.fault_at(node, f"{node.kind}() cannot go over {self._show(over)}")
        first, second = (
            over.params if over.name == "map" else (INT, over.params[0]) if over.name == "list" else (DYN, DYN)
        )
        if node.kind == "mapValues":
            types = [second]
        elif len(node.variables) == 1:
            types = [first if over.name == "map" else second]
        else:
            types = [first, second]
        variables = dict(zip(node.variables, types, strict=False))
        if node.guard is not None:
            guard = node.guard
            self._inside(variables, lambda: self._needs(guard, BOOL, "a condition"))
        if node.kind in ("all", "exists", "exists_one", "filter", "filterKeys"):
            self._inside(variables, lambda: self._needs(node.body, BOOL, f"the predicate of {node.kind}()"))
            return {"filter": list_of(types[0]), "filterKeys": over}.get(node.kind, BOOL)
        body = self._inside(variables, lambda: self.visit(node.body))
        if node.kind == "transformMapEntry":
            if self.types.resolve(body).name not in ("map", "dyn", "param"):
                self.fault(node.body, f"the result of {node.kind}() must be a map, not {self._show(body)}")
            return body
        return map_of(first, body) if node.kind in ("transformMap", "mapValues") else list_of(body)

    def bind(self, node: Bind) -> Type:
        value = self.visit(node.value)
        if node.kind != "bind":
            inner = self.types.fresh()
            if not self.types.assignable(value, optional_of(inner)):
                self.fault(node.value, f"{node.kind}() needs an optional, not {self._show(value)}")
            value = inner
        body = self._inside({node.variable: value}, lambda: self.visit(node.body))
        if node.kind == "optFlatMap" and not self.types.assignable(body, optional_of(self.types.fresh())):
            self.fault(node.body, f"the result of optFlatMap() must be optional, not {self._show(body)}")
        return optional_of(body) if node.kind == "optMap" else body

    def fallback(self, node: Fallback) -> Type:
        return self._joined(node.operands, [False] * len(node.operands))


_VISIT: dict[type, Callable[[_Checker, Any], Type]] = {
    Literal: _Checker.literal,
    Name: _Checker.name,
    Select: _Checker.select,
    Call: _Checker.call,
    ListNode: _Checker.list_literal,
    MapNode: _Checker.map_literal,
    Loop: _Checker.loop,
    Bind: _Checker.bind,
    Fallback: _Checker.fallback,
}
_SPECIAL: dict[str, Callable[[_Checker, Call], Type]] = {
    "_&&_": _Checker.logic,
    "_||_": _Checker.logic,
    "_?_:_": _Checker.condition,
}
