"""Decision: a value that is nobody's bool."""

import pytest

from agentgate import Decision, Principal, Reason, abstain, allow, deny
from agentgate.decision import policy_error


@pytest.mark.parametrize("decision", [allow(), allow(Principal("alice")), deny(), abstain()])
def test_a_decision_is_not_a_bool(decision: Decision) -> None:
    """`if decision:` is an error, for a yes as for a no: `denied or allow()` must not let anybody in."""
    with pytest.raises(TypeError, match=r"decision\.effect"):
        bool(decision)
    with pytest.raises(TypeError):
        assert not decision


@pytest.mark.parametrize(
    ("decision", "effect", "status", "code", "reason"),
    [
        (allow(), "allow", 200, "", None),
        (allow(Principal("alice")), "allow", 200, "", None),
        (allow(rule="devs read"), "allow", 200, "", None),
        (deny(), "deny", 403, "forbidden", Reason.AUTHORIZATION),
        (deny("slow down", status=429, code="slow", reason=Reason.RATE_LIMIT), "deny", 429, "slow", Reason.RATE_LIMIT),
        (abstain(), "abstain", 401, "missing_credential", Reason.AUTHORIZATION),
        (policy_error("p", "broke"), "deny", 500, "policy_error", Reason.INTERNAL),
    ],
)
def test_what_they_say(decision: Decision, effect: str, status: int, code: str, reason: Reason | None) -> None:
    """Each constructor makes the decision its name says, and refuses unless told otherwise."""
    assert (decision.effect, decision.status, decision.code, decision.reason) == (effect, status, code, reason)
    assert decision.enforced


@pytest.mark.parametrize("status", [-1, 0, 99, 100, 101, 199, 600, 999])
def test_a_denial_has_a_final_status(status: int) -> None:
    """A denial can only be written as a final response."""
    with pytest.raises(ValueError, match=f"{status} is no final HTTP status"):
        deny(status=status)


@pytest.mark.parametrize("status", [200, 204, 302, 401, 503, 599])
def test_every_final_status_will_do(status: int) -> None:
    """Any final status may be a denial's: a legacy MCP client is refused with 200."""
    assert deny(status=status).status == status


def test_the_client_is_not_told_what_went_wrong() -> None:
    """A policy's failure tells the operator kind and place, and the client nothing at all."""
    try:
        raise KeyError("hunter2")
    except KeyError as exc:
        decision = policy_error("CELRules", exc)
    assert decision.message == "internal error"
    assert decision.detail.startswith("CELRules: KeyError at test_decision.py:")
    assert "hunter2" not in repr(decision)


def test_an_error_that_was_never_raised_has_a_kind_only() -> None:
    """An error without traceback is told by its kind."""
    assert policy_error("p", KeyError("hunter2")).detail == "p: KeyError"


def test_headers_stay_out_of_the_repr() -> None:
    """Headers of a denial may carry nonces or tokens: a repr shows none."""
    assert "hunter2" not in repr(deny(headers=((b"set-cookie", b"hunter2"),)))


def test_a_decision_does_not_change() -> None:
    """Decisions are frozen: what the trail says was said."""
    with pytest.raises(AttributeError):
        deny().effect = "allow"  # type: ignore[misc]


@pytest.mark.parametrize("reason", list(Reason))
def test_reasons_print_as_the_log_has_them(reason: Reason) -> None:
    """A reason is its word, with no class name around it."""
    assert str(reason) == reason.value
