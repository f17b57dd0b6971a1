"""Names of models: patterns for them, and AllowedModels, by which a key says which models it is good for."""

from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any, Final

from .decision import Decision, allow, deny
from .errors import ConfigurationError
from .names import Names
from .policy import Authorizer
from .request import Request

_METADATA: Final = "allowedModels"


class ModelNames:
    """A set of names: `gpt-4o`, `claude-*`, `*-mini`, or `*` alone. An empty one has none.

    Every fault is in one `ConfigurationError`, in agentgateway's words.
    """

    __slots__ = ("_all", "_exact", "_prefixes", "_suffixes")

    def __init__(self, patterns: Collection[str], what: str = "models") -> None:
        if isinstance(patterns, str) or not isinstance(patterns, Collection):
            raise ConfigurationError(f"{what} is a list of names")
        self._all = len(patterns) == 1 and "*" in patterns
        names = [] if self._all else [*patterns]
        faults = [f"{what}: {fault}" for name in names if (fault := _fault(name))]
        if faults:
            raise ConfigurationError(dict.fromkeys(faults))
        self._exact = frozenset(name for name in names if "*" not in name)
        self._prefixes = tuple(name[:-1] for name in names if name.endswith("*"))
        self._suffixes = tuple(name[1:] for name in names if name.startswith("*"))

    def __contains__(self, name: str) -> bool:
        return self._all or name in self._exact or name.startswith(self._prefixes) or name.endswith(self._suffixes)


def _fault(name: Any) -> str | None:
    if not isinstance(name, str) or not name:
        return "cannot contain an empty model name"
    if name == "*":
        return "cannot combine '*' with other values"
    if name.count("*") > 1 or "*" in name[1:-1]:
        return "a name must contain at most one wildcard, at the beginning or end"
    return None


_names: Final = lru_cache(1024)(lambda patterns: ModelNames(patterns, _METADATA))  # of a key: made once

_ALLOWED: Final = allow(policy="AllowedModels")
_NOT_ALLOWED: Final = deny(
    "Model is not allowed for this API key", code="model_not_allowed", rule=_METADATA, policy="AllowedModels"
)


class AllowedModels(Authorizer):
    """Holds callers to the models in their API key's metadata: `allowedModels: ["gpt-4o", "claude-*"]`.

    A key without it has no such limit, and neither has a caller without a key; an empty list allows none. With a key
    that has it, a request that names no model is refused, but for lists of models, which are filtered, and calls in
    other protocols. Metadata that is no list of patterns (`gpt-4o`, `claude-*`, `*-mini`, `*` alone) is a denial.
    """

    def check(self, request: Request) -> Decision:
        key = request.api_key
        if key is None or _METADATA not in key:
            return _ALLOWED
        patterns = key[_METADATA]
        names = _names(tuple(patterns)) if isinstance(patterns, list | tuple) else ModelNames(patterns, _METADATA)
        call = request.call
        if call is None:
            return _NOT_ALLOWED
        if call.protocol != "llm":
            return _ALLOWED
        permitted = call.provisional if call.model is None else call.model in names
        return _ALLOWED if permitted else _NOT_ALLOWED

    def names(self) -> Names:
        return Names(policies=frozenset({self.name}), rules=frozenset({_METADATA}))

    def __repr__(self) -> str:
        return "AllowedModels()"


def lists_model(key: Mapping[str, Any] | None, model: str) -> bool:
    """Whether the metadata of a key allows this model by its very name, rather than by a pattern."""
    patterns = None if key is None else key.get(_METADATA)
    return isinstance(patterns, list | tuple) and model in patterns
