"""AgentgatewayPolicy documents to authenticators, by what they target.

A policy that targets something which is not there is a fault: it would protect nothing. So are two of one kind on one
target, where agentgateway lets chance decide.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ..auth.api_key import APIKeyAuth
from ..auth.location import BEARER, Cookie, Header, Location, Query
from ..errors import ConfigurationError
from ..posture import Mode
from .keys import KeySources, Source
from .kinds import AgentgatewayPolicy, APIKeyAuthentication, CredentialLocation, Selector
from .read import Document, Documents, Faults

_MODES: Final[Mapping[str, Mode]] = {"Strict": "strict", "Optional": "optional", "Permissive": "permissive"}
_FIELD: Final = "spec.traffic.apiKeyAuthentication"

Target = tuple[str, str]
"""Kind, and `namespace/name`."""


@dataclass(frozen=True)
class Authentication:
    """What one policy says about who may call."""

    authenticator: APIKeyAuth
    mode: Mode


def authentications(
    documents: Documents, gateways: frozenset[str], keys: KeySources, faults: Faults
) -> dict[Target, Authentication]:
    """For each target of a policy, the authentication it asks for. `gateways`: all that a route names."""
    there = {("Gateway", name) for name in gateways}
    there |= {("HTTPRoute", route.full_name) for route in documents.routes}
    there |= {(kind, f"{namespace}/{name}") for kind, namespace, name in documents.unreadable}
    attached: dict[Target, Authentication] = {}
    owners: dict[Target, str] = {}
    for policy in documents.policies:
        wanted = policy.model.spec.traffic and policy.model.spec.traffic.api_key_authentication
        made = _authentication(policy, wanted, documents, keys, faults) if wanted else None
        for number, ref in enumerate(policy.model.spec.target_refs):
            target = (ref.kind, f"{policy.namespace}/{ref.name}")
            where = f"spec.targetRefs[{number}]"
            if target not in there and not (ref.kind == "Gateway" and documents.broken("HTTPRoute")):
                absent = "no HTTPRoute here names" if ref.kind == "Gateway" else "there is no"
                faults.add(policy.at(where, f"{absent} {ref.kind} {target[1]}"), policy.order)
            if wanted and target in owners:
                text = f"{ref.kind} {target[1]} has an apiKeyAuthentication already, by {owners[target]}"
                faults.add(policy.at(where, text), policy.order)
            if wanted:
                owners[target] = policy.place
            if made is not None:
                attached[target] = made
    return attached


def _authentication(
    policy: Document[AgentgatewayPolicy],
    wanted: APIKeyAuthentication,
    documents: Documents,
    keys: KeySources,
    faults: Faults,
) -> Authentication | None:
    field, sources = _sources(policy, wanted, documents, faults)
    store = keys.keys(sources, f"{policy.place}: {_FIELD}.{field}", policy.order) if sources else None
    location = _location(policy, wanted.location, faults)
    if store is None or location is None:
        return None
    return Authentication(APIKeyAuth(store, location=location), _MODES[wanted.mode])


def _sources(
    policy: Document[AgentgatewayPolicy], wanted: APIKeyAuthentication, documents: Documents, faults: Faults
) -> tuple[str, Sequence[Source]]:
    """The documents that hold the keys, and the field that says so. Only those in the policy's own namespace count."""
    field, kind, absent = "", "Secret", ""
    sources: Sequence[Source] = ()
    if wanted.secret_ref is not None:
        field, name = "secretRef", f"{policy.namespace}/{wanted.secret_ref.name}"
        sources = [secret for secret in documents.secrets if secret.full_name == name]
        absent = f"there is no Secret {name}"
    elif wanted.secret_selector is not None:
        field = "secretSelector"
        sources = _selected(documents.secrets, policy.namespace, wanted.secret_selector)
    elif wanted.config_map_selector is not None:
        field, kind = "configMapSelector", "ConfigMap"
        sources = _selected(documents.config_maps, policy.namespace, wanted.config_map_selector)
    if field and not sources and not (field != "secretRef" and documents.broken(kind)):
        absent = absent or f"no {kind} in namespace {policy.namespace} has these labels"
        faults.add(policy.at(f"{_FIELD}.{field}", absent), policy.order)
    return field, sources


def _selected(candidates: Sequence[Source], namespace: str, selector: Selector) -> list[Source]:
    wanted = selector.match_labels.items()
    return [one for one in candidates if one.namespace == namespace and wanted <= one.model.metadata.labels.items()]


def _location(
    policy: Document[AgentgatewayPolicy], written: CredentialLocation | None, faults: Faults
) -> Location | None:
    if written is None:
        return BEARER
    try:
        if written.header is not None:
            return Header(written.header.name, written.header.prefix)
        if written.query_parameter is not None:
            return Query(written.query_parameter.name)
        if written.cookie is not None:
            return Cookie(written.cookie.name)
    except ConfigurationError as exc:
        faults.add(policy.at(f"{_FIELD}.location", str(exc)), policy.order)
    return None
