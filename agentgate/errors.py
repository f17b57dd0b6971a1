"""Every error agentgate raises on purpose.

AgentgateError
└── ConfigurationError   the app could not be built: every fault at once

A refused request is never an exception: it is a `Decision`. What a policy raises stays inside the Gate and denies.
"""

from collections.abc import Iterable


class AgentgateError(Exception):
    """Base of all errors raised by agentgate."""


class ConfigurationError(AgentgateError, ValueError):
    """The app could not be built. `faults` holds every fault found, each one sentence that names its place."""

    def __init__(self, faults: str | Iterable[str]) -> None:
        self.faults: tuple[str, ...] = (faults,) if isinstance(faults, str) else tuple(faults)
        super().__init__("\n".join(self.faults))
