"""The errors of the expression language, and how a place in a source is shown.

CELError
├── CompileError        the text cannot be run; `problems` holds every fault found, each with its place
│   ├── ParseError      the text is not CEL, or is larger or deeper than the limits
│   └── CheckError      the text is CEL, but names or types in it are wrong
├── EvaluationError     this input has no answer; `line`, `column` and `reason` say where and why
└── Unknown             the answer depends on something that is not known yet

No message holds a value: only words of the expression itself, names of types, and fixed sentences.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from agentgate.errors import AgentgateError


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of an expression. `line` and `column` count from 1, in code points."""

    message: str
    line: int
    column: int
    snippet: str

    def __str__(self) -> str:
        return f"{self.line}:{self.column}: {self.message}\n{self.snippet}"


def locate(source: str, start: int) -> tuple[int, int]:
    """Line and column (both from 1) of an offset."""
    return source.count("\n", 0, start) + 1, start - source.rfind("\n", 0, start)


def problem(message: str, source: str, start: int, end: int) -> Problem:
    """A fault with its source line underlined: `^~~` from start to end, cut at the end of the line."""
    line, column = locate(source, start)
    text = source.split("\n")[line - 1].rstrip("\r")
    width = max(1, min(end - start, len(text) - column + 1))
    # Tabs stay tabs, so that the caret stands under its character however wide a tab is shown.
    indent = "".join("\t" if c == "\t" else " " for c in text[: column - 1])
    return Problem(message, line, column, f"  {text}\n  {indent}^{'~' * (width - 1)}")


class CELError(AgentgateError):
    """Base of every error of the expression language."""


class CompileError(CELError):
    """The expression cannot be compiled. `problems` holds every fault found, in the order of the text."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(sorted(problems, key=lambda p: (p.line, p.column)))
        super().__init__("\n".join(map(str, self.problems)))


class ParseError(CompileError):
    """The text is not CEL, or is larger or more deeply nested than the limits allow."""


class CheckError(CompileError):
    """An undeclared name, a wrong type, a bad literal: the text is CEL but cannot mean anything."""


class EvaluationError(CELError):
    """The expression has no value for this input.

    `reason` is a fixed sentence, `kind` a stable word for counting. The message with its caret is rendered when it is
    read: most errors are absorbed by a rule and never shown.
    """

    def __init__(self, kind: str, reason: str, source: str, start: int, end: int) -> None:
        super().__init__()
        self.kind = kind
        self.reason = reason
        self._place = (source, start, end)

    @cached_property
    def problem(self) -> Problem:
        """Where it happened: line, column and the underlined source line."""
        return problem(self.reason, *self._place)

    @property
    def line(self) -> int:
        """Line of the failing operation, from 1."""
        return self.problem.line

    @property
    def column(self) -> int:
        """Column of the failing operation, from 1."""
        return self.problem.column

    def __str__(self) -> str:
        return str(self.problem)


class Unknown(CELError):
    """The expression needs a value that is `cel.UNKNOWN`: neither true nor false, and no error either."""

    def __init__(self) -> None:
        super().__init__("the result depends on a value that is not known yet")
