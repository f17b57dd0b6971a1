"""AgentgatewayPolicy documents to authenticators, by what they target.

A policy that targets something which is not there is a fault: it would protect nothing. So are two of one kind on one
target, where agentgateway lets chance decide.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ..auth.api_key import APIKeyAuth
from ..auth.location import BEARER, Cookie, Header, Location, Query
from ..errors import ConfigurationError
from ..policy import Authenticator
from ..posture import Mode
from .keys import KeySources, Source
from .policy_kinds import AgentgatewayPolicy, APIKeyAuthentication, CredentialLocation, Selector
from .read import Document, Documents, Faults

MODES: Final[Mapping[str, Mode]] = {"Strict": "strict", "Optional": "optional", "Permissive": "permissive"}
_FIELD: Final = "spec.traffic.apiKeyAuthentication"

Target = tuple[str, str]
"""Kind, and `namespace/name`."""


@dataclass(frozen=True, eq=False)
class Authentication:
    """What one field of one policy says about who may call."""

    policy: Document[AgentgatewayPolicy]
    authenticators: Sequence[Authenticator]
    mode: Mode
    resource: str | None = None  # what the policy says is the URL of what it protects


@dataclass
class Attached:
    """For each target of a policy, the authentications that it asks for, by field."""

    faults: Faults
    _found: dict[str, dict[Target, Authentication]] = field(default_factory=dict)
    _owners: dict[tuple[str, Target], str] = field(default_factory=dict)

    def attach(self, field: str, policy: Document[AgentgatewayPolicy], made: Authentication | None) -> None:
        """To the targets of the policy. What could not be made counts all the same: it was asked for."""
        for number, ref in enumerate(policy.model.spec.target_refs):
            target = (ref.kind, f"{policy.namespace}/{ref.name}")
            owner = self._owners.get((field, target))
            if owner is not None:
                article = "an" if field[0] in "aeiou" else "a"
                text = f"{ref.kind} {target[1]} has {article} {field} already, by {owner}"
                self.faults.add(policy.at(f"spec.targetRefs[{number}]", text), policy.order)
            self._owners[field, target] = policy.place
            if made is not None:
                self._found.setdefault(field, {})[target] = made

    def all(self) -> Iterator[Authentication]:
        """Every one, once for each of its targets."""
        for found in self._found.values():
            yield from found.values()

    def of(self, gateway: str | None, route: str) -> Sequence[Authentication]:
        """What holds for a route, in the order in which it is asked. Each field is one: the route's own replaces the
        Gateway's, and says nothing of the other fields."""
        fields = (self._found.get(field, {}) for field in ("jwtAuthentication", "apiKeyAuthentication"))
        both = [found.get(("HTTPRoute", route)) or found.get(("Gateway", gateway or "")) for found in fields]
        return [one for one in both if one is not None]


def check_targets(documents: Documents, gateways: frozenset[str], faults: Faults) -> None:
    """Note the targets that are not there. `gateways`: all that a route names."""
    there = {("Gateway", name) for name in gateways}
    there |= {("HTTPRoute", route.full_name) for route in documents.routes}
    there |= {("AgentgatewayBackend", backend.full_name) for backend in documents.backends}
    there |= {(kind, f"{namespace}/{name}") for kind, namespace, name in documents.unreadable}
    for policy in documents.policies:
        for number, ref in enumerate(policy.model.spec.target_refs):
            target = (ref.kind, f"{policy.namespace}/{ref.name}")
            unsure = documents.broken("HTTPRoute") if ref.kind == "Gateway" else documents.unknown
            if target not in there and not unsure:
                absent = "no HTTPRoute here names" if ref.kind == "Gateway" else "there is no"
                faults.add(policy.at(f"spec.targetRefs[{number}]", f"{absent} {ref.kind} {target[1]}"), policy.order)


def attach_keys(documents: Documents, keys: KeySources, attached: Attached) -> None:
    """Attach every `apiKeyAuthentication`."""
    for policy in documents.policies:
        wanted = policy.model.spec.traffic and policy.model.spec.traffic.api_key_authentication
        if wanted:
            made = _authentication(policy, wanted, documents, keys, attached.faults)
            attached.attach("apiKeyAuthentication", policy, made)


def _authentication(
    policy: Document[AgentgatewayPolicy],
    wanted: APIKeyAuthentication,
    documents: Documents,
    keys: KeySources,
    faults: Faults,
) -> Authentication | None:
    field, sources = _sources(policy, wanted, documents, faults)
    store = keys.keys(sources, f"{policy.place}: {_FIELD}.{field}", policy.order) if sources else None
    location = location_of(policy, wanted.location, _FIELD, faults)
    if store is None or location is None:
        return None
    return Authentication(policy, [APIKeyAuth(store, location=location)], MODES[wanted.mode])


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
    if field and not sources and not (documents.unknown or (field != "secretRef" and documents.broken(kind))):
        absent = absent or f"no {kind} in namespace {policy.namespace} has these labels"
        faults.add(policy.at(f"{_FIELD}.{field}", absent), policy.order)
    return field, sources


def _selected(candidates: Sequence[Source], namespace: str, selector: Selector) -> list[Source]:
    wanted = selector.match_labels.items()
    return [one for one in candidates if one.namespace == namespace and wanted <= one.model.metadata.labels.items()]


def location_of(
    policy: Document[AgentgatewayPolicy], written: CredentialLocation | None, field: str, faults: Faults
) -> Location | None:
    """Where a credential is read, by the `location` of this field of a policy; None for a fault."""
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
        faults.add(policy.at(f"{field}.location", str(exc)), policy.order)
    return None
