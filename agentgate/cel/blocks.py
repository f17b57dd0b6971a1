"""What becomes statements: logical operators, macros, and whatever else must not evaluate all of its operands.

`&&` and `||` are loops that run once, for the sake of `break`; a macro is a `for` over a list that was made before.
Their operands stand in a `try`, which costs nothing until something is raised.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import contextmanager

from agentgate.cel.cost import element_cost
from agentgate.cel.emit import Emitter
from agentgate.cel.tree import Bind, Call, Fallback, Loop, Node

# What a macro goes over, by its kind or the number of its variables: the target of the `for`, and its list.
_TARGETS = {
    "1": ("a", "t if (t := x).__class__ is list else items(t)"),
    "2": ("a, b", "pairs(x)"),
    "mapValues": ("h, a", "map_pairs(x)"),
    "filterKeys": ("a, h", "map_pairs(x)"),
}
# A macro that collects: how its result starts, what a round adds, and what comes out.
_RESULTS = {
    "map": ("r = []", "r.append(x)", "r"),
    "filter": ("r = []", "r.append(x)", "r"),
    "exists_one": ("r = []", "r.append(x)", "len(r) == 1"),
    "transformList": ("r = []", "r.append(x)", "r"),
    "transformMap": ("r = []", "r.append((k, x))", "new_map(r)"),
    "transformMapEntry": ("r = []", "r.append(single_entry(x))", "new_map(r)"),
    "mapValues": ("r = []", "r.append((h, x))", "new_map(r)"),
    "filterKeys": ("r = []", "r.append((k, h))", "new_map(r)"),
}


class Blocks(Emitter):
    """The writer of statements. Each method adds to the body of the function and gives the expression of its result."""

    def __init__(self) -> None:
        super().__init__()
        self.locals: dict[str, ast.expr] = {}  # variables of macros, by their names in the expression

    def expression(self, node: Node) -> ast.expr:
        """The Python expression of a node."""
        raise NotImplementedError

    @contextmanager
    def scope(self, names: list[str], variables: list[ast.Name]) -> Iterator[None]:
        """Let these names of the expression be those variables of the function."""
        outer = self.locals
        self.locals = {**outer, **dict(zip(names, variables, strict=True))}
        try:
            yield
        finally:
            self.locals = outer

    def logic(self, node: Call) -> ast.expr:
        """`a && b`: the first false decides, an error waits for it. A loop that runs once gives `break` to leave by."""
        stop = node.function == "_||_"
        result, error = self.local(), self.local()
        self.emit(f"r = {stop}\ne = None", node, r=result, e=error)
        (once,) = self.statement("while True:\n pass", node)
        assert isinstance(once, ast.While)
        finish = self.statement(f"if e is not None: reraise(e)\nr = {not stop}\nbreak", node, r=result, e=error)
        once.body = [*(self.attempt(operand, stop, error) for operand in node.args), *finish]
        self.body.append(once)
        return self.python("r", node, known=True, r=result)

    def attempt(self, operand: Node, stop: bool, error: ast.Name) -> ast.stmt:
        """Leave the loop if the operand is the value that decides; note its error if it has one."""
        (attempt,) = self.statement("try:\n pass\nexcept ABSORBED as x:\n e = note(x, e)", operand, e=error)
        assert isinstance(attempt, ast.Try)
        attempt.body = []
        with self.block(attempt.body, 2):
            self.test(operand, stop, "break")
        return attempt

    def test(self, node: Node, value: bool, then: str) -> None:
        """`then` if the node is `value`; an error if it is no bool."""
        x = self.expression(node)
        if self.is_bool(x):
            self.emit(f"if {'' if value else 'not '}x: {then}", node, x=x)
        else:
            text = f"if (t := x) is not {not value}:\n if t is not {value}: not_bool(t)\n {then}"
            self.emit(text, node, x=x, t=self.local())

    # macros

    def loop(self, node: Loop) -> ast.expr:
        """A `for` over a list that was made before; its budget is paid before the first round."""
        self.budget = True
        over = self.expression(node.range)
        result, sequence, hidden = self.local(), self.local(), self.local()
        variables = [self.local() for _ in node.variables]
        target, source = _TARGETS.get(node.kind) or _TARGETS[str(len(variables))]
        price = self.constant(element_cost(node.guard, node.body), node)
        text = f"s = {source}\nn -= len(s) * p\nif n < 0: over_budget()"
        self.emit(text, node, s=sequence, x=over, t=self.local(), p=price)
        (loop,) = self.statement(
            f"for {target} in s:\n pass", node, s=sequence, h=hidden, a=variables[0], b=variables[-1]
        )
        assert isinstance(loop, ast.For)
        loop.body = []
        with self.scope(node.variables, variables):
            if node.kind in ("all", "exists"):
                return self.quantifier(node, result, loop)
            start, step, finish = _RESULTS[node.kind]
            self.emit(start, node, r=result)
            with self.block(loop.body, 1):
                if node.guard is not None:
                    self.test(node.guard, False, "continue")
                if node.kind in ("filter", "filterKeys", "exists_one"):
                    self.test(node.body, False, "continue")
                    x: ast.expr = variables[0]
                else:
                    x = self.expression(node.body)
                self.emit(step, node, r=result, x=x, k=variables[0], h=hidden)
        self.body.append(loop)
        return self.python(finish, node, known=node.kind == "exists_one", r=result)

    def quantifier(self, node: Loop, result: ast.Name, loop: ast.For) -> ast.expr:
        """all() and exists() are `&&` and `||` over the elements."""
        stop = node.kind == "exists"
        error = self.local()
        self.emit(f"r = {stop}\ne = None", node, r=result, e=error)
        loop.body.append(self.attempt(node.body, stop, error))
        loop.orelse = self.statement(f"if e is not None: reraise(e)\nr = {not stop}", node, r=result, e=error)
        self.body.append(loop)
        return self.python("r", node, known=True, r=result)

    def bind(self, node: Bind) -> ast.expr:
        value = self.expression(node.value)
        variable = self.local()
        self.emit("v = x", node, v=variable, x=value)
        if node.kind == "bind":
            with self.scope([node.variable], [variable]):
                return self.expression(node.body)
        result = self.local()
        (choice,) = self.statement("if inside(v):\n v = v.value\nelse:\n r = NONE", node, v=variable, r=result)
        assert isinstance(choice, ast.If)
        with self.scope([node.variable], [variable]), self.block(choice.body, 1):
            body = self.expression(node.body)
            self.emit("r = Optional(x)" if node.kind == "optMap" else "r = x", node, r=result, x=body)
        self.body.append(choice)
        return result

    def fallback(self, node: Fallback) -> ast.expr:
        """default() and coalesce(): the first operand that has a value other than null; null if one was null."""
        result, error, null = self.local(), self.local(), self.local()
        self.emit("r = e = z = None", node, r=result, e=error, z=null)
        (once,) = self.statement("while True:\n pass", node)
        assert isinstance(once, ast.While)
        once.body = []
        passes = "absent" if node.kind == "default" else "failed"
        for operand in node.operands:
            handler = "e = note(x, e)" if node.kind == "coalesce" or operand is node.operands[0] else "raise"
            text = f"try:\n pass\nexcept ABSORBED as x:\n if not {passes}(x): raise\n {handler}"
            (attempt,) = self.statement(text, operand, e=error)
            assert isinstance(attempt, ast.Try)
            attempt.body = []
            with self.block(attempt.body, 2):
                x = self.expression(operand)
                self.emit("if (r := x) is not None: break\nz = True", operand, r=result, x=x, z=null)
            once.body.append(attempt)
        finish = "r = None\nif z is None: reraise(e)\nbreak"
        once.body.extend(self.statement(finish, node, r=result, e=error, z=null))
        self.body.append(once)
        return self.python("r", node, r=result)
