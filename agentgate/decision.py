"""Decision: what a policy answers. A value, not a bool, and never bytes on the wire.

A Decision speaks with two voices that never mix: `message` and `code` are for the client, `reason` and `detail` for
the operator.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Literal, NoReturn

from .errors import describe
from .headers import RawHeaders
from .principal import Principal

if TYPE_CHECKING:
    from .cel import Step

Effect = Literal["allow", "deny", "abstain"]
RuleSet = Literal["allow", "deny", "require"]


class Reason(StrEnum):
    """Why a request ended other than by its upstream's own answer: the words of agentgateway's access log."""

    DIRECT_RESPONSE = "DirectResponse"
    NOT_FOUND = "NotFound"
    NO_HEALTHY_BACKEND = "NoHealthyBackend"
    INTERNAL = "Internal"
    INVALID_REQUEST = "InvalidRequest"
    JWT_AUTH = "JwtAuth"
    API_KEY_AUTH = "APIKeyAuth"
    AUTHORIZATION = "Authorization"
    TIMEOUT = "Timeout"
    RATE_LIMIT = "RateLimit"
    MCP = "MCP"
    UPSTREAM_FAILURE = "UpstreamFailure"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one rule says about one request, for those who ask why.

    `outcome` is `true`, `false`, or how the rule failed; `why` the sub-expressions that made it so. `decides`: its
    policy's Decision is this rule's.
    """

    rule: str
    set: RuleSet
    outcome: str
    decides: bool
    why: "tuple[Step, ...]" = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """One policy's answer about one request. Make one with `allow()`, `deny()` or `abstain()`."""

    effect: Effect
    status: int = 200  # of the response, when this answer is what the client gets
    code: str = ""  # stable, for programs
    message: str = ""  # the response's body
    reason: Reason | None = None
    detail: str = ""  # for the log alone
    rule: str | None = None
    policy: str | None = None
    principal: Principal | None = None  # who was recognised; only an authenticator's allow has one
    headers: RawHeaders = field(default=(), repr=False)
    body: bytes | None = field(default=None, repr=False)  # sent in place of the message, as its headers describe it
    enforced: bool = True  # False: recorded by `shadow(...)`, with no effect
    verdicts: tuple[Verdict, ...] = field(default=(), repr=False, compare=False)  # of each rule: see `Gate.explain`

    def __bool__(self) -> NoReturn:
        raise TypeError("a Decision is not a bool: ask for decision.effect")


_ALLOW: Final = Decision("allow")


def allow(
    principal: Principal | None = None,
    *,
    rule: str | None = None,
    policy: str | None = None,
    detail: str = "",
    headers: RawHeaders = (),
) -> Decision:
    """Yes. An authenticator says who it recognised; an authorizer may name the rule that said so, and give the answer
    `headers` in place of its own."""
    if principal is None and rule is None and policy is None and not detail and not headers:
        return _ALLOW
    return Decision("allow", detail=detail, rule=rule, policy=policy, principal=principal, headers=headers)


def deny(
    message: str = "authorization failed",
    *,
    status: int = 403,
    code: str = "forbidden",
    reason: Reason = Reason.AUTHORIZATION,
    detail: str = "",
    rule: str | None = None,
    policy: str | None = None,
    headers: RawHeaders = (),
) -> Decision:
    """No, and what the client is told: `status` and `message`. `detail` goes to the operator's log only."""
    if not 200 <= status <= 599:
        raise ValueError(f"{status} is no final HTTP status")
    return Decision("deny", status, code, message, reason, detail, rule, policy, None, headers)


def abstain(
    message: str = "authentication required",
    *,
    code: str = "missing_credential",
    reason: Reason = Reason.AUTHORIZATION,
    policy: str | None = None,
    headers: RawHeaders = (),
) -> Decision:
    """An authenticator's "not mine": there is no credential of its kind. The rest is the 401 that the client gets if
    nobody else recognises one and the mode wants one. Any other code than `missing_credential` says that a
    credential was there, which is never an anonymous caller."""
    return Decision("abstain", 401, code, message, reason, "", None, policy, None, headers)


def policy_error(policy: str, fault: BaseException | str) -> Decision:
    """The denial for a policy that did not answer: it raised, or returned something else than it may."""
    detail = fault if isinstance(fault, str) else describe(fault)
    return Decision("deny", 500, "policy_error", "internal error", Reason.INTERNAL, f"{policy}: {detail}", None, policy)
