"""The protocols of agents: what a request in one of them asks for, and how a refusal is said in it."""

from importlib import import_module
from typing import Any, Final, Literal

from ..errors import ConfigurationError
from .protocol import Protocol

ProtocolName = Literal["mcp", "llm", "a2a", "auto"]

_CLASSES: Final = {"mcp": ("mcp", "MCP"), "llm": ("llm", "LLM"), "a2a": ("a2a", "A2A")}


def protocol_of(given: Protocol | ProtocolName | None) -> Protocol | None:
    """The protocol that is meant: one of its own, or by name the one with its defaults. None for `auto`, which only the
    log knows of. Any other name is a `ConfigurationError`."""
    if given is None or given == "auto" or isinstance(given, Protocol):
        return given if isinstance(given, Protocol) else None
    if given not in _CLASSES:
        raise ConfigurationError(f"protocol is one of {', '.join(_CLASSES)}, auto, or a Protocol, not {given!r}")
    module, name = _CLASSES[given]
    kind: Any = getattr(import_module(f".{module}", __name__), name)  # only what is spoken is imported
    protocol: Protocol = kind()
    return protocol
