"""Names: what there is to be told apart, as far as it is known before the first request.

Whoever counts must not let clients decide how many things there are: what is not among these is one thing, "other".
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Self

_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """How policies and their rules are called, how routes are, and which tools, prompts and models policies name."""

    policies: frozenset[str] = _NONE
    rules: frozenset[str] = _NONE
    routes: frozenset[str] = _NONE
    tools: frozenset[str] = _NONE
    prompts: frozenset[str] = _NONE
    models: frozenset[str] = _NONE

    @classmethod
    def union(cls, several: "Iterable[Names]") -> Self:
        """All that any of them has."""
        given = [*several]
        return cls(**{kind.name: _NONE.union(*(getattr(one, kind.name) for one in given)) for kind in fields(cls)})
