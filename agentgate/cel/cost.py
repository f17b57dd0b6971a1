"""What an evaluation may cost: a budget of steps that every long operation is paid from, so no input makes it slow.

A step is a few microseconds at most. An element of a macro costs what its body is long; an operation over a text or a
collection costs by its size; a search costs by the text and the pattern. Short texts are free outside of macros: the
source is bounded, so their number is. The budget counts work, not time: the same input always has the same answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from agentgate.cel.limits import MAX_WORK
from agentgate.cel.tree import Call, Loop, Node, children

FREE: Final = 256  # a text shorter than this costs nothing to look at
# Functions that look at each character in Python, and how much slower that is.
SLOW: Final = frozenset({"form.decode", "form.encode", "url.decode", "url.encode", "strings.quote"})
SLOWNESS: Final = 12
# What an element of a macro costs beyond the operation, in operations: sixteen are a step.
_ERROR = 12  # an operand may fail, which costs what a dozen operations do
_PRICES = {
    **dict.fromkeys(("_&&_", "_||_", "_?_:_"), _ERROR),
    **dict.fromkeys(("startsWith", "endsWith", "contains", "size", "has", "dyn", "type"), 0),
    **dict.fromkeys(("matches", "regexReplace", "json", *SLOW), 160),
}
_SCALARS = frozenset({bool, int, float, type(None)})


def weigh(*values: Any) -> int:
    """The steps of an operation that goes over all of these values."""
    steps = 0
    pending: list[Iterable[Any]] = [values]
    while pending and steps <= MAX_WORK:  # the latter also ends values that hold themselves many times over
        for value in pending.pop():
            cls = value.__class__
            if cls is str or cls is bytes:
                steps += len(value) // FREE
            elif cls in _SCALARS:
                pass
            elif cls is dict:
                steps += len(value)
                pending.append(value.values())
            elif isinstance(value, Sequence):
                steps += len(value)
                pending.append(value)
            elif isinstance(value, Mapping):
                steps += len(value)  # a view, such as that of headers: its values are made when they are read
    return steps


def document_cost(text: Any) -> int:
    """The steps of reading JSON: by its length, and by what may be a value in it."""
    if text.__class__ is str:
        return (sum(map(text.count, "{[,:")) * 32 + len(text)) // FREE
    if text.__class__ is bytes:
        return (sum(map(text.count, (b"{", b"[", b",", b":"))) * 32 + len(text)) // FREE
    return 0


def search_cost(text: str, size: int) -> int:
    """The steps of a search for a pattern whose program has that many instructions: RE2 may go through all of them for
    each byte."""
    return (len(text) if text.isascii() else len(text.encode())) * size // FREE


def free_search(size: int) -> int:
    """How long a text may be for a search to cost nothing outside of macros."""
    return 10 * FREE // size // 4


def element_cost(*bodies: Node | None) -> int:
    """The steps of one round of a macro with these parts. An inner macro pays for its own rounds."""
    operations = 0
    pending: list[Node] = [body for body in bodies if body is not None]
    while pending:
        node = pending.pop()
        operations += 1
        if isinstance(node, Call):
            # Operators are not words; functions are.
            operations += _PRICES.get(
                node.function, 16 if node.function[-1].isalpha() and "@" not in node.function else 0
            )
        pending += [node.range] if isinstance(node, Loop) else children(node)
    return 1 + operations // 16
