"""Policies: what counts as an answer, and how answers combine."""

import functools
from collections.abc import Sequence
from typing import Any

import pytest

from agentgate import (
    Authenticator,
    Authorizer,
    Decision,
    Gate,
    Observer,
    Principal,
    Request,
    Verdict,
    abstain,
    all_of,
    allow,
    any_of,
    authorizer,
    deny,
    shadow,
)
from agentgate.policy import ask

ANY = Request.http()


@authorizer
def yes(request: Request) -> Decision:
    """Always."""
    return allow()


@authorizer
def no(request: Request) -> Decision:
    return deny("no", rule="never")


@authorizer
def other_no(request: Request) -> Decision:
    return deny("other no")


@authorizer
def broken(request: Request) -> Decision:
    raise KeyError("hunter2")


@authorizer
def undecided(request: Request) -> Decision:
    return abstain()


@authorizer
def true(request: Request) -> Decision:
    return True  # type: ignore[return-value]


@authorizer
def nothing(request: Request) -> Decision:
    return None  # type: ignore[return-value]


@authorizer
def deny_with_200(request: Request) -> Decision:
    return Decision("deny")


@authorizer
def maybe(request: Request) -> Decision:
    return Decision("maybe")  # type: ignore[arg-type]


@authorizer
def unenforced(request: Request) -> Decision:
    return shadow(yes).check(request)


class Waiting(Authorizer):
    """Counts how often it was prepared; says yes once it was."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.prepared = 0
        self.fault = fault

    async def prepare(self, request: Request) -> None:
        self.prepared += 1
        if self.fault is not None:
            raise self.fault

    def check(self, request: Request) -> Decision:
        return allow() if self.prepared else deny("not prepared")


@pytest.mark.parametrize(
    ("policy", "effect", "code", "detail"),
    [
        (yes, "allow", "", ""),
        (no, "deny", "forbidden", ""),
        (undecided, "abstain", "missing_credential", ""),
        (broken, "deny", "policy_error", "KeyError at test_policy.py"),
        (true, "deny", "policy_error", "true: returned bool, not a Decision"),
        (nothing, "deny", "policy_error", "nothing: returned NoneType, not a Decision"),
        (deny_with_200, "deny", "policy_error", "deny_with_200: answered deny with status 200"),
        (maybe, "deny", "policy_error", "maybe: answered maybe with status 200"),
    ],
    ids=lambda value: str(value),
)
def test_only_a_decision_is_an_answer(policy: Authorizer, effect: str, code: str, detail: str) -> None:
    """What raises or returns anything but a Decision has denied, and its message is told to nobody."""
    decision = ask(policy, ANY)
    assert (decision.effect, decision.code) == (effect, code)
    assert detail in decision.detail
    assert "hunter2" not in repr(decision)


@pytest.mark.parametrize(("policy", "name"), [(yes, "yes"), (no, "no"), (any_of(no, yes), "yes"), (broken, "broken")])
def test_an_answer_names_its_policy(policy: Authorizer, name: str) -> None:
    """The trail says who answered."""
    assert ask(policy, ANY).policy == name


def test_a_policy_may_name_itself() -> None:
    """A policy name written into the Decision stands."""
    policy = authorizer(lambda request: deny(policy="rules.yaml"))
    assert ask(policy, ANY).policy == "rules.yaml"
    assert policy.name == "<lambda>"


class _Callable:
    def __call__(self, request: Request) -> Decision:
        return allow()


@pytest.mark.parametrize(
    "function", [functools.partial(lambda answer, request: answer, allow()), _Callable()], ids=["partial", "instance"]
)
def test_any_callable_can_be_a_policy(function: Any) -> None:
    """A partial and an object that can be called are functions, too, although they have no name."""
    policy = authorizer(function)
    assert ask(policy, ANY).effect == "allow"
    assert repr(policy) == policy.name != ""


async def _coroutine(request: Request) -> Decision:
    return allow()


@pytest.mark.parametrize("function", [_coroutine, functools.partial(_coroutine), None, "yes", allow()])
def test_a_policy_function_is_plain(function: Any) -> None:
    """A coroutine function, or nothing that can be called, is refused where it is written."""
    with pytest.raises(TypeError, match="plain function"):
        authorizer(function)


def test_a_function_keeps_its_docstring() -> None:
    """A decorated function still says what it is for."""
    assert yes.__doc__ == "Always."
    assert repr(yes) == "yes"


@pytest.mark.parametrize(
    ("policy", "effect", "message"),
    [
        (any_of(yes), "allow", ""),
        (any_of(no, yes), "allow", ""),
        (any_of(broken, yes), "allow", ""),
        (any_of(undecided, yes), "allow", ""),
        (any_of(no), "deny", "no"),
        (any_of(no, other_no), "deny", "no"),
        (any_of(broken, no), "deny", "internal error"),
        (any_of(undecided), "deny", "internal error"),
        (any_of(true), "deny", "internal error"),
        (any_of(unenforced), "deny", "internal error"),
        (all_of(yes), "allow", ""),
        (all_of(yes, yes), "allow", ""),
        (all_of(yes, no, other_no), "deny", "no"),
        (all_of(no, yes), "deny", "no"),
        (all_of(yes, broken), "deny", "internal error"),
        (all_of(yes, undecided), "deny", "internal error"),
        (all_of(yes, true), "deny", "internal error"),
        (all_of(yes, unenforced), "deny", "internal error"),
        (all_of(any_of(no, yes), yes), "allow", ""),
        (any_of(all_of(yes, no), other_no), "deny", "no"),
    ],
    ids=repr,
)
def test_combinations(policy: Authorizer, effect: str, message: str) -> None:
    """any_of wants one yes, all_of wants them all; what fails or abstains is a no; the first no is the answer."""
    decision = policy.check(ANY)
    assert (decision.effect, decision.message) == (effect, message)


@pytest.mark.parametrize("combine", [any_of, all_of])
@pytest.mark.parametrize("members", [(), (shadow(yes),), (yes, "no"), (lambda request: allow(),), (None,)])
def test_only_enforced_authorizers_combine(combine: Any, members: tuple[Any, ...]) -> None:
    """Nothing, a shadow, or what is no Authorizer, cannot be combined: that would be a yes nobody gave."""
    with pytest.raises(TypeError, match=combine.__name__):
        combine(*members)


@pytest.mark.parametrize("combine", [any_of, all_of])
@pytest.mark.anyio
async def test_all_members_are_prepared(combine: Any) -> None:
    """A combination waits for all its members that wait, and for no other."""
    one, two = Waiting(), Waiting()
    policy = combine(one, yes, two)
    assert policy.prepares
    await policy.prepare(ANY)
    assert (one.prepared, two.prepared) == (1, 1)
    assert policy.check(ANY).effect == "allow"
    assert not combine(yes, no).prepares


@pytest.mark.parametrize(
    ("policy", "effect", "code"),
    [
        (shadow(yes), "allow", ""),
        (shadow(no), "deny", "forbidden"),
        (shadow(broken), "deny", "policy_error"),
        (shadow(undecided), "deny", "policy_error"),
    ],
    ids=repr,
)
def test_a_shadow_answers_without_effect(policy: Authorizer, effect: str, code: str) -> None:
    """A shadow says what its policy would have said, marked as not enforced."""
    decision = policy.check(ANY)
    assert (decision.effect, decision.code, decision.enforced) == (effect, code, False)


@pytest.mark.anyio
async def test_a_shadow_prepares_its_policy() -> None:
    """A shadow waits for what its policy waits for, and has its name."""
    waiting = Waiting()
    policy = shadow(waiting)
    assert policy.prepares
    await policy.prepare(ANY)
    assert waiting.prepared == 1
    assert (policy.name, shadow(yes).prepares) == ("Waiting", False)


@pytest.mark.parametrize("policy", [shadow(yes), "yes", None, lambda request: allow()])
def test_only_an_authorizer_can_be_shadowed(policy: Any) -> None:
    """A shadow of a shadow, or of no Authorizer, is refused."""
    with pytest.raises(TypeError, match="shadow"):
        shadow(policy)


def test_combinations_read_as_they_were_written() -> None:
    """Names and reprs spell the combination out."""
    policy = any_of(all_of(yes, no), other_no)
    assert policy.name == "any_of(all_of(yes, no), other_no)"
    assert repr(shadow(policy)) == f"shadow({policy!r})"


class _Explained(Authorizer):
    def __init__(self, rule: str) -> None:
        self.rule = rule

    def check(self, request: Request) -> Decision:
        return deny(rule=self.rule)

    def explain(self, request: Request) -> Sequence[Verdict]:
        return [Verdict(self.rule, "deny", "true", True)]


def test_a_combination_explains_what_it_is_made_of() -> None:
    """The verdicts of all its policies, in their order; where nobody asks for every rule, none are made."""
    policy = shadow(any_of(_Explained("a"), yes, all_of(_Explained("b"), _Explained("c"))))
    assert [verdict.rule for verdict in policy.explain(ANY)] == ["a", "b", "c"]
    assert [v.rule for d in Gate(authorize=[policy]).explain(ANY, every=True) for v in d.verdicts] == ["a", "b", "c"]
    assert all(not d.verdicts for d in Gate(authorize=[policy]).explain(ANY))


class _Plain(Authorizer):
    def check(self, request: Request) -> Decision:
        return allow()


class _Nameless(_Plain):
    @property
    def name(self) -> str:
        raise RuntimeError("hunter2")


def test_a_policy_whose_name_fails_has_denied() -> None:
    """A policy that cannot even say its name is named after its class, and has denied."""
    decision = ask(_Nameless(), ANY)
    assert (decision.effect, decision.code, decision.policy) == ("deny", "policy_error", "_Nameless")


class _Mixin:
    async def prepare(self, request: Request) -> None:
        raise RuntimeError("the store is away")


class _Mixed(_Mixin, Authorizer):
    def check(self, request: Request) -> Decision:
        return allow()


class _Quiet(Waiting):
    prepares = False


@pytest.mark.parametrize(
    ("policy", "prepares"), [(Waiting(), True), (_Mixed(), True), (_Quiet(), False), (_Plain(), False)]
)
def test_a_class_that_has_a_prepare_is_prepared(policy: Authorizer, prepares: bool) -> None:
    """Wherever a class has its `prepare` from, it is called; unless the class says that it need not be."""
    assert policy.prepares is prepares


@pytest.mark.anyio
async def test_the_default_prepare_waits_for_nothing() -> None:
    """A policy that defines no `prepare` has one that does nothing."""
    await _Plain().prepare(ANY)


@pytest.mark.parametrize("kind", [Authenticator, Authorizer, Observer])
def test_kinds_are_abstract(kind: Any) -> None:
    """A policy without `check`, or an observer without `end`, cannot be made."""
    with pytest.raises(TypeError, match="abstract"):
        kind()


def test_a_policy_is_named_after_its_class() -> None:
    """A policy's name is its class's, unless it says otherwise."""
    assert _Plain().name == "_Plain"


def test_a_shadow_never_opens_a_gate() -> None:
    """A Gate whose only Authorizer is a shadow records its no, and lets the request through."""
    gate = Gate(authorize=[shadow(no)])
    assert [(d.effect, d.enforced) for d in gate.explain(ANY)] == [("deny", False), ("allow", True)]


def test_an_answer_keeps_its_principal() -> None:
    """Naming an answer changes nothing else about it."""

    class Someone(Authenticator):
        def check(self, request: Request) -> Decision:
            return allow(Principal("alice"))

    decision = ask(Someone(), ANY)
    assert decision.principal == Principal("alice")
    assert decision.policy == "Someone"
