"""Attempt: one request of ours to an upstream, and what came of it.

A forwarded request has one, or several when a backend tries again or elsewhere.
"""

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import httpx


class Attempt:
    """What happened to one request to an upstream.

    `request` is what is sent, `endpoint` to whom. `status` is None until an answer begins, and `error` the kind of what
    went wrong. `duration` is in seconds, until the answer was read to its end; None until then.
    """

    __slots__ = ("_started", "duration", "endpoint", "error", "number", "request", "status")

    def __init__(self, request: "httpx.Request", number: int) -> None:
        self.request: Final = request
        self.number: Final = number  # 0 for the first
        self.endpoint: str | None = None
        self.status: int | None = None
        self.error: str | None = None
        self.duration: float | None = None
        self._started = time.perf_counter()

    def finish(self) -> None:
        """It is over."""
        self.duration = time.perf_counter() - self._started

    def __repr__(self) -> str:
        return f"<Attempt {self.number} at {self.endpoint} status={self.status} error={self.error}>"
