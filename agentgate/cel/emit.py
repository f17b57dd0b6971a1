"""Python syntax nodes from templates: what the code generator writes with.

Code is built as nodes, never as text: operands are put into a template in place of its names. Every node that a
template writes gets the number of a CEL node as its line, so a traceback tells which operation failed.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from agentgate.cel import cost, runtime, values
from agentgate.cel.library.regex import pattern_cost
from agentgate.cel.limits import MAX_WORK
from agentgate.cel.tree import Node

Program = Callable[[Any], Any]

# Everything that generated code may name.
_GLOBALS: dict[str, Any] = {
    "__builtins__": {},
    "ABSORBED": runtime.ABSORBED,
    "CAUGHT": runtime.CAUGHT,
    "NONE": values.NONE,
    "Optional": values.Optional,
    "PLAIN": runtime.PLAIN,
    "SIZED": runtime.SIZED,
    "UNKNOWN": values.UNKNOWN,
    "absent": runtime.absent,
    "added": runtime.added,
    "contains": values.contains,
    "dict": dict,
    "document_cost": cost.document_cost,
    "entered": runtime.entered,
    "equal": values.equal,
    "export": runtime.export,
    "failed": runtime.failed,
    "get_optional": runtime.get_optional,
    "get_read": runtime.get_read,
    "has": values.has,
    "has_field": runtime.has_field,
    "has_read": runtime.has_read,
    "index": values.index,
    "inside": runtime.inside,
    "int": int,
    "items": runtime.items,
    "len": len,
    "list": list,
    "map_key": values.map_key,
    "map_pairs": runtime.map_pairs,
    "new_map": values.new_map,
    "no_overload": values.no_overload,
    "not_bool": runtime.not_bool,
    "note": runtime.note,
    "optional_index": values.optional_index,
    "over_budget": runtime.over_budget,
    "pairs": runtime.pairs,
    "pattern_cost": pattern_cost,
    "reraise": runtime.reraise,
    "search_cost": cost.search_cost,
    "single_entry": runtime.single_entry,
    "str": str,
    "unknown": runtime.unknown,
    "weigh": cost.weigh,
    "_less": values.less,
    "_less_equal": values.less_equal,
    "_greater": values.greater,
    "_greater_equal": values.greater_equal,
}


@lru_cache(maxsize=512)
def _template(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


@lru_cache(maxsize=128)
def _statements(text: str) -> list[ast.stmt]:
    return ast.parse(text).body


def _fill(node: Any, operands: Mapping[str, ast.expr], line: int) -> Any:
    """A copy of a template with operands in place of its names; what the template wrote itself gets the line."""
    if isinstance(node, list):
        return [_fill(one, operands, line) for one in node]
    if not isinstance(node, ast.AST):
        return node
    if isinstance(node, ast.Name) and node.id in operands:
        operand = operands[node.id]
        return ast.Name(operand.id, node.ctx, **at(line)) if isinstance(operand, ast.Name) else operand
    copy = node.__class__(**{name: _fill(getattr(node, name), operands, line) for name in node._fields})
    if "lineno" in node._attributes:
        copy.lineno = copy.end_lineno = line  # type: ignore[attr-defined]
        copy.col_offset = copy.end_col_offset = 0  # type: ignore[attr-defined]
    return copy


def at(line: int) -> Any:
    """The place of a node that no template wrote."""
    return {"lineno": line, "end_lineno": line, "col_offset": 0, "end_col_offset": 0}


class Emitter:
    """The function that is being written. A line of it is an index into `places`, from 1."""

    def __init__(self) -> None:
        self.places: list[Node] = []
        self.globals = dict(_GLOBALS)
        self.body: list[ast.stmt] = []
        self.bools: dict[int, ast.expr] = {}  # expressions that are Python bools whatever the input, by id
        self.blocks = 0
        self.names = 0
        self.budget = False  # whether anything is paid from `n`

    def finish(self, root: Node, result: ast.expr, source: str) -> Program:
        """The compiled function: takes a mapping of variables, gives the value, raises EvaluationError or Unknown."""
        places = self.places
        self.globals["failure"] = lambda error: runtime.failure(error, source, places)
        # The error is raised outside of the handler: inside, it would carry the one that was caught, and the request
        # with that.
        frame = "def f(A):\n try:\n  pass\n except CAUGHT as x:\n  e = failure(x)\n raise e"
        module = ast.Module(self.statement(frame, root), type_ignores=[])
        function: Any = module.body[0]
        if self.budget:
            self.body.insert(0, self.statement(f"n = {MAX_WORK}", root)[0])
        if not self.is_bool(result):
            result = self.python("r if (r := x).__class__ in PLAIN else export(r)", root, x=result)
        function.body[0].body = [*self.body, *self.statement("return x", root, x=result)]
        exec(compile(module, runtime.FILENAME, "exec", dont_inherit=True), self.globals)
        program: Program = self.globals.pop("f")
        return program

    def line(self, node: Node) -> int:
        if not self.places or self.places[-1] is not node:
            self.places.append(node)
        return len(self.places)

    def python(self, text: str, node: Node, *, known: bool = False, **operands: ast.expr) -> ast.expr:
        """A Python expression from a template, its names replaced by the operands. `known`: it is always a bool."""
        filled: ast.expr = _fill(_template(text), operands, self.line(node))
        if known:
            self.bools[id(filled)] = filled
        return filled

    def is_bool(self, expression: ast.expr) -> bool:
        """Whether it is a Python bool whatever the input."""
        return id(expression) in self.bools

    def statement(self, text: str, node: Node, **operands: ast.expr) -> list[ast.stmt]:
        filled: list[ast.stmt] = _fill(_statements(text), operands, self.line(node))
        return filled

    def emit(self, text: str, node: Node, **operands: ast.expr) -> None:
        self.body.extend(self.statement(text, node, **operands))

    def local(self) -> ast.Name:
        self.names += 1
        return ast.Name(f"v{self.names}", ast.Load(), **at(1))  # reading a local cannot fail: any line will do

    def constant(self, value: Any, node: Node) -> ast.expr:
        if value.__class__ in (str, int, bytes, bool, type(None)) or (
            value.__class__ is float and abs(value) < float("inf")
        ):
            return ast.Constant(value, **at(self.line(node)))
        self.names += 1
        name = f"k{self.names}"
        self.globals[name] = value
        return ast.Name(name, ast.Load(), **at(self.line(node)))

    @contextmanager
    def block(self, into: list[ast.stmt], blocks: int = 0) -> Iterator[None]:
        """Write statements to another list, that many Python blocks deeper."""
        outer, self.body = self.body, into
        self.blocks += blocks
        try:
            yield
        finally:
            self.body = outer
            self.blocks -= blocks
