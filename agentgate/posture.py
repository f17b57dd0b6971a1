"""Posture: the policies of one Gate, and the one order in which they are asked.

Authenticators, then the protocol, then authorizers. Only an explicit allow is a yes: a policy that raises, abstains
where it must answer, or returns nonsense has denied.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple

from .answer_headers import merged
from .auth.identity import IdentityHeaders, NotSendable
from .auth.location import Location
from .body import ClientGone, Incoming, body_fault, body_refusal
from .call import Call
from .decision import Decision, Reason, allow, deny, policy_error
from .headers import RawHeaders
from .policy import Authenticator, Authorizer, Shadow, ask, ask_why
from .protocols.protocol import Protocol, Reading
from .request import Request, authenticated, called, calling

Mode = Literal["strict", "optional", "permissive"]

OPEN: Final = allow(policy="gate")  # nothing was against it


class Outcome(NamedTuple):
    """What stands: an allow, or the denial that ended it. `location` is that of the credential that was accepted,
    `headers` tell the app of the caller, `reading` is the request as its protocol reads it, and `call` the one of its
    calls that was denied."""

    decision: Decision
    location: Location | None = None
    headers: RawHeaders = ()
    reading: Reading | None = None
    call: Call | None = None


_ANYBODY: Final = Outcome(OPEN)

Step = tuple[Authenticator | Authorizer | Incoming, Request]
"""What wants to wait before it is asked, and about which request."""


@dataclass(frozen=True, slots=True)
class Posture:
    """What one Gate asks. `reads_body`: whether any of its authorizers needs the body."""

    authenticate: tuple[Authenticator, ...]
    authorize: tuple[Authorizer, ...]
    mode: Mode
    protocol: Protocol | None
    reads_body: bool
    identity: IdentityHeaders | None

    async def decide(self, request: Request, trail: list[Decision], incoming: Incoming | None) -> Outcome:
        """Ask, and wait for who wants to wait. Raises `ClientGone` when the client left before the body was read."""
        steps = self.evaluate(request, trail, self.authenticate, incoming)
        try:
            waiting, view = next(steps)
            while True:
                fault: Exception | None = None
                try:
                    await waiting.prepare(view)
                except ClientGone:
                    raise
                except Exception as exc:
                    fault = exc
                waiting, view = steps.send(fault)
        except StopIteration as stop:
            outcome: Outcome = stop.value
            return outcome

    # What wants to wait is yielded, and sent what went wrong with the waiting, or None: so the request path, which
    # waits, and `explain`, which does not, run the same code.
    def evaluate(
        self,
        request: Request,
        trail: list[Decision],
        authenticators: tuple[Authenticator, ...],
        incoming: Incoming | None = None,
        every: bool = False,
    ) -> Generator[Step, Exception | None, Outcome]:
        """Ask in order; every answer goes to the trail. Without `incoming`, the request is complete, with its body or
        the call that it was built as. With `every`, those behind a denial are asked, too, and each rule of each."""
        caller = _ANYBODY
        if authenticators:
            caller = yield from self._recognise(request, trail, authenticators)
            if caller.decision.effect != "allow" and not every:
                return caller
        protocol = self.protocol if incoming is not None or request.call is None else None
        if self.reads_body or (protocol is not None and protocol.reads_body(request)):
            fault = (yield incoming, request) if incoming is not None else None
            refusal = body_refusal(request) if fault is None else body_fault(fault)
            if refusal is not None:
                trail.append(refusal)
                return _first(caller, Outcome(refusal))
        if protocol is None:
            decision = (yield from self._authorize(request, trail, every)) if self.authorize else OPEN
            return caller if decision is OPEN else _first(caller, Outcome(decision))
        reading = protocol.read(request)
        if isinstance(reading, Decision):
            trail.append(reading)
            return _first(caller, Outcome(reading))
        outcome = _first(caller, Outcome(OPEN, reading=reading))
        for view in _views(request, reading.calls):
            decision = yield from self._authorize(view, trail, every)
            outcome = _first(outcome, Outcome(decision, reading=reading, call=view.call))
            if outcome.decision.effect != "allow" and not every:
                return outcome
        return outcome

    def _authorize(
        self, request: Request, trail: list[Decision], every: bool
    ) -> Generator[Step, Exception | None, Decision]:
        """All of them have to allow. The allow that stands then has the headers of all."""
        stands = told = OPEN  # `told`: whose headers go onto the answer
        answer = ask_why if every else ask
        for policy in self.authorize:
            fault = (yield policy, request) if policy.prepares else None
            decision = answer(policy, request) if fault is None else policy_error(policy.name, fault)
            if isinstance(policy, Shadow):
                trail.append(replace(decision, enforced=False))
                continue
            if decision.effect == "abstain" or not decision.enforced:
                decision = policy_error(policy.name, "neither allowed nor denied")
            trail.append(decision)
            if decision.effect != "allow":
                stands = decision if stands is OPEN else stands
                if not every:
                    return stands
            elif decision.headers:
                told = decision if told is OPEN else replace(told, headers=merged(told.headers, decision.headers))
        return told if stands is OPEN else stands

    def refusal(self, outcome: Outcome, request: Request) -> Decision:
        """The denial as it is said: by the protocol, where there is one."""
        decision = outcome.decision
        said = decision.body is not None or decision.reason is Reason.DIRECT_RESPONSE
        if self.protocol is None or said:
            return decision
        if outcome.reading is not None:
            return outcome.reading.refuse(decision, outcome.call)
        return self.protocol.refuse(decision, request)

    @property
    def restricts(self) -> bool:
        """Whether anybody could say no to a call."""
        return not all(isinstance(policy, Shadow) for policy in self.authorize)

    def allows(self, request: Request) -> bool:
        """Whether the authorizers would allow this request as well, asked now and without a trace."""
        answers = (ask(policy, request) for policy in self.authorize if not isinstance(policy, Shadow))
        return all(answer.effect == "allow" and answer.enforced for answer in answers)

    def _recognise(
        self, request: Request, trail: list[Decision], authenticators: tuple[Authenticator, ...]
    ) -> Generator[Step, Exception | None, Outcome]:
        """The first authenticator that recognises a credential answers; the mode says what it means if none does."""
        missing: Decision | None = None
        unclaimed: Decision | None = None  # a credential was there, and nobody knew it
        for policy in authenticators:
            fault = (yield policy, request) if policy.prepares else None
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
                    try:
                        headers = () if self.identity is None else self.identity.of(policy, decision.principal)
                    except NotSendable as exc:
                        return self._no(_unsendable(exc), trail)
                    authenticated(request, decision.principal)
                    return Outcome(decision, policy.location, headers)
                decision = policy_error(policy.name, "allowed without a principal")
            return self._no(decision, trail)
        if unclaimed is not None:
            return self._no(replace(unclaimed, effect="deny"), trail)
        assert missing is not None  # there is at least one authenticator
        if self.mode != "strict":
            return Outcome(OPEN)
        return self._no(replace(missing, effect="deny"), trail)

    def _no(self, decision: Decision, trail: list[Decision]) -> Outcome:
        """A bad credential is a denial, except in permissive mode; a policy that could not tell always is one."""
        if self.mode == "permissive" and decision.status == 401:
            trail.append(replace(decision, enforced=False))
            return Outcome(OPEN)
        trail.append(decision)
        return Outcome(decision)


def _first(earlier: Outcome, later: Outcome) -> Outcome:
    """Of two outcomes the denial, and of two denials the earlier. What the earlier one knows of the caller is kept."""
    if earlier.decision.effect != "allow":
        return earlier
    if later.decision.effect != "allow":
        return later
    return Outcome(later.decision, earlier.location, earlier.headers, later.reading, later.call)


def _unsendable(fault: NotSendable) -> Decision:
    return deny(code="identity_not_sendable", detail=f"identity header: {fault}", policy="gate")


def _views(request: Request, calls: tuple[Call, ...]) -> Iterator[Request]:
    """The request as each of these calls. Only a single one is noted on the request itself: whoever looks at that must
    not take one of several for all, nor what a Gate further out has read before the body was changed."""
    called(request, calls[0] if len(calls) == 1 else None)
    if len(calls) == 1:
        yield request
    else:
        yield from [calling(request, call) for call in calls]
