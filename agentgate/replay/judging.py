"""What a posture decides about a recorded request: a Decision, or why the log does not tell.

Each policy is asked as it stands. One that rests on what was not recorded is taken to deny, and then to allow: only
where both come to the same end is there a decision. Authenticators are not shown anything of a recorded caller: whoever
proves such callers has proved this one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar, Final, NamedTuple

from agentgate import cel

from ..allowed_models import AllowedModels
from ..auth.api_key import APIKeyAuth
from ..auth.identity import identity_headers
from ..auth.jwt import JWTAuth
from ..call import Call
from ..decision import Decision, Reason, abstain, allow, deny
from ..gate import Gate, gate_behind
from ..policy import Authenticator, Authorizer, Combined, Shadow, ask
from ..posture import Posture
from ..principal import API_KEY, JWT, Principal
from ..protocols.json_rpc import RPCFault
from ..protocols.llm.apis import SEMCONV_NAMES
from ..protocols.llm.protocol import LLM
from ..protocols.mcp.protocol import MCP
from ..protocols.protocol import Protocol, Reading
from ..proxy.gateway import Gateway
from ..request import Request
from ..rules import CELRules
from .recorded import BODY, CALL, CALLER, NotRecorded, Recorded, unknown_call

_SOMEBODY: Final = allow(Principal("somebody"))
_NOBODY: Final = abstain()
_PROVES: Final = ((JWTAuth, JWT), (APIKeyAuth, API_KEY))


class Judgement(NamedTuple):
    """What stands: the Decision, or (None) what it would rest on that the log does not tell."""

    decision: Decision | None
    unknown: tuple[str, ...] = ()


def lets_through(decision: Decision) -> bool:
    """Whether policies have nothing against a request. One that is answered here has found its answer."""
    return decision.effect == "allow" or decision.reason is Reason.DIRECT_RESPONSE


class Judge:
    """A Gate or a Gateway, to be asked about recorded requests. It sends nothing and waits for nothing.

    A Gate without authenticators stands behind who authenticates: it is told of the recorded callers, and of the
    recorded calls if it reads none itself. Any other Gate, and a Gateway, is taken for the whole.
    """

    def __init__(self, posture: Gate | Gateway) -> None:
        gates = [*_gates(posture)] if isinstance(posture, Gate) else []
        self._callers_stand = bool(gates) and not any(gate.authenticate for gate in gates)
        self._calls_stand = self._callers_stand and all(gate.protocol is None for gate in gates)
        self._posture = posture.with_posture(_recorded)

    def judge(self, request: Recorded) -> Judgement:
        """Whether the request would be let through, now that it is known as far as it is."""
        if self._callers_stand and not request.callers and not request.stood.let_through:
            return Judgement(None, (CALLER,))
        if not self._calls_stand:
            return self._judge(request, None)
        if request.calls is None and not request.notes.unknown.isdisjoint(("mcp", "llm", "a2a")):
            return Judgement(None, (CALL,))
        undecided = None
        for call in request.calls or (None,):
            found = self._judge(request, call)
            if found.decision is None:
                undecided = undecided or found
            elif not lets_through(found.decision):
                return found
        return undecided or found

    def _judge(self, request: Recorded, call: Call | None) -> Judgement:
        try:
            strict = self._explain(request, call, lenient=False)
            reasons = tuple(request.notes.reasons)
            if not reasons or lets_through(strict):
                return Judgement(strict)
            lenient = self._explain(request, call, lenient=True)
        except NotRecorded:
            return Judgement(None, tuple(request.notes.touched))
        return Judgement(None, reasons) if lets_through(lenient) else Judgement(lenient)

    def _explain(self, request: Recorded, call: Call | None, *, lenient: bool) -> Decision:
        return self._posture.explain(request.asked(lenient=lenient, standing=self._callers_stand, call=call))[-1]


def _gates(gate: Gate) -> Iterator[Gate]:
    inner: Gate | None = gate
    while inner is not None:
        yield inner
        inner = gate_behind(inner.app)


def _recorded(posture: Posture) -> Posture:
    """The posture as it is asked about recorded requests. Shadows decide nothing."""
    authenticators = _authenticators(posture.authenticate)
    body: tuple[Authorizer, ...] = (_OneReading(),) if posture.reads_body else ()
    return replace(
        posture,
        authenticate=authenticators,
        authorize=body + tuple(_judged(policy) for policy in posture.authorize if not isinstance(policy, Shadow)),
        protocol=None if posture.protocol is None else _AsRead(posture.protocol),
        reads_body=False,
        identity=identity_headers(authenticators),
    )


# -- who asks --------------------------------------------------------------------------------------------------------


class _Proves(Authenticator):
    """An authenticator that takes the log's word for whom it has recognised."""

    def __init__(self, policy: Authenticator) -> None:
        self.policy = policy
        self.beside: Sequence[_Proves] = ()  # those of the same Gate, itself among them
        self.source = next((source for kind, source in _PROVES if isinstance(policy, kind)), None)
        self.ours = type(policy) in (JWTAuth, APIKeyAuth)
        self.location = policy.location
        self.identity_headers = policy.identity_headers

    @property
    def name(self) -> str:
        return self.policy.name

    def check(self, request: Request) -> Decision:
        notes = _of(request).notes
        for caller in notes.pending:
            owner = next((one for one in self.beside if one.source in (caller.source, None)), None)
            if owner is not None:
                if owner is not self:
                    return _NOBODY
                notes.pending.remove(caller)
                return allow(caller)
        notes.look()
        decision = ask(self.policy, request)
        waits = self.policy.prepares and not (self.ours and decision.effect == "abstain")
        if notes.touched or (notes.glimpsed and not self.ours) or waits:
            if notes.undecided(CALLER).effect == "deny":
                return deny(status=500, code="undecided")  # no 401, which some modes let pass
            notes.caller_unknown = True
            return _SOMEBODY
        return decision


def _authenticators(policies: Sequence[Authenticator]) -> tuple[_Proves, ...]:
    found = tuple(map(_Proves, policies))
    for one in found:
        one.beside = sorted(found, key=lambda each: each.source is None)
    return found


# -- what is called --------------------------------------------------------------------------------------------------


class _AsRead(Protocol):
    """A protocol whose requests have been read, when they were logged."""

    name: ClassVar[str] = "recorded"

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol

    def reads_body(self, request: Request) -> bool:
        return False

    def read(self, request: Request) -> Reading | Decision:
        recorded = _of(request)
        try:
            calls = [_here(call, self._protocol) for call in recorded.calls or ()]
        except RPCFault as fault:
            return deny(str(fault), status=400, code="invalid_request", policy=self._protocol.name)
        if calls and None not in calls:
            return Reading(*filter(None, calls))
        undecided = recorded.notes.undecided(CALL)
        return undecided if undecided.effect == "deny" else Reading(unknown_call(recorded.notes))


def _here(call: Call, protocol: Protocol) -> Call | None:
    """The call as this protocol reads it; None where the log does not tell. Raises RPCFault where it is none."""
    if call.protocol != protocol.name:
        return None
    if isinstance(protocol, MCP):
        if call.target is None:  # by the names that its client used
            return protocol.targets.judged(call)
        return call if call.target in protocol.targets.names else None
    if isinstance(protocol, LLM) and protocol.provider is not None:
        return call if call.attributes.get("provider") == SEMCONV_NAMES[protocol.provider] else None
    return call


# -- whether they may ------------------------------------------------------------------------------------------------


class _Judged(Authorizer):
    """An authorizer that is undecided where it has looked at what was not recorded.

    Rules know what they do not know, and may decide all the same; functions may have caught it and gone on.
    """

    def __init__(self, policy: Authorizer) -> None:
        self.policy = policy
        self._rules = type(policy) is CELRules
        self._by_name = self._rules or type(policy) is AllowedModels  # never looks at headers as a whole

    @property
    def name(self) -> str:
        return self.policy.name

    def check(self, request: Request) -> Decision:
        notes = _of(request).notes
        if self.policy.prepares:
            return notes.undecided(f"what {self.name} waits for")
        notes.look()
        decision = ask(self.policy, request)
        if self._rules:
            notes.reasons.update(notes.touched)
            return decision
        if notes.touched or (notes.glimpsed and not self._by_name):
            return notes.undecided(*(notes.touched or ("request.headers",)))
        return decision


class _OneReading(Authorizer):
    """Stands for the reading of the body: that one was in order is only known where it has been read."""

    def check(self, request: Request) -> Decision:
        recorded = _of(request)
        read = any(call.method != "unknown" and not call.provisional for call in recorded.calls or ())
        return allow() if read or recorded.body is not cel.UNKNOWN else recorded.notes.undecided(BODY)


def _judged(policy: Authorizer) -> Authorizer:
    return policy.of([*map(_judged, policy.policies)]) if isinstance(policy, Combined) else _Judged(policy)


def _of(request: Request) -> Recorded:
    assert isinstance(request, Recorded)  # nobody else asks
    return request
