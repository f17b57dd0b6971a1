"""Tree -> one flat Python function.

The function is built as Python syntax nodes, never as text: names of the expression become string constants, or
attributes that were declared by the program (not by the expression) and are plain identifiers. Local names are `v1`,
`v2`, ...; all other names are globals of this module's choosing, and there are no builtins. So no literal or
identifier can become code.

Shapes that are exact in Python are written inline (`x["k"]`, `x == "lit"`, `t.startswith("/v1")` once `t` is known to
be a `str`); everything else calls a helper that tests classes exactly. Logical operators and macros become statements
around `try`, which costs nothing unless something is raised. Their result goes to a local variable, so an operand is
never written twice.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from agentgate.cel.blocks import Blocks
from agentgate.cel.check import Environment
from agentgate.cel.cost import FREE, SLOW, SLOWNESS, free_search
from agentgate.cel.emit import Program, at
from agentgate.cel.functions import Function
from agentgate.cel.library import FUNCTIONS
from agentgate.cel.tree import Bind, Call, Fallback, ListNode, Literal, Loop, MapNode, Name, Node, Select, path_of
from agentgate.cel.types import BOOL, Struct, Type
from agentgate.cel.values import UInt

_ORDERS = {
    "_<_": ("<", "_less"),
    "_<=_": ("<=", "_less_equal"),
    "_>_": (">", "_greater"),
    "_>=_": (">=", "_greater_equal"),
}
_TESTS = {"startsWith": "t.startswith(y)", "endsWith": "t.endswith(y)", "contains": "y in t"}
# Types of which a value is read as it is.
_SHORT = frozenset({"bool", "int", "uint", "double", "string", "bytes", "timestamp", "duration"})
# What does not look at all of its arguments, though they may be long.
_QUICK = frozenset({"dyn", "type", "size", "optional.of", "or", "orValue", "fail"})
_LONG = frozenset({"string", "bytes", "list", "map", "dyn", "param"})
# CPython allows 20 nested blocks in one function; past this many, the rest goes into a function of its own.
_MAX_BLOCKS = 12


class Generator(Blocks):
    """Writes the function of one tree."""

    def __init__(self, environment: Environment) -> None:
        super().__init__()
        self.functions = environment.functions
        self.readers = environment.readers

    def program(self, root: Node, source: str) -> Program:
        """The compiled function: takes a mapping of variables, gives the value, raises EvaluationError or Unknown."""
        return self.finish(root, self.expression(root), source)

    def expression(self, node: Node) -> ast.expr:
        if self.blocks <= _MAX_BLOCKS or not isinstance(node, Call | Loop | Bind | Fallback):
            return _WRITE[node.__class__](self, node)
        # Too many nested blocks for CPython: what follows becomes an inner function.
        depth, self.blocks = self.blocks, 0
        body: list[ast.stmt] = []
        with self.block(body):
            result = _WRITE[node.__class__](self, node)
            self.emit("return x", node, x=result)
        self.blocks = depth
        name = self.local()
        (function,) = self.statement("def f():\n pass", node)
        assert isinstance(function, ast.FunctionDef)
        function.name = name.id
        function.body = [*(self.statement("nonlocal n", node) if self.budget else []), *body]
        self.body.append(function)
        return self.python("f()", node, f=name)

    def literal(self, node: Literal) -> ast.expr:
        found = self.constant(node.value, node)
        if node.value.__class__ is bool:
            self.bools[id(found)] = found
        return found

    def name(self, node: Name) -> ast.expr:
        if node.ref is None:
            return self.python("v", node, v=self.locals[node.name])
        return self.reference(node, node.ref)

    def reference(self, node: Node, ref: str | Type) -> ast.expr:
        if isinstance(ref, Type):
            return self.constant(ref, node)
        if self.readers is not None:
            return self.python("g(A)", node, g=self.constant(self.readers[ref], node))
        return self.python("A[k]", node, k=self.constant(ref, node))

    def select(self, node: Select) -> ast.expr:
        if node.ref is not None:
            return self.reference(node, node.ref)
        read = self.read(node) if self.readers else None
        if read is not None:
            return read
        operand = self.expression(node.operand)
        key = self.constant(node.field, node)
        optional = node.optional or node.operand.type.name == "optional_type"
        inner = node.operand.type.params[0] if node.operand.type.name == "optional_type" else node.operand.type
        struct = isinstance(inner, Struct) and node.field in inner.fields
        if optional and not node.test:
            return self.python(f"{'get_optional' if struct else 'optional_index'}(x, k)", node, x=operand, k=key)
        t = self.local()
        if node.test:
            slow = "has_field" if struct else "has"
            test = "(k in t and (t[k] is not UNKNOWN or unknown()))"
            return self.python(
                f"{test} if (t := x).__class__ is dict else {slow}(t, k)", node, known=True, x=operand, k=key, t=t
            )
        if not struct:
            # Python warns of `[...]["k"]` when it compiles that.
            literal = isinstance(operand, ast.Constant | ast.List)
            return self.python("index(x, k)" if literal else "x[k]", node, x=operand, k=key)
        attribute = ast.Attribute(
            ast.Name(t.id, ast.Load(), **at(self.line(node))), node.field, ast.Load(), **at(self.line(node))
        )
        return self.python("t[k] if (t := x).__class__ is dict else a", node, x=operand, k=key, t=t, a=attribute)

    def read(self, node: Select) -> ast.expr | None:
        """A path, or a key of one, that has a reader of its own."""
        assert self.readers is not None
        given = "A"
        path = path_of(node)
        reader = self.readers.get(path) if path is not None else None
        if reader is None:
            reader = self.readers.get(f"{path_of(node.operand)}[]")
            if reader is None:
                return None
            given = "A, k"
        g, k, p = self.constant(reader, node), self.constant(node.field, node), self.constant(path, node)
        if node.test:
            return self.python(f"has_read(p, g, {given})", node, known=True, g=g, k=k, p=p)
        if node.optional:
            return self.python(f"get_read(p, g, {given})", node, g=g, k=k, p=p)
        if node.type.name in _SHORT:
            return self.python(f"g({given})", node, g=g, k=k)
        # What a client sends is converted when it is read, every time.
        self.budget = True
        paid = f"(t := g({given})).__class__ is str or t.__class__ is int or (n := n - weigh(t)) >= 0"
        return self.python(f"t if {paid} else over_budget()", node, g=g, k=k, t=self.local())

    def list_literal(self, node: ListNode) -> ast.expr:
        if not node.optional:
            return ast.List([self.expression(item) for item in node.items], ast.Load(), **at(self.line(node)))
        result = self.local()
        self.emit("r = []", node, r=result)
        for position, item in enumerate(node.items):
            element = self.expression(item)
            self.emit("added(r, x)" if position in node.optional else "r.append(x)", item, r=result, x=element)
        return result

    def map_literal(self, node: MapNode) -> ast.expr:
        entries = self.local()
        self.emit("r = []", node, r=entries)
        for position, (key, value) in enumerate(node.entries):
            k, v = self.expression(key), self.expression(value)
            self.emit("entered(r, k, v)" if position in node.optional else "r.append((k, v))", key, r=entries, k=k, v=v)
        return self.python("new_map(r)", node, r=entries)

    def call(self, node: Call) -> ast.expr:
        if node.function in _OPERATORS:
            return _OPERATORS[node.function](self, node)
        function = self.functions.get(node.function)
        member = node.target is not None
        if node.folded is not None and node.function != "matches":
            return self.constant(node.folded, node)
        arguments = [self.expression(a) for a in ([node.target] if node.target is not None else []) + node.args]
        if function is None or not function.select(member, len(arguments)):
            return self.python("no_overload()", node)
        call = self.constant(function.member if member else function.plain, node)
        first = arguments[0] if arguments else None
        t = self.local()
        if node.folded is not None and first is not None:
            return self.search(node, first)
        if node.function in _TESTS and member and _is_text(node.args[0]):
            text = f"{_TESTS[node.function]} if (t := x).__class__ is str else f(t, y)"
            if node.function == "contains":
                self.budget = True
                short = f"len(t) < {FREE} or (n := n - len(t) // {FREE}) >= 0"
                text = f"f(t, y) if (t := x).__class__ is not str else y in t if {short} else over_budget()"
            assert first is not None
            return self.python(text, node, known=True, f=call, t=t, x=first, y=arguments[1])
        if node.function == "size" and first is not None:
            return self.python("len(t) if (t := x).__class__ in SIZED else f(t)", node, f=call, t=t, x=first)
        # Our own functions keep their word about bool; a caller's might not.
        known = function is FUNCTIONS.get(node.function) and all(
            overload.result == BOOL for overload in function.overloads
        )
        if first is None or not _is_long(function, member):
            found = self.python("f()", node, known=known, f=call)
            assert isinstance(found, ast.Call)
            found.args = arguments
            return found
        return self.paid(node, call, arguments, known)

    def paid(self, node: Call, call: ast.expr, arguments: list[ast.expr], known: bool) -> ast.expr:
        """A call that costs by the size of its arguments; literals cost nothing, and alone with them a short text."""
        self.budget = True
        operands: dict[str, ast.expr] = {"f": call}
        names, weighed = [], []
        for position, argument in enumerate(arguments):
            operands[f"x{position}"] = argument
            if isinstance(argument, ast.Constant) or (isinstance(argument, ast.Name) and argument.id in self.globals):
                names.append(f"x{position}")
            else:
                operands[f"t{position}"] = self.local()
                names.append(f"t{position}")
                weighed.append(position)
        parts = ", ".join(f"t{i} := x{i}" for i in weighed)
        if node.function in ("matches", "regexReplace"):
            literal = isinstance(arguments[1], ast.Constant)
            first = "x0" if 0 not in weighed else "t0 := x0"
            rest = "".join(f", t{i} := x{i}" if i in weighed else f", x{i}" for i in range(1, len(arguments)))
            paid = f"(n := n - pattern_cost({literal}, {first}{rest})) >= 0"
        elif node.function == "json":
            paid = f"(n := n - document_cost({parts or 'x0'})) >= 0"
        elif node.function in SLOW:
            paid = f"(n := n - weigh({parts}) * {SLOWNESS}) >= 0"
        elif node.function == "_+_" and len(weighed) == 2:
            paid = "(t0 := x0).__class__ is (t1 := x1).__class__ is int or (n := n - weigh(t0, t1)) >= 0"
        elif len(weighed) == 1:
            short = f"(t{weighed[0]} := x{weighed[0]}).__class__ is str and len(t{weighed[0]}) < {FREE}"
            paid = f"{short} or (n := n - weigh(t{weighed[0]})) >= 0"
        else:
            paid = f"(n := n - weigh({parts})) >= 0"
        return self.python(f"f({', '.join(names)}) if {paid} else over_budget()", node, known=known, **operands)

    def search(self, node: Call, text: ast.expr) -> ast.expr:
        """`matches()` with a literal pattern, compiled with the expression."""
        self.budget = True
        search, size = node.folded
        paid = f"len(t) < {free_search(size)} or (n := n - search_cost(t, {size})) >= 0"
        return self.python(
            f"no_overload(t) if (t := x).__class__ is not str else s(t) if {paid} else over_budget()",
            node,
            known=True,
            s=self.constant(search, node),
            t=self.local(),
            x=text,
        )

    def equality(self, node: Call) -> ast.expr:
        left, right = node.args
        if isinstance(left, Literal) and not isinstance(right, Literal):
            left, right = right, left
        x, y = self.expression(left), self.expression(right)
        no = "not " if node.function == "_!=_" else ""
        sign = "!=" if no else "=="
        if _is_text(right):  # exact: a value of any other class is not equal to a str, in Python as in CEL
            return self.python(f"x {sign} y", node, known=True, x=x, y=y)
        t, u = self.local(), self.local()
        if _is_int(right):
            return self.python(
                f"t {sign} y if (t := x).__class__ is int else {no}equal(t, y)", node, known=True, x=x, y=y, t=t
            )
        self.budget = True
        both = f"(t := x).__class__ is (u := y).__class__ is str and len(t) < {16 * FREE}"
        text = f"t {sign} u if {both} else {no}equal(t, u) if (n := n - weigh(t, u)) >= 0 else over_budget()"
        return self.python(text, node, known=True, x=x, y=y, t=t, u=u)

    def order(self, node: Call) -> ast.expr:
        sign, helper = _ORDERS[node.function]
        x, y = map(self.expression, node.args)
        t = self.local()
        if _is_int(node.args[1]):
            return self.python(
                f"t {sign} y if (t := x).__class__ is int else {helper}(t, y)", node, known=True, x=x, y=y, t=t
            )
        self.budget = True
        short = f"(t := x).__class__ is not str or len(t) < {16 * FREE} or (n := n - weigh(t)) >= 0"
        text = f"{helper}(t, y) if {short} else over_budget()"
        return self.python(text, node, known=True, x=x, y=y, t=t)

    def membership(self, node: Call) -> ast.expr:
        item, container = node.args
        x = self.expression(item)
        t = self.local()
        if isinstance(container, ListNode) and container.items and all(map(_is_text, container.items)):
            texts = [one.value for one in container.items if isinstance(one, Literal)]
            fast, slow = self.constant(frozenset(texts), node), self.constant(tuple(texts), node)
            return self.python(
                "t in f if (t := x).__class__ is str else contains(t, s)", node, known=True, x=x, f=fast, s=slow, t=t
            )
        y = self.expression(container)
        if container.type.name == "map":
            return self.python("contains(x, y)", node, known=True, x=x, y=y)
        self.budget = True
        # A text is looked for as Python does: exact for the same reason as in equality().
        short = "x in t if (t := y).__class__ is list and len(t) < 64 else " if _is_text(item) else ""
        paid = "t.__class__ is dict or (n := n - weigh(t)) >= 0" if short else "(n := n - weigh(t := y)) >= 0"
        text = f"{short}contains(x, t) if {paid} else over_budget()"
        return self.python(text, node, known=True, x=x, y=y, t=t)

    def index(self, node: Call) -> ast.expr:
        x, y = map(self.expression, node.args)
        return self.python(f"{'index' if node.function == '_[_]' else 'optional_index'}(x, y)", node, x=x, y=y)

    def negation(self, node: Call) -> ast.expr:
        x = self.expression(node.args[0])
        if self.is_bool(x):
            return self.python("not x", node, known=True, x=x)
        t = self.local()
        return self.python("False if (t := x) is True else t is False or not_bool(t)", node, known=True, x=x, t=t)

    def condition(self, node: Call) -> ast.expr:
        test, yes, no = node.args
        c = self.expression(test)
        branches: list[list[ast.stmt]] = [[], []]
        found = []
        for branch, operand in zip(branches, (yes, no), strict=True):
            with self.block(branch, 1):
                found.append(self.expression(operand))
        known = all(self.is_bool(x) for x in found)
        t = self.local()
        is_bool = self.is_bool(c)
        if not any(branches):
            text = "a if c else b" if is_bool else "a if (t := c) is True else b if t is False else not_bool(t)"
            return self.python(text, node, known=known, a=found[0], b=found[1], c=c, t=t)
        self.emit("t = c" if is_bool else "if (t := c) is not True and t is not False:\n not_bool(t)", node, t=t, c=c)
        result = self.local()
        (choice,) = self.statement("if t:\n pass\nelse:\n pass", node, t=t)
        assert isinstance(choice, ast.If)
        choice.body = [*branches[0], *self.statement("r = x", yes, r=result, x=found[0])]
        choice.orelse = [*branches[1], *self.statement("r = x", no, r=result, x=found[1])]
        self.body.append(choice)
        return self.python("r", node, known=known, r=result)


def _is_long(function: Function, member: bool) -> bool:
    """Whether the cost of a call depends on the size of an argument."""
    if function.name in _QUICK:
        return False
    return any(
        param.name in _LONG for overload in function.overloads if overload.member is member for param in overload.params
    )


def _is_text(node: Node) -> bool:
    return isinstance(node, Literal) and node.value.__class__ is str


def _is_int(node: Node) -> bool:
    return isinstance(node, Literal) and node.value.__class__ is int and not isinstance(node.value, UInt)


_WRITE: dict[type, Callable[[Generator, Any], ast.expr]] = {
    Literal: Generator.literal,
    Name: Generator.name,
    Select: Generator.select,
    Call: Generator.call,
    ListNode: Generator.list_literal,
    MapNode: Generator.map_literal,
    Loop: Generator.loop,
    Bind: Generator.bind,
    Fallback: Generator.fallback,
}
_OPERATORS: dict[str, Callable[[Generator, Call], ast.expr]] = {
    "_&&_": Generator.logic,
    "_||_": Generator.logic,
    "_?_:_": Generator.condition,
    "_==_": Generator.equality,
    "_!=_": Generator.equality,
    "@in": Generator.membership,
    "_[_]": Generator.index,
    "_[?_]": Generator.index,
    "!_": Generator.negation,
    **dict.fromkeys(_ORDERS, Generator.order),
}
