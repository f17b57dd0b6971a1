"""Timeouts: how long each phase of a forwarded request may take, and the whole of it."""

from dataclasses import dataclass, fields
from typing import Any, Final

from ..errors import ConfigurationError


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeouts:
    """Seconds, or None for as long as it takes.

    `connect`: to an upstream. `pool`: to wait for a connection, when all are taken. `write`: for the upstream to take
    some of the request. `first_byte`: for it to begin its answer, once it has the request. `idle`: between two chunks
    of the answer, and `events`: the same of an event stream. `client`: for the client to send some of its body, or to
    take some of the answer. `total`: the whole exchange, further attempts and both bodies included.
    """

    connect: float | None = 10
    pool: float | None = 10
    write: float | None = 60
    first_byte: float | None = 300
    idle: float | None = 300
    events: float | None = 300
    client: float | None = 60
    total: float | None = None

    def __post_init__(self) -> None:
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        faults = [f"timeouts: {name} is a number of seconds, or None" for name in given if not _fits(given[name])]
        if faults:
            raise ConfigurationError(faults)

    def for_transport(self) -> dict[str, float | None]:
        """Those that a transport keeps, as httpx passes them. `read` is that of the phase: first the `first_byte`."""
        return {"connect": self.connect, "pool": self.pool, "write": self.write, "read": self.first_byte}


def _fits(seconds: Any) -> bool:
    return seconds is None or (
        isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 < seconds < float("inf")
    )


DEFAULT_TIMEOUTS: Final = Timeouts()
