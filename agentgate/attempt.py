"""Attempt: one request of ours to an upstream, and what came of it.

A forwarded request has one, or several when a backend tries again or elsewhere.
"""

import time
from collections.abc import Iterable
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

    @property
    def origin(self) -> tuple[str, str, int | None]:
        """Scheme, host and port of the server that is asked; no port where the scheme has none of its own."""
        known = getattr(self.request, "origin", None)  # of requests that have no URL before somebody asks for it
        if known is not None:
            scheme, host, port = known
            return scheme, host.decode("ascii"), port or None
        url = self.request.url
        return url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme)

    def change_headers(self, without: frozenset[bytes], added: Iterable[tuple[bytes, bytes]]) -> None:
        """Send it without those of these names, in lower case, and with what is added."""
        change = getattr(self.request, "change_headers", None)
        if change is not None:
            change(without, added)
        else:
            raw = [pair for pair in self.request.headers.raw if pair[0].lower() not in without]
            self.request.headers = type(self.request.headers)([*raw, *added])

    def finish(self) -> None:
        """It is over."""
        self.duration = time.perf_counter() - self._started

    def __repr__(self) -> str:
        return f"<Attempt {self.number} at {self.endpoint} status={self.status} error={self.error}>"
