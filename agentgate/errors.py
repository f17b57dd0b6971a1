"""Every error agentgate raises on purpose, and how an error of somebody else's is told without its message.

AgentgateError
├── ConfigurationError   the app could not be built: every fault at once
└── UnknownScopeError    an ASGI scope type that no rule here covers

A refused request is never an exception: it is a `Decision`. What a policy raises stays inside the Gate, and denies.
"""

from collections.abc import Iterable
from pathlib import PurePath


class AgentgateError(Exception):
    """Base of all errors raised by agentgate."""


class ConfigurationError(AgentgateError, ValueError):
    """The app could not be built. `faults` holds every fault found, each one sentence that names its place."""

    def __init__(self, faults: str | Iterable[str]) -> None:
        self.faults: tuple[str, ...] = (faults,) if isinstance(faults, str) else tuple(faults)
        super().__init__("\n".join(self.faults))


class UnknownScopeError(AgentgateError, RuntimeError):
    """The server opened a scope that is neither http, websocket nor lifespan. It never reaches the app."""


def needs_extra(what: str, extra: str) -> str:
    """The fault of whoever uses what an extra brings, and has not installed it."""
    return f"{what} needs the extra `{extra}`: pip install 'agentgate-asgi[{extra}]'"


def describe(exc: BaseException) -> str:
    """`KeyError at keys.py:42`: the kind and the place of an error, never its message, which may quote a secret."""
    traceback = exc.__traceback__
    if traceback is None:
        return type(exc).__name__
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    return f"{type(exc).__name__} at {PurePath(traceback.tb_frame.f_code.co_filename).name}:{traceback.tb_lineno}"
