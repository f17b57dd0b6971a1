"""The tree of an expression: one node per operation, with offsets into the source. Who reads it dispatches on the
class.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from agentgate.cel.scan import Constant
from agentgate.cel.types import DYN, Type


class Place(NamedTuple):
    """Offsets of an operation: its text, and the part of it that faults point to (a field name, an operator)."""

    start: int
    end: int
    at: int
    until: int


@dataclass(slots=True, eq=False)
class Node:
    """One operation. The checker sets its type."""

    place: Place
    type: Type = field(default=DYN, init=False)


@dataclass(slots=True, eq=False)
class Literal(Node):
    """A constant of the source."""

    value: Constant


@dataclass(slots=True, eq=False)
class Name(Node):
    """A name, with a leading dot if `root`. The checker sets `ref`: a variable, a type, or None for a local."""

    name: str
    root: bool = False
    ref: str | Type | None = None


@dataclass(slots=True, eq=False)
class Select(Node):
    """`operand.field`, `operand.?field`, `operand["field"]` if `indexed`, or `has(operand.field)` if `test`.

    The checker sets `ref` where the whole path is the name of one variable or type.
    """

    operand: Node
    field: str
    optional: bool = False
    indexed: bool = False
    test: bool = False
    ref: str | Type | None = None


@dataclass(slots=True, eq=False)
class Call(Node):
    """A function or an operator (`_+_`, `!_`, `_&&_`, `_?_:_`, `_[_]`). `&&` and `||` have all of their chain."""

    function: str
    args: list[Node]
    target: Node | None = None
    root: bool = False
    folded: Any = (
        None  # set by the checker: the value of `cidr("10.0.0.0/8")` and the like, the matcher of a literal pattern
    )


@dataclass(slots=True, eq=False)
class ListNode(Node):
    """`[a, ?b]`. `optional` holds the positions of the elements marked with `?`."""

    items: list[Node]
    optional: set[int] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class MapNode(Node):
    """`{k: v, ?k: v}`"""

    entries: list[tuple[Node, Node]]
    optional: set[int] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class Loop(Node):
    """A macro over a list or map: `kind` names it, `variables` are one or two, `body` is its predicate or result."""

    kind: str
    range: Node
    variables: list[str]
    body: Node
    guard: Node | None = None


@dataclass(slots=True, eq=False)
class Bind(Node):
    """`cel.bind(name, value, body)`; with `kind` optMap or optFlatMap, over what is inside an optional."""

    kind: str
    variable: str
    value: Node
    body: Node


@dataclass(slots=True, eq=False)
class Fallback(Node):
    """`default(a, b)` and `coalesce(a, b, ...)`: the first operand that can be had."""

    kind: str
    operands: list[Node]


def children(node: Node) -> Iterator[Node]:
    """The operands of a node, in the order of the text."""
    match node:
        case Select(operand=operand):
            yield operand
        case Call(target=target, args=args):
            if target is not None:
                yield target
            yield from args
        case ListNode(items=items):
            yield from items
        case MapNode(entries=entries):
            for entry in entries:
                yield from entry
        case Loop(range=over, guard=guard, body=body):
            yield over
            if guard is not None:
                yield guard
            yield body
        case Bind(value=value, body=body):
            yield value
            yield body
        case Fallback(operands=operands):
            yield from operands


def path_of(node: Node | None) -> str | None:
    """`a.b.c` or `a["b"].c` of a declared variable `a`; None for anything else."""
    fields: list[str] = []
    while isinstance(node, Select) and node.ref is None:
        fields.append(node.field)
        node = node.operand
        if isinstance(node, Select) and node.optional:
            return None
    if isinstance(node, Name | Select) and isinstance(node.ref, str):
        return ".".join([node.ref, *reversed(fields)])
    return None


def walk(root: Node) -> Iterator[Node]:
    """The node and all nodes below it."""
    pending = [root]
    while pending:
        node = pending.pop()
        yield node
        pending.extend(children(node))
