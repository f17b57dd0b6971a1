"""What an expression in a traffic policy may say: the variables of its place, and every fault in a text.

agentgateway puts a rule that is always false in the place of one that it cannot compile. Here it is a fault.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from agentgate import cel

from ..rules import compile_rule
from .model import NOT_SUPPORTED

_PROTOCOL: Final = "no protocol has been read when a traffic policy decides"
_ABSENT: Final[Mapping[str, str]] = {
    "mcp": _PROTOCOL,
    "llm": _PROTOCOL,
    "a2a": _PROTOCOL,
    "backend": "no backend is chosen when a traffic policy decides",
}
# Of these agentgateway's documentation speaks; a reader of the fault should not look for a typing error.
_FOREIGN: Final = frozenset(
    {"basicAuth", "destination", "env", "extauthz", "extproc", "llmRequest", "mcpGuardrails", "metadata", "proxy"}
    | {"response"}
)
_undeclared: Final = re.compile(r"undeclared name '(\w+)'").match


def expression_faults(text: str) -> list[str]:
    """Each fault of a rule, with line, column, and the place underlined."""
    try:
        compile_rule(text, without=_ABSENT)
    except cel.CompileError as error:
        return [str(_reasoned(problem)) for problem in error.problems]
    return []


def _reasoned(problem: cel.Problem) -> cel.Problem:
    """A problem with a name that exists elsewhere says why it does not here."""
    found = _undeclared(problem.message)
    name = found[1] if found else ""
    if name in _ABSENT:
        return replace(problem, message=f"there is no {name!r} here: {_ABSENT[name]}")
    if name in _FOREIGN:
        return replace(problem, message=f"{name!r} is {NOT_SUPPORTED}")
    return problem
