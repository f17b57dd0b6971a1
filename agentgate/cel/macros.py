"""Macros: calls that are syntax, because they name a variable or do not always evaluate their arguments.

One table: the form (a member or a function with its namespace), the number of arguments, and what to build. A call
that has the name of a macro but not its form is an ordinary call, and the checker says that there is no such
function.
"""

from __future__ import annotations

from collections.abc import Callable

from agentgate.cel.tree import Bind, Call, Fallback, ListNode, Loop, Name, Node, Select

Fault = Callable[[str, Node], None]


def expand(call: Call, fault: Fault) -> Node:
    """The node of a macro, or the call itself if it is none. `fault` is told of a bad use of one."""
    namespace = call.target
    if isinstance(namespace, Name) and not namespace.root:
        build = _NAMESPACED.get((f"{namespace.name}.{call.function}", len(call.args))) or _VARIADIC.get(
            f"{namespace.name}.{call.function}"
        )
        if build is not None:
            return build(call, fault)
    table = _FUNCTIONS if call.target is None else _MEMBERS
    build = table.get((call.function, len(call.args)))
    if build is None and call.target is None:
        build = _VARIADIC.get(call.function)
    return build(call, fault) if build is not None else call


def _variables(names: list[Node], fault: Fault) -> list[str]:
    found = []
    for node in names:
        if not isinstance(node, Name) or node.root:
            fault("the name of a variable is expected here", node)
        elif node.name in found:
            fault(f"variable {node.name!r} is named twice", node)
        else:
            found.append(node.name)
    return found


def _loop(kind: str, count: int, guarded: bool = False) -> Callable[[Call, Fault], Node]:
    def build(call: Call, fault: Fault) -> Node:
        assert call.target is not None
        names = _variables(call.args[:count], fault)
        rest = call.args[count:]
        return Loop(call.place, kind, call.target, names, rest[-1], rest[0] if guarded else None)

    return build


def _bind(kind: str) -> Callable[[Call, Fault], Node]:
    def build(call: Call, fault: Fault) -> Node:
        name, *values, body = call.args
        value = values[0] if values else call.target
        assert value is not None
        return Bind(call.place, kind, "".join(_variables([name], fault)), value, body)

    return build


def _has(call: Call, fault: Fault) -> Node:
    argument = call.args[0]
    if isinstance(argument, Select) and not argument.optional and not argument.indexed:
        argument.test = True
        argument.place = argument.place._replace(start=call.place.start, end=call.place.end)
    else:
        fault("has() asks for a field: has(a.b)", call)
    return argument


def _fallback(call: Call, fault: Fault) -> Node:
    if not call.args:
        fault(f"{call.function}() needs an argument", call)
    return Fallback(call.place, call.function, call.args)


def _extreme(function: str) -> Callable[[Call, Fault], Node]:
    def build(call: Call, fault: Fault) -> Node:
        if not call.args:
            fault(f"{call.function}() needs an argument", call)
        arguments: list[Node] = call.args if len(call.args) == 1 else [ListNode(call.place, call.args)]
        return Call(call.place, function, arguments)

    return build


Build = Callable[[Call, Fault], Node]

_MEMBERS: dict[tuple[str, int], Build] = {
    **{(kind, 2): _loop(kind, 1) for kind in ("all", "exists", "exists_one", "map", "filter")},
    **{
        (kind, 3): _loop(kind, 2)
        for kind in ("all", "exists", "exists_one", "transformList", "transformMap", "transformMapEntry")
    },
    **{(kind, 4): _loop(kind, 2, guarded=True) for kind in ("transformList", "transformMap", "transformMapEntry")},
    ("existsOne", 2): _loop("exists_one", 1),
    ("existsOne", 3): _loop("exists_one", 2),
    ("map", 3): _loop("map", 1, guarded=True),
    ("mapValues", 2): _loop("mapValues", 1),
    ("filterKeys", 2): _loop("filterKeys", 1),
    ("with", 2): _bind("bind"),
    ("optMap", 2): _bind("optMap"),
    ("optFlatMap", 2): _bind("optFlatMap"),
}
_FUNCTIONS: dict[tuple[str, int], Build] = {("has", 1): _has, ("default", 2): _fallback}
_NAMESPACED: dict[tuple[str, int], Build] = {("cel.bind", 3): _bind("bind")}
_VARIADIC: dict[str, Build] = {
    "coalesce": _fallback,
    "math.greatest": _extreme("math.@max"),
    "math.least": _extreme("math.@min"),
    "max": _extreme("math.@max"),
    "min": _extreme("math.@min"),
}

NAMES = frozenset({name for name, _ in (*_MEMBERS, *_FUNCTIONS, *_NAMESPACED)} | set(_VARIADIC))
"""Every macro, for suggestions."""
