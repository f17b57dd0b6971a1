"""The authorization of AgentgatewayPolicy documents to rules, by what they target.

As in agentgateway, all rules that hold for a route are one evaluation, whether they came with its Gateway or with the
route itself: an Allow of either allows. Those about MCP calls are another one beside it, and both have to allow. Unlike
an authentication, one target may have several.
"""

from collections.abc import Callable, Mapping
from typing import Final

from ..rules import CELRules
from .policies import Target
from .policy_kinds import Authorization, MCPAuthorization, PolicySpec
from .read import Documents

Rules = Mapping[Target, Mapping[str, CELRules]]
"""For each target the rules of its policies, by the policy's full name."""

_SETS: Final = {"Allow": "allow", "Deny": "deny", "Require": "require"}


def authorizations(documents: Documents) -> Rules:
    """The traffic rules of documents without faults. Each is named after its document and its place in it:
    `ns/name[0]`."""
    return _attached(documents, lambda spec: spec.traffic.authorization if spec.traffic else None, "")


def mcp_authorizations(documents: Documents) -> Rules:
    """The rules about what is called of MCP servers: `ns/name/mcp[0]`."""
    return _attached(documents, _of_mcp, "/mcp")


def _of_mcp(spec: PolicySpec) -> MCPAuthorization | None:
    return spec.backend.mcp.authorization if spec.backend and spec.backend.mcp else None


def _attached(
    documents: Documents, wanted_of: Callable[[PolicySpec], Authorization | MCPAuthorization | None], suffix: str
) -> Rules:
    attached: dict[Target, dict[str, CELRules]] = {}
    for policy in documents.policies:
        wanted = wanted_of(policy.model.spec)
        if wanted:
            texts = {f"{policy.full_name}{suffix}[{n}]": text for n, text in enumerate(wanted.policy.match_expressions)}
            rules = CELRules(**{_SETS[wanted.action]: texts})
            for ref in policy.model.spec.target_refs:
                attached.setdefault((ref.kind, f"{policy.namespace}/{ref.name}"), {})[policy.full_name] = rules
    return attached


def rules_for(attached: Rules, *targets: Target) -> list[CELRules]:
    """The one evaluation for what goes by these targets; none where nothing is said of any."""
    found: dict[str, CELRules] = {}
    for target in targets:
        found |= attached.get(target, {})
    if not found:
        return []
    first, *others = found.values()
    return [first.merged(*others)]
