"""The authorization of AgentgatewayPolicy documents to rules, by what they target.

As in agentgateway, all rules that hold for a route are one evaluation, whether they came with its Gateway or with the
route itself: an Allow of either allows. Unlike an authentication, one target may have several.
"""

from collections.abc import Mapping
from typing import Final

from ..rules import CELRules
from .policies import Target
from .read import Documents

Rules = Mapping[Target, Mapping[str, CELRules]]
"""For each target the rules of its policies, by the policy's full name."""

_SETS: Final = {"Allow": "allow", "Deny": "deny", "Require": "require"}


def authorizations(documents: Documents) -> Rules:
    """The rules of documents without faults. Each is named after its document and its place in it: `ns/name[0]`."""
    attached: dict[Target, dict[str, CELRules]] = {}
    for policy in documents.policies:
        wanted = policy.model.spec.traffic and policy.model.spec.traffic.authorization
        if wanted:
            texts = {f"{policy.full_name}[{n}]": text for n, text in enumerate(wanted.policy.match_expressions)}
            rules = CELRules(**{_SETS[wanted.action]: texts})
            for ref in policy.model.spec.target_refs:
                attached.setdefault((ref.kind, f"{policy.namespace}/{ref.name}"), {})[policy.full_name] = rules
    return attached


def rules_for(attached: Rules, gateway: str, route: str) -> list[CELRules]:
    """The one evaluation for a route of a Gateway; none where nothing is said of either."""
    found = {**attached.get(("Gateway", gateway), {}), **attached.get(("HTTPRoute", route), {})}
    if not found:
        return []
    first, *others = found.values()
    return [first.merged(*others)]
