"""`compile()` and what it gives: an Expression, which is immutable and may be used by any number of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from agentgate.cel.check import Environment
from agentgate.cel.check import check as find_problems
from agentgate.cel.compile import Generator
from agentgate.cel.errors import CheckError, EvaluationError, Unknown, locate
from agentgate.cel.functions import extend
from agentgate.cel.library import FUNCTIONS
from agentgate.cel.reads import reads
from agentgate.cel.syntax import parse
from agentgate.cel.tree import Call, Node
from agentgate.cel.types import Type, TypeLike, parse_type


class Step(NamedTuple):
    """One operand. `outcome` is `true`, `false`, `unknown`, `value` (no bool) or the kind of an error."""

    depth: int
    text: str
    line: int
    column: int
    outcome: str


class Expression:
    """A compiled expression.

    `evaluate(mapping)` gives its value; `type` is the checked type, `reads` the dotted paths of variables that it
    reads, `unguarded` those of them that may be absent though the expression never asks `has()`.
    """

    __slots__ = ("_functions", "_root", "evaluate", "reads", "source", "type", "unguarded")

    def __init__(self, source: str, root: Node, environment: Environment) -> None:
        self.source = source
        self.type: Type = root.type
        self.reads, self.unguarded = reads(root)
        self.evaluate: Callable[[Any], Any] = Generator(environment.functions).program(root, source)
        """The value for these variables: a mapping of their names, or any object with `[name]`.

        Raises EvaluationError, or Unknown if the value depends on `cel.UNKNOWN`. It is the generated function itself,
        so that a call costs one call.
        """
        self._root = root
        self._functions = environment.functions

    def may_read(self, path: str) -> bool:
        """Whether evaluating may read `path` (`request.body`), something below it, or all of what is above it."""
        return any(f"{read}.".startswith(f"{path}.") or f"{path}.".startswith(f"{read}.") for read in self.reads)

    def explain(self, variables: Any) -> list[Step]:
        """What each operand of `&&`, `||`, `?:` and `!` gave, the whole first. Slow; shows no values."""
        return list(self._steps(self._root, variables, 0))

    def _steps(self, node: Node, variables: Any, depth: int) -> Iterator[Step]:
        text = self.source[node.place.start : node.place.end]
        yield Step(depth, text, *locate(self.source, node.place.start), self._outcome(node, variables))
        if isinstance(node, Call) and node.function in ("_&&_", "_||_", "_?_:_", "!_"):
            for operand in node.args:
                yield from self._steps(operand, variables, depth + 1)

    def _outcome(self, node: Node, variables: Any) -> str:
        try:
            value = Generator(self._functions).program(node, self.source)(variables)
        except EvaluationError as error:
            return error.kind
        except Unknown:
            return "unknown"
        return str(value).lower() if value is True or value is False else "value"

    def __repr__(self) -> str:
        return f"Expression({self.source!r})"


def compile(
    source: str,
    *,
    variables: Mapping[str, TypeLike] | None = None,
    functions: Mapping[str, Callable[..., Any] | None] | None = None,
    container: str = "",
    check: bool = True,
    result: TypeLike | None = None,
) -> Expression:
    """Compile an expression.

    `variables` maps names to types (`agentgate.cel.types`); None lets every name be a variable of type dyn.
    `functions` maps signatures (`"<string>.shout(int) -> string"`) to pure Python functions. `container` is the
    namespace in which names are looked up. `result` is the type that the expression must have, `"bool"` for a rule.
    With `check=False` faults of names and types wait until they are evaluated. Raises ParseError or CheckError with
    every fault that was found, ConfigurationError for a bad declaration.
    """
    declared = None if variables is None else {name: parse_type(like, name) for name, like in variables.items()}
    known = FUNCTIONS if not functions else extend(FUNCTIONS, functions)
    environment = Environment(known, declared, container, check)
    root = parse(source)
    wanted = None if result is None else parse_type(result)
    problems = find_problems(root, source, environment, wanted)
    if problems:
        raise CheckError(problems)
    return Expression(source, root, environment)
