"""What an expression in a policy may say: the variables of its place, and every fault in a text.

agentgateway puts a rule that is always false in the place of one that it cannot compile. Here it is a fault.
"""

from collections.abc import Mapping
from typing import Final

from agentgate import cel

from ..rules import compile_rule

_PROTOCOL: Final = "is not here: no protocol has been read when a traffic policy decides"
NOT_IN_TRAFFIC: Final[Mapping[str, str]] = {
    "mcp": _PROTOCOL,
    "llm": _PROTOCOL,
    "a2a": _PROTOCOL,
    "backend": "is not here: no backend is chosen when a traffic policy decides",
}


NOT_IN_MCP: Final[Mapping[str, str]] = {
    "llm": "is not here: what is spoken is MCP",
    "a2a": "is not here: what is spoken is MCP",
}


def expression_faults(text: str, absent: Mapping[str, str] = NOT_IN_TRAFFIC) -> list[str]:
    """Each fault of a rule, with line, column, and the place underlined. `absent`: variables that are not there, and
    why."""
    try:
        compile_rule(text, without=absent)
    except cel.CompileError as error:
        return [str(problem) for problem in error.problems]
    return []
