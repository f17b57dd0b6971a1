"""Text -> tree: cel-python's parser, guarded.

Only the grammar of cel-python is used, and of what it offers only the LALR table: its environment, its classes and
its runners are left alone. The parser is made once, when the first expression is compiled, and shared under one lock;
the class attribute in which cel-python keeps its own is put back as it was found. Its trees are a dozen levels deep
per bracket; what comes out here is one node per operation, with offsets into the source.
"""

from __future__ import annotations

import sys
from threading import Lock
from typing import TYPE_CHECKING, Any

from agentgate.cel.errors import ParseError, problem
from agentgate.cel.limits import MAX_DEPTH
from agentgate.cel.macros import expand
from agentgate.cel.scan import RESERVED, Scanned, scan
from agentgate.cel.tree import Call, ListNode, Literal, MapNode, Name, Node, Place, Select
from agentgate.cel.values import INT_MAX

if TYPE_CHECKING:
    from lark import Lark


_lock = Lock()
_parser: Lark | None = None


def parse(source: str) -> Node:
    """The tree, macros expanded. Raises ParseError with every fault that the text alone can tell."""
    scanned = scan(source)
    builder = _Builder(source, scanned)
    root = builder.build(_lark_tree(source, scanned), 0)
    builder.finish()
    return root


def _lark_tree(source: str, scanned: Scanned) -> Any:
    global _parser
    with _lock:
        if _parser is None:
            _parser = _new_parser()
        from lark.exceptions import UnexpectedInput

        try:
            return _parser.parse(scanned.text)
        except UnexpectedInput as error:
            token = getattr(error, "token", None)
            at_end = token is not None and token.type == "$END"
            start = len(source.rstrip()) if at_end else error.pos_in_stream or 0
            end = start + (len(token) if token is not None and not at_end else 1)
            start, end, _ = scanned.literals.get(start, (start, end, None))
            message = "unexpected end of the expression" if at_end else "unexpected token"
            raise ParseError([problem(message, source, start, end)]) from None


def _new_parser() -> Lark:
    limit = sys.getrecursionlimit()
    from celpy.celparser import CELParser

    found, CELParser.CEL_PARSER = CELParser.CEL_PARSER, None
    try:
        CELParser()
        parser = CELParser.CEL_PARSER
    finally:
        CELParser.CEL_PARSER = found
        sys.setrecursionlimit(limit)
    if parser is None:  # pragma: no cover - a cel-python whose CELParser keeps its grammar elsewhere
        raise RuntimeError("cel-python has no parser")
    return parser


# What operators are called in the tree, as the reference implementation calls them.
_BINARY = {
    f"{rule}_{name}": f"_{sign}_"
    for rule, signs in (
        ("relation", {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}),
        ("addition", {"add": "+", "sub": "-"}),
        ("multiplication", {"mul": "*", "div": "/", "mod": "%"}),
    )
    for name, sign in signs.items()
} | {"relation_in": "@in"}
_CHAINS = {"conditionalor": "_||_", "conditionaland": "_&&_"}


class _Builder:
    """Turns a Lark tree (untyped here) into nodes. Recursion is per operation, so MAX_DEPTH bounds it."""

    def __init__(self, source: str, scanned: Scanned) -> None:
        self.source = source
        self.scanned = scanned
        self.optional = dict(scanned.optional)
        self.problems = [problem(message, source, start, end) for message, start, end in scanned.faults]

    def finish(self) -> None:
        """Raise ParseError if anything was wrong."""
        for mark in self.optional.values():
            self.fault("unexpected `?`", mark, mark + 1)
        if self.problems:
            raise ParseError(self.problems)

    def fault(self, message: str, start: int, end: int) -> None:
        self.problems.append(problem(message, self.source, start, end))

    def _fault_at(self, message: str, node: Node) -> None:
        self.fault(message, node.place.at, node.place.until)

    def _marked(self, offset: int) -> bool:
        return self.optional.pop(offset, None) is not None

    def build(self, tree: Any, depth: int) -> Node:
        while len(tree.children) == 1 and tree.data in _TRANSPARENT:
            tree = tree.children[0]
        if depth > MAX_DEPTH:
            self.fault(f"operations nested deeper than {MAX_DEPTH}", *self._span(tree))
            raise ParseError(self.problems)
        node: Node = getattr(self, f"_{tree.data}")(tree, depth)
        return node

    def _span(self, tree: Any) -> tuple[int, int]:
        start, end = tree.meta.start_pos, tree.meta.end_pos
        literal = self.scanned.literals.get(start)
        return (literal[0] if literal else start), max(end, self.scanned.literals.get(end - 1, (0, end))[1])

    def _place(self, tree: Any, token: Any = None) -> Place:
        start, end = self._span(tree)
        return Place(start, end, start, end) if token is None else Place(start, end, token.start_pos, token.end_pos)

    def _expr(self, tree: Any, depth: int) -> Node:
        return Call(self._place(tree), "_?_:_", self._all(tree.children, depth))

    def _chain(self, tree: Any, depth: int) -> Node:
        """`a && b && c` is nested to the left; its operands are collected without recursion."""
        operands: list[Node] = []
        inner: Any = tree
        while inner.data == tree.data and len(inner.children) == 2:
            operands.append(self.build(inner.children[1], depth + 1))
            inner = inner.children[0]
        operands.append(self.build(inner, depth + 1))
        return Call(self._place(tree), _CHAINS[tree.data], operands[::-1])

    _conditionalor = _conditionaland = _chain

    def _binary(self, tree: Any, depth: int) -> Node:
        left, right = tree.children
        function = _BINARY[left.data]
        until = left.meta.end_pos
        at = until - len(function.strip("_@"))
        if function == "@in" and self.scanned.words.get(at) != until:
            self.fault("unexpected token", at, until)
        place = self._place(tree)._replace(at=at, until=until)
        return Call(place, function, [self.build(left.children[0], depth + 1), self.build(right, depth + 1)])

    _relation = _addition = _multiplication = _binary

    def _unary(self, tree: Any, depth: int) -> Node:
        sign, operand = tree.children
        place = self._place(tree)
        function = "!_" if sign.data == "unary_not" else "-_"
        if function == "-_":
            inner: Any = operand
            while len(inner.children) == 1 and inner.data in _TRANSPARENT and inner.data != "paren_expr":
                inner = inner.children[0]
            value = self.scanned.literals.get(inner.meta.start_pos) if inner.data == "ident" else None
            if value is not None and value[2].__class__ in (int, float):
                return Literal(place, -value[2])  # as one literal: 2^63 alone has no place in 64 bits
        return Call(place._replace(until=place.start + 1), function, [self.build(operand, depth + 1)])

    def _ident(self, tree: Any, depth: int) -> Node:
        token: Any = tree.children[0]
        literal = self.scanned.literals.get(token.start_pos)
        if literal is None:
            return Name(self._place(tree), self._name(token, variable=True))
        start, end, value = literal
        if token.value != "_":
            self.fault("unexpected token", start, end)
        if value.__class__ is int and value > INT_MAX:
            self.fault("integer out of range", start, end)
        return Literal(Place(start, end, start, end), value)

    def _dot_ident(self, tree: Any, depth: int) -> Node:
        token: Any = tree.children[0]
        return Name(self._place(tree), self._name(token, variable=True), root=True)

    def _name(self, token: Any, variable: bool = False) -> str:
        start = token.start_pos
        if start in self.scanned.literals or (start in self.scanned.quoted and (variable or token.value != "_")):
            self.fault("a name is expected here", start, token.end_pos)
        elif variable and token.value in RESERVED:
            self.fault(f"{token.value!r} is a reserved word", start, token.end_pos)
        return self.scanned.quoted.get(start, str(token.value))

    def _member_dot(self, tree: Any, depth: int) -> Node:
        operand, token = tree.children
        optional = self._marked(token.start_pos)
        place = self._place(tree, token)
        if (name := self.scanned.quoted.get(place.at)) is not None:
            end = place.at + len(name) + 1  # with its backticks
            place = Place(place.start, end, place.at - 1, end)
        return Select(place, self.build(operand, depth + 1), self._name(token), optional=optional)

    def _member_dot_arg(self, tree: Any, depth: int) -> Node:
        operand, token, *rest = tree.children
        arguments = self._list(rest, depth)
        place = self._place(tree, token)
        if token.start_pos in self.scanned.quoted:
            self.fault("a name is expected here", place.at, place.until)
        target = self.build(operand, depth + 1)
        return expand(Call(place, self._name(token), arguments, target=target), self._fault_at)

    def _ident_arg(self, tree: Any, depth: int) -> Node:
        token, *rest = tree.children
        arguments = self._list(rest, depth)
        call = Call(self._place(tree, token), self._name(token, variable=True), arguments)
        call.root = tree.data == "dot_ident_arg"
        return expand(call, self._fault_at)

    _dot_ident_arg = _ident_arg

    def _member_index(self, tree: Any, depth: int) -> Node:
        inner, bracket = tree.children
        optional = self._marked(bracket.meta.start_pos)
        operand, index = self.build(inner, depth + 1), self.build(bracket, depth + 1)
        place = self._place(tree)
        if isinstance(index, Literal) and isinstance(index.value, str):
            place = place._replace(at=index.place.start, until=index.place.end)
            return Select(place, operand, index.value, optional=optional, indexed=True)
        place = place._replace(at=self._span(inner)[1])
        return Call(place, "_[?_]" if optional else "_[_]", [operand, index])

    def _member_object(self, tree: Any, depth: int) -> Node:
        self.fault("messages cannot be constructed: there are no message types here", *self._span(tree))
        return Literal(self._place(tree), None)

    def _list_lit(self, tree: Any, depth: int) -> Node:
        node = ListNode(self._place(tree), [])
        for position, item in enumerate(tree.children[0].children if tree.children else ()):
            if self._marked(item.meta.start_pos):
                node.optional.add(position)
            node.items.append(self.build(item, depth + 1))
        return node

    def _map_lit(self, tree: Any, depth: int) -> Node:
        node = MapNode(self._place(tree), [])
        parts: list[Any] = list(tree.children[0].children) if tree.children else []
        for position, (key, value) in enumerate(zip(parts[::2], parts[1::2], strict=True)):
            if self._marked(key.meta.start_pos):
                node.optional.add(position)
            node.entries.append((self.build(key, depth + 1), self.build(value, depth + 1)))
        return node

    def _list(self, rest: list[Any], depth: int) -> list[Node]:
        return self._all(rest[0].children, depth) if rest else []

    def _all(self, trees: Any, depth: int) -> list[Node]:
        return [self.build(tree, depth + 1) for tree in trees]


_RULES = "expr conditionalor conditionaland relation addition multiplication unary member primary paren_expr"
_TRANSPARENT = frozenset(_RULES.split())  # with one child they only stand for it
