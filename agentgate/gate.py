"""Gate: policies around an ASGI app, and the only writer of refusals.

Inside a Gate the order is fixed, however its policies were written down: observers outermost, then authenticators,
then authorizers, then the app. Nothing reaches the app without an explicit allow.
"""

from collections.abc import Callable, Iterable, Sequence
from copy import copy
from functools import partial
from inspect import iscoroutinefunction
from typing import Final, TypeVar, get_args

from .answer_headers import merged, replaced
from .auth.identity import identity_headers
from .auth.location import Header, Query, places
from .auth.resource import protected_resource
from .body import ClientGone, Incoming
from .call import Call
from .deadlines import Clock
from .decision import Decision, Reason, policy_error
from .edge import DEFAULT_EDGE, SINGLETONS, Edge, origin_form
from .errors import ConfigurationError, UnknownScopeError, describe
from .names import Names
from .policy import Authenticator, Authorizer, Observer
from .posture import OPEN, Mode, Outcome, Posture
from .protocols import ProtocolName, protocol_of
from .protocols.protocol import AnswerRefused, Protocol, anything
from .record import SCOPE_KEY, Record, record_of, report
from .request import Request, Scope, calling, forwarded_for, routed, with_body, with_headers
from .respond import ASGIApp, Message, Receive, Send, respond

_P = TypeVar("_P")
_LET_PASS: Final = Outcome(OPEN)


class Gate:
    """Wraps an ASGI app: http and websocket requests reach it only when the policies say yes.

    `authenticate`: the first that recognises a credential answers. `authorize`: all of them must allow. `observe`: told
    of every request, refused ones too. `mode`, of the authenticators: `strict` wants a credential; `optional` lets a
    request without one pass as anonymous; `permissive` lets a bad one (401) pass too, unauthenticated. `edge`: what a
    request must look like to be judged. `protocol`: what the app speaks, so that rules can be about its calls; `auto`
    guesses, for the log alone. `public_url`: where clients reach the app.

    A policy in the wrong slot is a `TypeError`; no policy and no observer at all is a `ConfigurationError`. Without an
    app a Gate can only `explain`.
    """

    def __init__(
        self,
        app: ASGIApp | None = None,
        *,
        authenticate: Sequence[Authenticator] = (),
        authorize: Sequence[Authorizer] = (),
        observe: Sequence[Observer] = (),
        mode: Mode = "strict",
        edge: Edge | None = None,
        protocol: Protocol | ProtocolName | None = None,
        public_url: str | None = None,
    ) -> None:
        self.app = app
        self.authenticate = slot("authenticate", authenticate, Authenticator)
        self.authorize = slot("authorize", authorize, Authorizer)
        self.observe = slot("observe", observe, Observer)
        if not (self.authenticate or self.authorize or self.observe):
            raise ConfigurationError("a Gate with no policy and no observer would let everything pass unseen")
        self.mode = checked_mode(mode)
        self.edge = edge or DEFAULT_EDGE
        self._guesses = protocol == "auto"
        protocol = protocol_of(protocol)
        self.protocol = None if protocol is None else protocol.at(public_url, self.authenticate)
        reads_body = any(policy.reads_body for policy in self.authorize)
        self.identity = identity_headers(self.authenticate)
        self.resource = protected_resource(public_url, self.authenticate)
        self._posture = Posture(self.authenticate, self.authorize, self.mode, self.protocol, reads_body, self.identity)
        self.decides = bool(self.authenticate or self.authorize)
        self.innermost = gate_behind(app) is None  # no Gate behind it will know more
        self._buffers = reads_body or protocol is not None
        self._clock = Clock()
        self._asks = self.decides or protocol is not None
        self._restricts = self._posture.restricts
        read = [place for policy in self.authenticate for place in places(policy.location)]
        self._singletons = SINGLETONS.union(place.name.encode() for place in read if isinstance(place, Header))
        self._own_singletons = self._singletons != SINGLETONS  # a Gate further out does not look for those
        self._redacted = frozenset(place.name.lower() for place in read if isinstance(place, Query))
        headers = frozenset(place.name for place in read if isinstance(place, Header))
        self._redacted_headers = headers - {"authorization"}
        self.names = Names()
        self._learning = tuple(one for one in self.observe if type(one).attached is not Observer.attached)
        self._met: tuple[Observer, ...] = ()  # the last ones further out who were told of the names here
        self._told: list[Observer] = []  # all of those
        self.attach(Names.union(policy.names() for policy in (*self.authenticate, *self.authorize)))

    def attach(self, names: Names) -> None:
        """Tell the observers that this can be told apart as well in what comes through here."""
        self.names = Names.union((self.names, names))
        for observer in self._learning:
            observer.attached(names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if self.app is None:
            raise ConfigurationError("this Gate has no app to call: it can only explain")
        if kind == "lifespan":  # no request: start-up and shutdown of the app
            await self.app(scope, receive, send)
            return
        if kind != "http" and kind != "websocket":
            raise UnknownScopeError(f"ASGI scope type {kind!r} is refused")
        outer = record_of(scope)
        if outer is not None:
            await self._pass(outer, scope, receive, send, joined=True)
            return
        scope = origin_form(scope)
        record = Record(Request(scope))
        try:
            await self._pass(record, scope, receive, _recording(record, send), joined=False)
        except BaseException as exc:
            if record.status is None and isinstance(exc, Exception):
                record.status = 500  # what the server, or a middleware outside, makes of it
            record.fail(f"request failed: {describe(exc)}", Reason.INTERNAL)
            raise
        finally:
            record.finish()

    async def _pass(self, record: Record, scope: Scope, receive: Receive, send: Send, *, joined: bool) -> None:
        assert self.app is not None
        onward: Scope | None = None
        answer = send
        incoming = Incoming(receive, self.edge.max_body_bytes, self._clock) if self._buffers else None
        try:
            if record.learning is not self._met:
                self._meet(record.learning)
            if self.observe:
                record.observe(self.observe)
                record.learning += self._learning
            if self.protocol is not None:
                record.protocol = self.protocol.name
            if self._redacted:
                record.redacted_parameters |= self._redacted
            if self._redacted_headers:
                record.redacted_headers |= self._redacted_headers
            if joined and not _same(record.view, scope):  # changed since the Gate further out
                record.view = _seen_now(record.view, scope)
                record.edge = None
            request = record.view
            seen = record.edge is self.edge and not self._own_singletons
            refusal = None if seen else self.edge.check(request, self._singletons)
            if refusal is None:
                record.edge = self.edge
                if self.identity is not None:
                    record.view = request = self.cleaned(request)
                if self.resource is not None:
                    refusal = self._document(request)
            if refusal is None:
                outcome = await self._posture.decide(request, record.trail, incoming) if self._asks else _LET_PASS
                if outcome.decision.effect == "allow":
                    if outcome.decision.headers:
                        record.added_headers = merged(record.added_headers, outcome.decision.headers)
                    onward, answer = self._onward(record, scope, outcome, incoming, send)
            else:
                record.trail.append(refusal)
                outcome = Outcome(refusal)
            if onward is None:
                decision = self._posture.refusal(outcome, request)
                if self.resource is not None:
                    decision = self.resource.challenged(decision)
            if outcome.reading is not None:
                record.calls = outcome.reading.calls
                record.details.update(outcome.reading.details)
        except ClientGone:
            record.fail("client disconnected", None)
            return
        except Exception as exc:
            onward, decision = None, policy_error("gate", exc)
            record.trail.append(decision)
        if onward is not None and self._guesses:
            receive, answer = _guessing(record, receive if incoming is None else incoming.receive, answer)
            incoming = None
        if onward is not None:
            told = record.judged() if self.innermost else ()
            try:
                await self.app(onward, receive if incoming is None else incoming.receive, answer)
                return
            except AnswerRefused as exc:
                decision = exc.decision
            finally:
                if told:
                    record.returned(told)
            if record.status is not None:  # begun: it is cut off, as one is whose upstream has gone
                record.fail(f"{decision.message}: {decision.detail}", decision.reason)
                return
        record.refuse(decision)
        await respond(decision, scope, send)

    def _meet(self, observers: tuple[Observer, ...]) -> None:
        """Tell observers further out, once, of the names here: when they were built, nobody knew of this Gate."""
        self._met = observers
        for observer in observers:
            if not any(observer is known for known in self._told):
                self._told.append(observer)
                try:
                    observer.attached(self.names)
                except Exception as exc:
                    report(observer, exc)

    def _onward(
        self, record: Record, scope: Scope, outcome: Outcome, incoming: Incoming | None, send: Send
    ) -> tuple[Scope, Send]:
        """The scope for the app, with the headers that were judged but for the credential that was accepted, and with
        what the app is told of the caller; and the `send` for its answer."""
        view = record.view
        onward = {**scope, SCOPE_KEY: record}
        headers, onward["query_string"] = _sent(view, outcome)
        if scope.get("raw_path") is not None:
            onward["raw_path"] = view.raw_path  # some test clients leave the query in it
        reading = outcome.reading
        if reading is not None:
            headers, body = reading.onward(headers, view.body)
            if incoming is not None and body is not None and body != view.body:
                headers = incoming.replace(headers, body)
            may = partial(self._may, view) if self._restricts else anything
            send = reading.answering(send, may, record)
            if incoming is not None and view.type == "websocket":
                incoming.hear(lambda receive: reading.hearing(receive, may))
        onward["headers"] = headers
        record.app_scope = onward
        return onward, send

    def cleaned(self, request: Request) -> Request:
        """The request without what the client sent under the name of an identity header."""
        if self.identity is None:
            return request
        headers = self.identity.without(request.raw_headers)
        return request if headers is request.raw_headers else with_headers(request, headers)

    def _document(self, request: Request) -> Decision | None:
        """The answer to a request for the metadata of what this Gate protects, which anybody may read."""
        resource = self.resource
        return resource.answer(request.method) if resource is not None and resource.is_asked(request) else None

    def _may(self, request: Request, call: Call) -> bool:
        return self._posture.allows(calling(request, call))

    def with_posture(self, change: Callable[[Posture], Posture]) -> "Gate":
        """The same Gate by other policies, and so every Gate behind it, to `explain`. Requests do not meet it."""
        gate = copy(self)
        gate._posture = change(self._posture)
        inner = gate_behind(self.app)
        gate.app = None if inner is None else inner.with_posture(change)
        return gate

    def explain(self, request: Request, *, every: bool = False) -> list[Decision]:
        """The decisions that this Gate comes to about a request, in order, the last one being the one that stands: the
        first denial, or an allow. A Gate that is this one's app is asked as well; no other app is called.

        With `every`, the authorizers behind a denial are asked as well, each of their rules is in `Decision.verdicts`,
        and what stands is told once more at the end: `*asked, stands = gate.explain(request, every=True)`.

        Nothing waits: policies answer from what they hold now. A request built as authenticated already (`api_key=`
        or `jwt=`) goes to the authorizers at once.
        """
        return self._explain(request, known=bool(request.principals), every=every)

    def _explain(self, request: Request, *, known: bool, every: bool) -> list[Decision]:
        view = copy(request)
        refusal = self.edge.check(view, self._singletons)
        view = self.cleaned(view)
        if refusal is None:
            refusal = self._document(view)
        if refusal is not None:
            return [refusal, refusal] if every else [refusal]
        if view.body is None:
            with_body(view, b"")
        trail: list[Decision] = []
        steps = self._posture.evaluate(view, trail, () if known else self._posture.authenticate, every=every)
        try:
            next(steps)
            while True:
                steps.send(None)
        except StopIteration as stop:
            outcome: Outcome = stop.value
        stands = outcome.decision
        inner = gate_behind(self.app)
        if inner is not None and (stands.effect == "allow" or every):
            headers, query = _sent(view, outcome)
            within = inner._explain(with_headers(view, tuple(headers), query), known=known, every=every)
            return [*trail, *(within if stands.effect == "allow" else [*within[:-1], stands])]
        if stands.effect == "allow":  # where nobody had to say yes, the list still ends with what stands
            stands = trail[-1] if trail and trail[-1].effect == "allow" and trail[-1].enforced else OPEN
        return trail if trail and trail[-1] is stands and not every else [*trail, stands]

    def __repr__(self) -> str:
        slots = ("authenticate", "authorize", "observe")
        parts = [f"{name}={[*getattr(self, name)]!r}" for name in slots if getattr(self, name)]
        return f"Gate({', '.join(parts)}, mode={self.mode!r})"


def gate_behind(app: ASGIApp | None) -> Gate | None:
    """The Gate that an app is, or hands requests to: what a route does with what was let through says so (`behind`)."""
    while app is not None and not isinstance(app, Gate):
        app = getattr(app, "behind", None)
    return app


def checked_mode(mode: Mode) -> Mode:
    """The mode, if it is one; else a `ConfigurationError`."""
    if mode not in get_args(Mode):
        raise ConfigurationError(f"mode is one of {', '.join(get_args(Mode))}, not {mode!r}")
    return mode


def slot(name: str, policies: Iterable[_P], kind: type) -> tuple[_P, ...]:
    """The policies of one slot, each of them of its kind; a `TypeError` says what is in the wrong one."""
    if not isinstance(policies, Iterable):
        raise TypeError(f"{name} takes a list of {kind.__name__}s, not {policies!r}")
    found = tuple(policies)
    for policy in found:
        if not isinstance(policy, kind):
            hint = (
                " (make an Authorizer of a function with @authorizer)"
                if kind is Authorizer and callable(policy)
                else ""
            )
            raise TypeError(f"{name} takes {kind.__name__}s, not {policy!r}{hint}")
        if iscoroutinefunction(getattr(policy, "check", None)):
            raise TypeError(f"{name}: {policy!r} has an async check; what waits belongs in prepare")
    return found


def _same(view: Request, scope: Scope) -> bool:
    """Whether a view still shows what the scope says."""
    raw_path = scope.get("raw_path")
    return (
        view.type == scope.get("type")
        and view.scope_path == scope.get("path")
        and (raw_path is None or raw_path == view.raw_path)
        and view.query_string == scope.get("query_string", b"")
        and view.method == scope.get("method", "GET")
        and view.root_path == scope.get("root_path", "")
        and view.peer == scope.get("client")
        and view.scheme == scope.get("scheme", view.scheme)
        and view.http_version == scope.get("http_version", view.http_version)
        and view.raw_headers == tuple(scope.get("headers") or ())
    )


def _seen_now(view: Request, scope: Scope) -> Request:
    """The request as the app behind this Gate will see it, asked by the same people at the same time."""
    seen = Request(scope, now=view.now, principals=view.principals, call=view.call)
    routed(seen, view.backend, view.route)
    seen.prepared, seen.afterwards = view.prepared, view.afterwards
    if view.source is not None and seen.peer == view.peer:
        forwarded_for(seen, view.source)
    return seen


def _guessing(record: Record, receive: Receive, send: Send) -> tuple[Receive, Send]:
    from .protocols.guess import Guess  # all protocols at once, for those who want that

    guess = Guess(copy(record.view), receive)
    return guess.receive, guess.answering(send, record)


def _sent(view: Request, outcome: Outcome) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Headers and query for the app: those that were judged, without the credential that was accepted, and with what
    the app is told of the caller."""
    if outcome.location is None:
        headers, query = [*view.raw_headers], view.query_string
    else:
        headers, query = outcome.location.remove(view.raw_headers, view.query_string)
    headers += outcome.headers
    return headers, query


def _recording(record: Record, send: Send) -> Send:
    """The one send wrapper of a request: notes status and size, and ends the Record with the response's last byte."""

    async def recording(message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.body":
            body = message.get("body")
            if body:
                if record.first_byte is None:
                    record.first_byte = record.elapsed
                else:
                    record.streamed = True
                record.bytes_sent += len(body)
            last = not message.get("more_body", False)
            record.complete = last
            await send(message)
            if last:
                record.finish()
            return
        if kind == "http.response.start" or kind == "websocket.http.response.start":
            record.status = message["status"]
            if record.added_headers:
                message = {**message, "headers": replaced(message.get("headers", ()), record.added_headers)}
            record.response_headers = message.get("headers", ())
        elif kind == "websocket.accept":
            record.status = 101
        elif kind == "websocket.send":
            record.bytes_sent += len(message.get("bytes") or message.get("text") or b"")
        elif kind == "websocket.close" and record.status is None:
            record.status = 403  # what servers make of a close before accept
        await send(message)

    return recording
