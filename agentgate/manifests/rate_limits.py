"""The local rate limits of AgentgatewayPolicy documents to authorizers, by what they target.

As in agentgateway, such a limit is one budget for everybody whom the policy is about, in this process alone, and those
of a route stand in place of its Gateway's.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from ..limits.rate_limit import RateLimit, Unit
from .policies import Attached, Target
from .policy_kinds import AgentgatewayPolicy, LocalRateLimit
from .read import Document, Documents

Limits = Mapping[Target, Sequence[RateLimit]]

_UNITS: Final[Mapping[str, Unit]] = {"Seconds": "second", "Minutes": "minute", "Hours": "hour"}


def wanted_limits(policy: Document[AgentgatewayPolicy]) -> Sequence[LocalRateLimit]:
    """What a policy says of rates."""
    traffic = policy.model.spec.traffic
    return traffic.rate_limit.local if traffic and traffic.rate_limit else ()


def check_limits(documents: Documents, attached: Attached) -> None:
    """Note where two policies limit one target."""
    for policy in documents.policies:
        if wanted_limits(policy):
            attached.attach("rateLimit", policy, None)


def rate_limits(documents: Documents) -> Limits:
    """The limits of documents without faults. Each is named after its document and its place in it: `ns/name[0]`."""
    found: dict[Target, Sequence[RateLimit]] = {}
    for policy in documents.policies:
        limits = [
            RateLimit(
                requests=one.requests,
                tokens=one.tokens,
                per=_UNITS[one.unit],
                key=[],
                name=f"{policy.full_name}[{number}]",
            )
            for number, one in enumerate(wanted_limits(policy))
        ]
        if limits:
            for ref in policy.model.spec.target_refs:
                found[ref.kind, f"{policy.namespace}/{ref.name}"] = limits
    return found


def limits_for(limits: Limits, gateway: str, route: str, *, llm: bool) -> list[RateLimit]:
    """Those of a route, or of its Gateway. Tokens are only counted where an LLM is spoken to."""
    found = limits.get(("HTTPRoute", route)) or limits.get(("Gateway", gateway)) or ()
    return [limit for limit in found if llm or not limit.of_tokens]
