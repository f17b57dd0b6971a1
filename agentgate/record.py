"""Record: everything known about one request, written down once.

The outermost Gate opens it and puts it into the scope as `scope["agentgate"]`; Gates further in join it. Observers get
it when the response is over. It holds no body and no credential.
"""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from .attempt import Attempt
from .call import Call
from .decision import Decision, Reason
from .errors import describe
from .headers import RawHeaders
from .policy import NO_HOOKS, Observer
from .principal import Principal
from .request import Request, Scope

if TYPE_CHECKING:
    import httpx

SCOPE_KEY: Final = "agentgate"

_logger = logging.getLogger("agentgate")


class Record:
    """What happened to one request.

    `trail` holds the decisions in the order they were made, `refusal` the one that ended the request (None when the
    app answered). `status` is None when no response was started. `duration` is in seconds, and None until the end;
    `first_byte` is when the first byte of the body went out, in seconds from the start, and `complete` whether the last
    one did. `calls` are those that the request was read as, None when nobody has read it. `details` are what the
    protocol knows of call and answer, under the names of agentgateway's access log. `attempts` are the requests to
    upstreams, and `rewritten` path and Host for them, where the route tells others than the request's. `added_headers`
    are those that policies put on the answer. `trace_id` and `span_id` are in hex, where the request is traced,
    and `sampled` says whether that is kept.
    `app_scope` is what the app was called with, where frameworks write down which of their routes they took; it is let
    go of at the end. `streamed` says whether the body went out in several pieces. `bytes_told` of those sent are of
    answers, several over one websocket, that have told their usage.
    """

    # Most of a request's life is told by what these say from the start; only what differs is written down for each.
    edge: object = None  # by whose rules that view was found to have one reading
    refusal: Decision | None = None
    rewritten: tuple[bytes | None, bytes | None] = (None, None)
    route: str | None = None
    endpoint: str | None = None
    protocol: str | None = "http"
    calls: tuple[Call, ...] | None = None
    status: int | None = None
    response_headers: Iterable[tuple[bytes, bytes]] = ()  # as they went out
    error: str | None = None
    reason: Reason | None = None
    bytes_sent = 0
    bytes_told = 0
    complete = False
    added_headers: RawHeaders = ()
    first_byte: float | None = None
    streamed = False
    duration: float | None = None
    sampled = False
    trace_id: str | None = None
    span_id: str | None = None
    redacted_parameters: frozenset[str] = frozenset()  # query parameters that hold credentials, lower case
    redacted_headers: frozenset[str] = frozenset()  # headers that do, besides `authorization`, lower case
    app_scope: Scope | None = None
    learning: tuple[Observer, ...] = ()  # who want to know the names that a Gate further in has
    _judged = 0  # so many of the observers have been told
    _hooks = NO_HOOKS  # what they want to hear

    def __init__(self, request: Request) -> None:
        self._started = time.perf_counter()
        self.request: Final = request  # as the client sent it
        self.view = request  # as the innermost Gate so far judged it
        self.trail: list[Decision] = []
        self.details: dict[str, str | int | float] = {}
        self.attempts: list[Attempt] = []
        self._observing: list[tuple[Observer, Any]] = []
        self.afterwards: list[Callable[[Record], None]] = []
        request.prepared, request.afterwards = {}, self.afterwards

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
        self.added_headers = ()
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
                if observer.hooks:
                    self._hooks |= observer.hooks
            except Exception as exc:
                self._report(observer, exc)

    def judged(self) -> Sequence[tuple[Observer, Any]]:
        """Tell the observers who have not been told that who asks and what is called is known; those are returned who
        want to hear when the app has returned."""
        if not self._hooks:
            return ()
        told, self._judged = self._observing[self._judged :], len(self._observing)
        self._tell("judged", told)
        return [pair for pair in told if "returned" in pair[0].hooks]

    def returned(self, told: Sequence[tuple[Observer, Any]]) -> None:
        """The app has returned to the Gate that has told these."""
        self._tell("returned", told[::-1])

    def forwarding(self, request: "httpx.Request") -> Attempt:
        """An upstream is asked; an attempt before this one is over."""
        self.forwarded()
        attempt = Attempt(request, len(self.attempts))
        self.attempts.append(attempt)
        self._tell("forwarding", self._observing, attempt)
        return attempt

    def forwarded(self) -> None:
        """The upstream's answer has been read to its end, or it will not be. Idempotent."""
        if self.attempts and self.attempts[-1].duration is None:
            self.attempts[-1].finish()
            self._tell("forwarded", self._observing[::-1], self.attempts[-1])

    def finish(self) -> None:
        """The response is over. Idempotent: the last byte, the app's return and its error may all come here."""
        if self.duration is not None:
            return
        self.duration = self.elapsed
        self.forwarded()
        if self._judged < len(self._observing):
            self.judged()
        for callback in self.afterwards:
            try:
                callback(self)
            except Exception as exc:
                _logger.error("a policy failed after the response: %s", describe(exc))
        for observer, token in reversed(self._observing):
            try:
                observer.end(token, self)
            except Exception as exc:
                self._report(observer, exc)
        # What has the Record in it: nothing is to wait for the garbage collector.
        self.app_scope = None
        for attempt in self.attempts:
            attempt.request.extensions.pop("record", None)

    def _tell(self, hook: str, told: Sequence[tuple[Observer, Any]], *what: Attempt) -> None:
        if hook not in self._hooks:
            return
        for observer, token in told:
            if hook in observer.hooks:
                try:
                    getattr(observer, hook)(token, self, *what)
                except Exception as exc:
                    self._report(observer, exc)

    def _report(self, observer: Observer, exc: Exception) -> None:
        report(observer, exc)
        for other, token in self._observing:
            if other is not observer:
                try:
                    other.failed(token, self, observer)
                except Exception as further:
                    report(other, further)

    def __repr__(self) -> str:
        return f"<Record {self.request!r} status={self.status} decisions={[d.effect for d in self.trail]}>"


def record_of(scope: Scope) -> Record | None:
    """The Record of the request that this scope belongs to; None outside every Gate."""
    record = scope.get(SCOPE_KEY)
    return record if isinstance(record, Record) else None


def report(observer: Observer, exc: Exception) -> None:
    """Say in the log that an observer has raised, and where."""
    _logger.error("observer %s failed: %s", type(observer).__name__, describe(exc))
