"""Policies: what answers (Authenticator, Authorizer), what is told (Observer), and how answers are combined.

A policy decides without I/O: `check` is pure, and `prepare` is the only place where it may wait. It never writes a
response, and never learns what comes after it.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Final, final, get_args

from .answer_headers import merged
from .decision import Decision, Effect, Verdict, allow, policy_error
from .headers import RawHeaders
from .names import Names
from .nothing import NOTHING
from .request import Request

if TYPE_CHECKING:
    from .attempt import Attempt
    from .auth.location import Location
    from .record import Record

NO_HOOKS: Final[frozenset[str]] = frozenset()


class _Policy(ABC):
    prepares: bool = False
    """Whether `prepare` has anything to do; the Gate does not call it otherwise. True for a class that defines one."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "prepares" not in vars(cls):
            cls.prepares = cls.prepare is not _Policy.prepare  # wherever it has it from: a mix-in's counts

    @property
    def name(self) -> str:
        """What the trail and the log call this policy."""
        return type(self).__name__

    def names(self) -> Names:
        """What can be told apart in its answers and is known by now: its own name, those of its rules, and the tools,
        prompts and models that these name. Metrics have no label for anything else."""
        return Names(policies=frozenset({_name_of(self)}))

    async def prepare(self, request: Request) -> None:  # noqa: B027  (most have nothing to wait for)
        """Wait for what `check` will need (a key store, a rate-limit store). An error here is a denial."""

    async def aclose(self) -> None:  # noqa: B027
        """Let go of connections. A gateway does it when it shuts down; call it where there is none."""

    @abstractmethod
    def check(self, request: Request) -> Decision:
        """Decide. Pure: no I/O, no clock but `request.now`. An error, or anything but a Decision, is a denial."""


class Authenticator(_Policy):
    """Says who is asking: `allow(principal)`, `deny(...)` for a bad credential, `abstain()` when there is none of its
    kind."""

    location: "Location | None" = None
    """Where its credential is read; an accepted one is removed from there before the request goes on."""
    identity_headers: Mapping[str, str] = NOTHING
    """Which headers tell the app who is asking, and which of the principal's attributes each of them holds. Clients
    cannot send them."""
    resource_metadata: Mapping[str, Any] = NOTHING
    """What clients are told of where to get its credential, in the terms of RFC 9728: `authorization_servers`,
    `scopes_supported`, ..."""


class Authorizer(_Policy):
    """Says whether they may: `allow()` or `deny(...)`."""

    reads_body: bool = False
    """Whether `check` reads `request.body` or `request.json()`: the Gate then reads the body, bounded, before it asks
    any authorizer, and refuses one that is not JSON with one reading."""

    def explain(self, request: Request) -> Sequence[Verdict]:
        """What each of its rules says, if it is made of rules: for people, not for deciding."""
        return ()


class Observer(ABC):
    """Is told what becomes of a request. Its errors are logged; they decide nothing.

    `start` and `end` are told of every request, the others of what there is to tell. What `start` returns is handed to
    all of them.
    """

    hooks: ClassVar[frozenset[str]] = NO_HOOKS
    """Those of a request, beside `start` and `end`, that a class defines; it is told of nothing else."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.hooks = frozenset(hook for hook in _HOOKS if getattr(cls, hook) is not getattr(Observer, hook))

    def attached(self, names: Names) -> None:  # noqa: B027
        """A Gate or Gateway of whose requests it will be told has been built: this is what can be told apart there.
        Told again of each further one."""

    def start(self, request: Request) -> Any:  # noqa: B027  (most need only the end)
        """The request has come in."""

    def judged(self, token: Any, record: "Record") -> None:  # noqa: B027
        """It is known who asks and what is called. The app comes next, in this very context, unless the request was
        refused."""

    def forwarding(self, token: Any, record: "Record", attempt: "Attempt") -> None:  # noqa: B027
        """A backend is about to ask its upstream; the headers of `attempt.request` can still be changed."""

    def forwarded(self, token: Any, record: "Record", attempt: "Attempt") -> None:  # noqa: B027
        """What the upstream answered has been read to its end, or it will not be."""

    def returned(self, token: Any, record: "Record") -> None:  # noqa: B027
        """The app has returned, in the context in which `judged` was told. The response may have ended before."""

    def failed(self, token: Any, record: "Record", observer: "Observer") -> None:  # noqa: B027
        """Another observer of the request has raised."""

    @abstractmethod
    def end(self, token: Any, record: "Record") -> None:
        """The response is over (its last byte sent, or the client gone): here is everything known about it."""


_HOOKS: Final = ("judged", "forwarding", "forwarded", "returned")
_EFFECTS: Final = get_args(Effect)
_ALLOW: Final = allow()
_allowed_by = lru_cache(1024)(lambda policy: allow(policy=policy))  # a plain yes, by each policy: made once


def ask(policy: Authenticator | Authorizer, request: Request) -> Decision:
    """The policy's Decision, named; a denial when it raises or returns something else."""
    try:
        decision = policy.check(request)
        if not isinstance(decision, Decision):
            return policy_error(policy.name, f"returned {type(decision).__name__}, not a Decision")
        if decision.effect not in _EFFECTS or (decision.effect == "deny" and decision.status == 200):
            return policy_error(policy.name, f"answered {decision.effect} with status {decision.status}")
        if decision.policy is not None:
            return decision
        return _allowed_by(policy.name) if decision is _ALLOW else replace(decision, policy=policy.name)
    except Exception as exc:
        return policy_error(_name_of(policy), exc)


def ask_why(policy: Authenticator | Authorizer, request: Request) -> Decision:
    """As `ask`, with what each rule says in the Decision."""
    decision = ask(policy, request)
    verdicts = policy.explain(request) if isinstance(policy, Authorizer) else ()
    return replace(decision, verdicts=tuple(verdicts)) if verdicts else decision


def _name_of(policy: _Policy) -> str:
    try:
        return policy.name
    except Exception:  # a name may be the user's code too
        return type(policy).__name__


# -- functions as policies -------------------------------------------------------------------------------------------


@final
class _Function(Authorizer):
    def __init__(self, function: Callable[[Request], Decision]) -> None:
        self._function = function
        self.__doc__ = function.__doc__

    @property
    def name(self) -> str:
        return getattr(self._function, "__name__", type(self._function).__name__)  # a partial has none

    def check(self, request: Request) -> Decision:
        return self._function(request)

    def __repr__(self) -> str:
        return self.name


def authorizer(function: Callable[[Request], Decision]) -> Authorizer:
    """Make an Authorizer of a function from Request to Decision: `@authorizer def office_hours(request): ...`.

    A coroutine function is a `TypeError`: what must wait belongs in `Authorizer.prepare`.
    """
    if not callable(function) or inspect.iscoroutinefunction(function):
        raise TypeError(f"@authorizer takes a plain function, not {function!r}; put waiting into Authorizer.prepare")
    return _Function(function)


# -- combinators -----------------------------------------------------------------------------------------------------


class Combined(Authorizer):
    """See `any_of` and `all_of`."""

    word: ClassVar[str]

    def __init__(self, policies: Sequence[Authorizer]) -> None:
        if not policies:
            raise TypeError(f"{self.word}() takes at least one Authorizer")
        for policy in policies:
            if not isinstance(policy, Authorizer) or isinstance(policy, Shadow):
                raise TypeError(f"{self.word}() takes Authorizers that are enforced, not {policy!r}")
        self.policies = tuple(policies)
        self.prepares = any(policy.prepares for policy in self.policies)
        self.reads_body = any(policy.reads_body for policy in self.policies)

    def of(self, policies: Sequence[Authorizer]) -> "Combined":
        """The same of other policies."""
        return type(self)(policies)

    @property
    def name(self) -> str:
        return f"{self.word}({', '.join(policy.name for policy in self.policies)})"

    def names(self) -> Names:
        return Names.union([super().names(), *(policy.names() for policy in self.policies)])

    async def prepare(self, request: Request) -> None:
        for policy in self.policies:
            if policy.prepares:
                await policy.prepare(request)

    async def aclose(self) -> None:
        for policy in self.policies:
            await policy.aclose()

    def explain(self, request: Request) -> Sequence[Verdict]:
        return [verdict for policy in self.policies for verdict in policy.explain(request)]

    def __repr__(self) -> str:
        return f"{self.word}({', '.join(map(repr, self.policies))})"


class _AnyOf(Combined):
    word = "any_of"

    def check(self, request: Request) -> Decision:
        answers = []
        for policy in self.policies:
            answers.append(_yes_or_no(policy, request))
            if answers[-1].effect == "allow":
                return answers[-1]
        return answers[0]


class _AllOf(Combined):
    word = "all_of"

    def check(self, request: Request) -> Decision:
        headers: RawHeaders = ()
        for policy in self.policies:
            decision = _yes_or_no(policy, request)
            if decision.effect != "allow":
                return decision
            if decision.headers:
                headers = merged(headers, decision.headers)
        return replace(decision, headers=headers) if headers else decision


def _yes_or_no(policy: Authorizer, request: Request) -> Decision:
    decision = ask(policy, request)
    if decision.effect == "abstain" or not decision.enforced:
        return policy_error(policy.name, "neither allowed nor denied")
    return decision


def any_of(*policies: Authorizer) -> Authorizer:
    """Allow if one of them allows; else the first one's denial. One that fails counts as a no. All are prepared."""
    return _AnyOf(policies)


def all_of(*policies: Authorizer) -> Authorizer:
    """Allow if every one of them allows; else the first denial."""
    return _AllOf(policies)


@final
class Shadow(Authorizer):
    """See `shadow`."""

    def __init__(self, policy: Authorizer) -> None:
        if not isinstance(policy, Authorizer) or isinstance(policy, Shadow):
            raise TypeError(f"shadow() takes an Authorizer, not {policy!r}")
        self.policy = policy
        self.prepares = policy.prepares
        self.reads_body = policy.reads_body

    @property
    def name(self) -> str:
        return self.policy.name

    def names(self) -> Names:
        return self.policy.names()

    async def prepare(self, request: Request) -> None:
        await self.policy.prepare(request)

    async def aclose(self) -> None:
        await self.policy.aclose()

    def check(self, request: Request) -> Decision:
        return replace(_yes_or_no(self.policy, request), enforced=False)

    def explain(self, request: Request) -> Sequence[Verdict]:
        return self.policy.explain(request)

    def __repr__(self) -> str:
        return f"shadow({self.policy!r})"


def shadow(policy: Authorizer) -> Authorizer:
    """Ask the policy and record its answer in the trail, marked `enforced=False`, but let nothing depend on it: a way
    to watch a new rule on real traffic before it decides."""
    return Shadow(policy)
