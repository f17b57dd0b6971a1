"""Record: everything known about one request, written down once.

The outermost Gate opens it and puts it into the scope as `scope["agentgate"]`; Gates further in join it. Observers get
it when the response is over. It holds no body and no credential.
"""

import logging
import time
from typing import Any, Final

from .decision import Decision, Reason
from .errors import describe
from .policy import Observer
from .request import Principal, Request, Scope

SCOPE_KEY: Final = "agentgate"

_logger = logging.getLogger("agentgate")


class Record:
    """What happened to one request.

    `trail` holds the decisions in the order they were made, `refusal` the one that ended the request (None when the
    app answered). `status` is None when no response was started. `duration` is in seconds, and None until the end.
    `details` are what the protocol knows of call and answer, under the names of agentgateway's access log.
    """

    __slots__ = (
        "_observing",
        "_started",
        "bytes_sent",
        "details",
        "duration",
        "edge",
        "endpoint",
        "error",
        "protocol",
        "reason",
        "redacted_parameters",
        "refusal",
        "request",
        "route",
        "status",
        "trail",
        "view",
    )

    def __init__(self, request: Request) -> None:
        self.request: Final = request  # as the client sent it
        self.view = request  # as the innermost Gate so far judged it
        self.edge: object = None  # by whose rules that view was found to have one reading
        self.trail: list[Decision] = []
        self.refusal: Decision | None = None
        self.route: str | None = None
        self.endpoint: str | None = None
        self.protocol: str | None = "http"
        self.details: dict[str, str | int | float] = {}
        self.status: int | None = None
        self.error: str | None = None
        self.reason: Reason | None = None
        self.bytes_sent = 0
        self.duration: float | None = None
        self.redacted_parameters: frozenset[str] = frozenset()  # query parameters that hold credentials, lower case
        self._observing: list[tuple[Observer, Any]] = []
        self._started = time.perf_counter()

    @property
    def principal(self) -> Principal | None:
        """Who asked, as the innermost Gate knows."""
        return self.view.principal

    @property
    def elapsed(self) -> float:
        """Seconds since the request came in."""
        return time.perf_counter() - self._started

    def refuse(self, decision: Decision) -> None:
        """The request ends with `decision`, which somebody else writes."""
        self.refusal = decision
        direct = decision.reason is Reason.DIRECT_RESPONSE  # its message is a document, and nothing went wrong
        self.fail("" if direct else decision.message, decision.reason)

    def fail(self, error: str, reason: Reason | None) -> None:
        """The response went wrong, for the reason given; the first one told is kept."""
        if self.error is None and self.reason is None:
            self.error = error or None
            self.reason = reason

    def observe(self, observers: tuple[Observer, ...]) -> None:
        """Start these observers; `finish` will end them, the last one first."""
        for observer in observers:
            try:
                self._observing.append((observer, observer.start(self.request)))
            except Exception as exc:
                _report(observer, exc)

    def finish(self) -> None:
        """The response is over. Idempotent: the last byte, the app's return and its error may all come here."""
        if self.duration is not None:
            return
        self.duration = self.elapsed
        for observer, token in reversed(self._observing):
            try:
                observer.end(token, self)
            except Exception as exc:
                _report(observer, exc)

    def __repr__(self) -> str:
        return f"<Record {self.request!r} status={self.status} decisions={[d.effect for d in self.trail]}>"


def record_of(scope: Scope) -> Record | None:
    """The Record of the request that this scope belongs to; None outside every Gate."""
    record = scope.get(SCOPE_KEY)
    return record if isinstance(record, Record) else None


def _report(observer: Observer, exc: Exception) -> None:
    _logger.error("observer %s failed: %s", type(observer).__name__, describe(exc))
