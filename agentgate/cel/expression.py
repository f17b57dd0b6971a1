"""`compile()` and what it gives: an Expression, which is immutable and may be used by any number of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from agentgate.cel.check import Environment
from agentgate.cel.check import check as find_problems
from agentgate.cel.compile import Generator
from agentgate.cel.errors import CheckError, EvaluationError, Unknown, locate
from agentgate.cel.functions import extend
from agentgate.cel.library import FUNCTIONS
from agentgate.cel.reads import compared, reads
from agentgate.cel.syntax import parse
from agentgate.cel.tree import Call, Node
from agentgate.cel.types import Type, TypeLike, parse_type

_OPERATORS: Final = ("_&&_", "_||_", "_?_:_", "!_")
_NEUTRAL: Final = {"_&&_": "true", "_||_": "false"}  # what they give when no operand decides for the others


class Step(NamedTuple):
    """One operand. `outcome` is `true`, `false`, `unknown`, `value` (no bool) or the kind of an error; line and column
    are those of what failed in it, else of the operand."""

    text: str
    line: int
    column: int
    outcome: str


class Expression:
    """A compiled expression.

    `evaluate(mapping)` gives its value; `type` is the checked type, `reads` the dotted paths of variables that it
    reads, `unguarded` those of them that may be absent though the expression never asks `has()`.
    """

    __slots__ = ("_environment", "_root", "evaluate", "reads", "source", "type", "unguarded")

    def __init__(self, source: str, root: Node, environment: Environment) -> None:
        self.source = source
        self.type: Type = root.type
        self.reads, self.unguarded = reads(root)
        self.evaluate: Callable[[Any], Any] = Generator(environment).program(root, source)
        """The value for these variables: a mapping of their names, or any object with `[name]`.

        Raises EvaluationError, or Unknown if the value depends on `cel.UNKNOWN`. It is the generated function itself,
        so that a call costs one call.
        """
        self._root = root
        self._environment = environment

    def may_read(self, path: str) -> bool:
        """Whether evaluating may read `path` (`request.body`), something below it, or all of what is above it."""
        return any(f"{read}.".startswith(f"{path}.") or f"{path}.".startswith(f"{read}.") for read in self.reads)

    def compared(self, path: str) -> frozenset[str]:
        """The texts that `path` is compared with: of `path == "a" || path in ["b", "c"]` the three."""
        return compared(self._root, path)

    def explain(self, variables: Any) -> list[Step]:
        """Why the whole gives what it gives: of an `a && b` that is false the first false operand, of one that is true
        both, and so on down to operands without operators. Slow; shows no values."""
        return list(self._explain(self._root, variables))

    def _explain(self, node: Node, variables: Any) -> Iterator[Step]:
        outcome = self._outcome(node, variables)
        operands = self._deciding(node, variables, outcome)
        for operand in operands:
            yield from self._explain(operand, variables)
        if not operands:
            text = self.source[node.place.start : node.place.end]
            yield Step(text, *self._position(node, variables), outcome)

    def _deciding(self, node: Node, variables: Any, outcome: str) -> list[Node]:
        """The operands that made an operator's outcome; none if the node is to be taken as a whole."""
        if not isinstance(node, Call) or node.function not in _OPERATORS:
            return []
        if node.function == "!_":
            return node.args
        if node.function == "_?_:_":
            condition, yes, no = node.args
            return [{"true": yes, "false": no}.get(self._outcome(condition, variables), condition)]
        if outcome == _NEUTRAL[node.function]:
            return node.args
        outcomes = [self._outcome(operand, variables) for operand in node.args]
        # An error is an operand's own, or the operator's with an operand that is no bool.
        wanted = outcome if outcome in outcomes else "value"
        return [node.args[outcomes.index(wanted)]] if wanted in outcomes else []

    def _position(self, node: Node, variables: Any) -> tuple[int, int]:
        """Line and column of what failed in a node, or of the node."""
        try:
            self._run(node, variables)
        except EvaluationError as error:
            return error.line, error.column
        except Unknown:
            pass
        return locate(self.source, node.place.start)

    def _outcome(self, node: Node, variables: Any) -> str:
        try:
            value = self._run(node, variables)
        except EvaluationError as error:
            return error.kind
        except Unknown:
            return "unknown"
        return str(value).lower() if value is True or value is False else "value"

    def _run(self, node: Node, variables: Any) -> Any:
        return Generator(self._environment).program(node, self.source)(variables)

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
    reasons: Mapping[str, str] | None = None,
    readers: Mapping[str, Callable[..., Any]] | None = None,
) -> Expression:
    """Compile an expression.

    `variables` maps names to types (`agentgate.cel.types`); None lets every name be a variable of type dyn.
    `functions` maps signatures (`"<string>.shout(int) -> string"`) to pure Python functions. `container` is the
    namespace in which names are looked up. `result` is the type that the expression must have, `"bool"` for a rule.
    `reasons` tells of names (`response`) and fields (`request.endTime`) that are not declared why they are not, in
    words that follow the name. `readers` say how each declared path is read from what is handed to `evaluate`, which
    then is no mapping: `{"request": f, "request.path": g, "jwt": h, "jwt[]": k}`, called as `g(given)` and, for a key
    that the source names, `k(given, "sub")`. They raise `Missing` for what is not there, KeyError for a key.
    With `check=False` faults of names and types wait until they are evaluated. Raises ParseError or CheckError with
    every fault that was found, ConfigurationError for a bad declaration.
    """
    declared = None if variables is None else {name: parse_type(like, name) for name, like in variables.items()}
    known = FUNCTIONS if not functions else extend(FUNCTIONS, functions)
    environment = Environment(known, declared, container, check, reasons or {}, readers)
    root = parse(source)
    wanted = None if result is None else parse_type(result)
    problems = find_problems(root, source, environment, wanted)
    if problems:
        raise CheckError(problems)
    return Expression(source, root, environment)
