"""Filters: what happens to the requests of a route once they are let through, and to the answers.

Their order is the reference's, however they were written down: request headers, rewrite, redirect, mirrors, backend;
response headers change whatever is answered. `CORS` alone stands before the policies.
"""

from collections.abc import Callable, Sequence
from typing import Final

from ..decision import Decision
from ..errors import ConfigurationError
from ..protocols.protocol import Protocol
from ..record import record_of
from ..request import Request, Scope
from ..respond import ASGIApp, Message, Receive, Send, respond
from .cors import CORS
from .destination import Backend
from .header_changes import RequestHeaders, ResponseHeaders
from .mirror import Copying, Mirror
from .paths import Path, Prefix
from .targets import BAD_TARGET, Redirect, Rewrite
from .time_limit import TimeLimit

Filter = RequestHeaders | ResponseHeaders | Rewrite | Redirect | Mirror | CORS

_KINDS: Final = (RequestHeaders, ResponseHeaders, Rewrite, Redirect, Mirror, CORS)


def filter_faults(filters: Sequence[Filter], protocol: Protocol | None, matched: Path | None) -> list[str]:
    """What is wrong with these filters together, before a backend that speaks `protocol`, on a route of this path."""
    if isinstance(filters, str) or not all(isinstance(one, _KINDS) for one in filters):
        raise TypeError(f"filters is a list of {', '.join(kind.__name__ for kind in _KINDS)}")
    kinds = [type(one) for one in filters]
    faults = [f"several {kind.__name__} filters" for kind in _KINDS if kind is not Mirror and kinds.count(kind) > 1]
    if Rewrite in kinds and Redirect in kinds:
        faults.append("a Rewrite beside a Redirect would have no effect")
    for one in filters:
        if isinstance(one, Rewrite | Redirect) and one.replaces_prefix and not isinstance(matched, Prefix):
            faults.append(f"{type(one).__name__}: prefix is for a route whose path is a prefix")
        if isinstance(one, Rewrite) and protocol is not None:
            faults.append(f"Rewrite: the path of {protocol.name} has been judged, and is not to be another")
        if isinstance(one, Mirror) and protocol is not None:
            faults.append(f"Mirror: a call of {protocol.name} is for its server alone, and so are its credentials")
        if isinstance(one, RequestHeaders) and protocol is not None:
            faults += [f"RequestHeaders: {name}: {protocol.name} was judged by it" for name in one.judged()]
            if b"authorization" in one.names:
                faults.append(f"RequestHeaders: authorization: which one {protocol.name} gets is its backend's to say")
    return faults


class Filtering:
    """An app behind filters (`CORS` aside)."""

    def __init__(self, app: ASGIApp, filters: Sequence[Filter], matched: Path | None) -> None:
        self.behind = app
        self._matched = matched
        self._request = next((one for one in filters if isinstance(one, RequestHeaders)), None)
        self._response = next((one for one in filters if isinstance(one, ResponseHeaders)), None)
        self._rewrite = next((one for one in filters if isinstance(one, Rewrite)), None)
        self._redirect = next((one for one in filters if isinstance(one, Redirect)), None)
        self._mirrors = tuple(one for one in filters if isinstance(one, Mirror))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        record = record_of(scope)
        if record is None:
            raise ConfigurationError("filters are for what a Gate has let through")
        if self._response is not None:
            send = _changing(self._response, send)
        if self._request is not None:
            scope = {**scope, "headers": self._request.apply([*scope["headers"]])}
        answer = None
        if self._rewrite is not None:
            rewritten = self._rewrite.rewritten(record.view, self._matched)
            if rewritten is None:
                answer = BAD_TARGET
            else:
                path, host = rewritten
                record.rewritten = path or record.rewritten[0], host or record.rewritten[1]
        elif self._redirect is not None:
            answer = self._redirect.answer(record.view, scope.get("query_string") or b"", self._matched)
        if answer is not None:
            record.refuse(answer)
            await respond(answer, scope, send)
            return
        if self._mirrors and scope["type"] == "http":
            mirrors = [mirror for mirror in self._mirrors if mirror.wanted()]
            if mirrors:
                receive = Copying(mirrors, scope, record, receive).receive
        await self.behind(scope, receive, send)


def served(
    backend: Backend,
    filters: Sequence[Filter],
    matched: Path | None,
    timeout: float | None = None,
    backend_timeout: float | None = None,
) -> ASGIApp:
    """The backend's app behind filters and time limits (seconds); the very app where there is none of either."""
    app = backend.app
    if timeout is not None or backend_timeout is not None:
        app = TimeLimit(app, request=timeout, backend=backend_timeout, protocol=backend.protocol)
    if any(not isinstance(one, CORS) for one in filters):
        app = Filtering(app, filters, matched)
    return app


def answered(filters: Sequence[Filter], matched: Path | None, backend: Backend, request: Request) -> Decision | None:
    """What is answered here to a request that was let through, by a redirect or for want of a backend; else None."""
    redirect = next((one for one in filters if isinstance(one, Redirect)), None)
    if redirect is not None:
        return redirect.answer(request, request.query_string, matched)
    answer: Callable[[Request], Decision | None] | None = getattr(backend, "answer", None)
    return None if answer is None else answer(request)


def _changing(changes: ResponseHeaders, send: Send) -> Send:
    async def changing(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": changes.apply([*message.get("headers", ())])}
        await send(message)

    return changing
