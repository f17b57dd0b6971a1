"""Gate: the only evaluator of policies, as an ASGI middleware.

Inside a Gate the order is fixed, however its policies were written down: observers outermost, then authenticators,
then authorizers, then the app. Nothing reaches the app without an explicit allow: what raises, abstains or returns
nonsense has denied.
"""

from collections.abc import Generator, Iterable, Sequence
from copy import copy
from dataclasses import replace
from inspect import iscoroutinefunction
from typing import Final, Literal, TypeVar, get_args

from .auth.location import Header, Location, Query
from .decision import Decision, Reason, allow, policy_error
from .edge import DEFAULT_EDGE, SINGLETONS, Edge, origin_form
from .errors import ConfigurationError, UnknownScopeError, describe
from .policy import Authenticator, Authorizer, Observer, Shadow, ask, ask_why
from .record import SCOPE_KEY, Record, record_of
from .request import Request, Scope, authenticated
from .respond import ASGIApp, Message, Receive, Send, respond

Mode = Literal["strict", "optional", "permissive"]

_OPEN: Final = allow(policy="gate")  # nothing was against it

_Verdict = tuple[Decision, Location | None]
_P = TypeVar("_P")


class Gate:
    """Wraps an ASGI app: http and websocket requests reach it only when the policies say yes.

    `authenticate`: the first that recognises a credential answers. `authorize`: all of them must allow. `observe`: told
    of every request, refused ones too. `mode`, of the authenticators: `strict` wants a credential; `optional` lets a
    request without one pass as anonymous; `permissive` lets a bad one (401) pass too, unauthenticated. `edge`: what a
    request must look like to be judged.

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
    ) -> None:
        self.app = app
        self.authenticate = slot("authenticate", authenticate, Authenticator)
        self.authorize = slot("authorize", authorize, Authorizer)
        self.observe = slot("observe", observe, Observer)
        if not (self.authenticate or self.authorize or self.observe):
            raise ConfigurationError("a Gate with no policy and no observer would let everything pass unseen")
        self.mode = checked_mode(mode)
        self.edge = edge or DEFAULT_EDGE
        self._decides = bool(self.authenticate or self.authorize)
        locations = [policy.location for policy in self.authenticate]
        self._singletons = SINGLETONS.union(place.name.encode() for place in locations if isinstance(place, Header))
        self._own_singletons = self._singletons != SINGLETONS  # a Gate further out does not look for those
        self._redacted = frozenset(place.name.lower() for place in locations if isinstance(place, Query))

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
        try:
            if self.observe:
                record.observe(self.observe)
            if self._redacted:
                record.redacted_parameters |= self._redacted
            if joined and not _same(record.view, scope):  # changed since the Gate further out
                record.view = _seen_now(record.view, scope)
                record.edge = None
            request = record.view
            seen = record.edge is self.edge and not self._own_singletons
            refusal = None if seen else self.edge.check(request, self._singletons)
            if refusal is None:
                record.edge = self.edge
                decision, location = await self._decide(request, record.trail) if self._decides else (_OPEN, None)
                if decision.effect == "allow":
                    onward = _onward(record, scope, location)
            else:
                record.trail.append(refusal)
                decision = refusal
        except Exception as exc:
            onward, decision = None, policy_error("gate", exc)
            record.trail.append(decision)
        if onward is not None:
            await self.app(onward, receive, send)
            return
        record.refuse(decision)
        await respond(decision, scope, send)

    async def _decide(self, request: Request, trail: list[Decision]) -> _Verdict:
        steps = self._evaluate(request, trail, self.authenticate)
        try:
            waiting = next(steps)
            while True:
                fault: Exception | None = None
                try:
                    await waiting.prepare(request)
                except Exception as exc:
                    fault = exc
                waiting = steps.send(fault)
        except StopIteration as stop:
            verdict: _Verdict = stop.value
            return verdict

    # The evaluator yields each policy that wants to wait, and is sent what went wrong with the waiting, or None: so the
    # request path, which waits, and `explain`, which does not, run the same code.
    def _evaluate(
        self, request: Request, trail: list[Decision], authenticators: tuple[Authenticator, ...], every: bool = False
    ) -> Generator[Authenticator | Authorizer, Exception | None, _Verdict]:
        """Ask the policies in order. Returns the Decision that stands, an allow or the first denial, and the location
        whose credential was accepted. With `every`, those behind the denial are asked, too, and each rule of each."""
        location = None
        denial: Decision | None = None
        if authenticators:
            decision, location = yield from self._recognise(request, trail, authenticators)
            if decision.effect != "allow":
                denial = decision
                if not every:
                    return denial, None
        answer = ask_why if every else ask
        for policy in self.authorize:
            fault = (yield policy) if policy.prepares else None
            decision = answer(policy, request) if fault is None else policy_error(policy.name, fault)
            if isinstance(policy, Shadow):
                trail.append(replace(decision, enforced=False))
                continue
            if decision.effect == "abstain" or not decision.enforced:
                decision = policy_error(policy.name, "neither allowed nor denied")
            trail.append(decision)
            if decision.effect != "allow":
                denial = decision if denial is None else denial
                if not every:
                    return denial, None
        return (_OPEN, location) if denial is None else (denial, None)

    def _recognise(
        self, request: Request, trail: list[Decision], authenticators: tuple[Authenticator, ...]
    ) -> Generator[Authenticator | Authorizer, Exception | None, _Verdict]:
        """The first authenticator that recognises a credential answers; the mode says what it means if none does."""
        missing: Decision | None = None
        unclaimed: Decision | None = None  # a credential was there, and nobody knew it
        for policy in authenticators:
            fault = (yield policy) if policy.prepares else None
            decision = ask(policy, request) if fault is None else policy_error(policy.name, fault)
            if decision.effect == "abstain":
                if decision.code == "missing_credential":
                    missing = decision if missing is None else missing
                else:
                    unclaimed = decision if unclaimed is None else unclaimed
                continue
            if decision.effect == "allow":
                if decision.principal is not None and decision.enforced:
                    trail.append(decision)
                    authenticated(request, decision.principal)
                    return decision, policy.location
                decision = policy_error(policy.name, "allowed without a principal")
            return self._no(decision, trail)
        if unclaimed is not None:
            return self._no(replace(unclaimed, effect="deny"), trail)
        assert missing is not None  # there is at least one authenticator
        if self.mode != "strict":
            return _OPEN, None
        return self._no(replace(missing, effect="deny"), trail)

    def _no(self, decision: Decision, trail: list[Decision]) -> _Verdict:
        """A bad credential is a denial, except in permissive mode; a policy that could not tell always is one."""
        if self.mode == "permissive" and decision.status == 401:
            trail.append(replace(decision, enforced=False))
            return _OPEN, None
        trail.append(decision)
        return decision, None

    def explain(self, request: Request, *, every: bool = False) -> list[Decision]:
        """The decisions that this Gate comes to about a request, in order, the last one being the one that stands: the
        first denial, or an allow. No app is called.

        With `every`, the authorizers behind a denial are asked as well, each of their rules is in `Decision.verdicts`,
        and what stands is told once more at the end: `*asked, stands = gate.explain(request, every=True)`.

        Nothing waits: policies answer from what they hold now. A request built as authenticated already (`api_key=`
        or `jwt=`) goes to the authorizers at once.
        """
        refusal = self.edge.check(request, self._singletons)
        if refusal is not None:
            return [refusal, refusal] if every else [refusal]
        trail: list[Decision] = []
        steps = self._evaluate(copy(request), trail, () if request.principals else self.authenticate, every)
        try:
            next(steps)
            while True:
                steps.send(None)
        except StopIteration as stop:
            stands, _ = stop.value
            if stands is _OPEN and trail and trail[-1].effect == "allow" and trail[-1].enforced:
                stands = trail[-1]
            # Where nobody had to say yes, the list still ends with what stands.
            return trail if trail and trail[-1] is stands and not every else [*trail, stands]

    def __repr__(self) -> str:
        slots = ("authenticate", "authorize", "observe")
        parts = [f"{name}={[*getattr(self, name)]!r}" for name in slots if getattr(self, name)]
        return f"Gate({', '.join(parts)}, mode={self.mode!r})"


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
    return Request(scope, now=view.now, principals=view.principals, call=view.call)


def _onward(record: Record, scope: Scope, location: Location | None) -> Scope:
    """The scope for the app: the headers that were judged, without the credential that was accepted."""
    view = record.view
    onward = {**scope, SCOPE_KEY: record}
    if location is None:
        onward["headers"] = list(view.raw_headers)
    else:
        onward["headers"], onward["query_string"] = location.remove(view.raw_headers, view.query_string)
        if scope.get("raw_path") is not None:
            onward["raw_path"] = view.raw_path  # some test clients leave the query in it
    return onward


def _recording(record: Record, send: Send) -> Send:
    """The one send wrapper of a request: notes status and size, and ends the Record with the response's last byte."""

    async def recording(message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.body":
            record.bytes_sent += len(message.get("body", b""))
            await send(message)
            if not message.get("more_body", False):
                record.finish()
            return
        if kind == "http.response.start" or kind == "websocket.http.response.start":
            record.status = message["status"]
        elif kind == "websocket.accept":
            record.status = 101
        elif kind == "websocket.send":
            record.bytes_sent += len(message.get("bytes") or message.get("text") or b"")
        elif kind == "websocket.close" and record.status is None:
            record.status = 403  # what servers make of a close before accept
        await send(message)

    return recording
