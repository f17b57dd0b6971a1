"""HTTPRoute documents to Routes: one for each match of each rule, on each listener that takes it.

Which Gateway is meant is read from the routes themselves: it need not have a document.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, NamedTuple
from urllib.parse import unquote

from ..allowed_models import AllowedModels
from ..errors import ConfigurationError
from ..policy import Authorizer
from ..protocols.protocol import Protocol
from ..proxy.cors import CORS
from ..proxy.destination import Backend, NoBackend
from ..proxy.filters import Filter, filter_faults
from ..proxy.paths import Exact, Path, Prefix, Regex
from ..proxy.route import Route, route_url
from ..proxy.weighted import Filtered, Weighted
from .authorization import Rules, rules_for
from .filter_kinds import ObjectRef, RouteFilter
from .filters import make_filters
from .gateways import Attachment, Listeners
from .guard import guarded
from .model import NOT_SUPPORTED
from .policies import Attached, Authentication
from .rate_limits import Limits, limits_for, wanted_limits
from .read import Document, Documents, Faults
from .route_kinds import HTTPRoute, PathMatch, RouteMatch, RouteRule, ValueMatch
from .route_policies import RoutePolicies
from .services import Services

_LAST: Final = datetime.max.replace(tzinfo=UTC)  # a document that no cluster has stamped is the newest
_ANY: Final = (RouteMatch(),)


def gateways_of(route: Document[HTTPRoute]) -> frozenset[str]:
    """The Gateways that a route attaches to, as `namespace/name`."""
    return frozenset(f"{ref.namespace or route.namespace}/{ref.name}" for ref in route.model.spec.parent_refs)


def choose_gateway(named: frozenset[str], wanted: str | None, faults: Faults) -> str | None:
    """The one Gateway that this process is."""
    if wanted is not None:
        if wanted not in named:
            faults.add(f"gateway {wanted}: no HTTPRoute names it{_list(named)}")
        return wanted
    if len(named) > 1:
        faults.add(
            f"the routes name several Gateways{_list(named)}: say which one this is with --gateway NAMESPACE/NAME"
        )
    return next(iter(named), None)


def _list(names: frozenset[str]) -> str:
    return f" ({', '.join(sorted(names))})" if names else ""


@dataclass(frozen=True, eq=False)
class Rule:
    """One rule of a route: the Services and AgentgatewayBackends that it names (None: it leads nowhere) with their
    weights and their own filters, and its own filters."""

    backends: Sequence[tuple[str | None, int, Sequence[Filter]]]
    filters: Sequence[Filter]
    timeout: float | None
    backend_timeout: float | None

    @property
    def service(self) -> str | None:
        """The only one that it names."""
        return self.backends[0][0] if len(self.backends) == 1 else None

    def backend(self, path: Path, services: Services) -> Backend:
        """Where it leads, behind its filters."""
        shares: list[tuple[Backend, int]] = []
        for service, weight, filters in self.backends:
            one = _backend(service, services)
            shares.append((Filtered(one, filters, path=path) if filters else one, weight))
        if not any(weight for _, weight in shares):
            backend: Backend = NoBackend()
        else:
            backend = shares[0][0] if len(shares) == 1 else Weighted(shares)
        inner = [one for one in self.filters if not isinstance(one, CORS)]
        if not inner and self.timeout is None and self.backend_timeout is None:
            return backend
        return Filtered(backend, inner, path=path, timeout=self.timeout, backend_timeout=self.backend_timeout)


def _backend(service: str | None, services: Services) -> Backend:
    if service is None:
        return NoBackend("backend does not exist")
    backend = services.backend(service)
    assert backend is not None  # or it would have been a fault
    return backend


class Plan(NamedTuple):
    """One match of a rule of a route document, on one listener."""

    document: Document[HTTPRoute]
    rule: Rule
    match: RouteMatch
    attached: Attachment


def plan_routes(
    documents: Sequence[Document[HTTPRoute]],
    listeners: Listeners,
    services: Services,
    policies: RoutePolicies,
    warn: Callable[[str], object],
) -> list[Plan]:
    """What to route, in the order in which the Gateway API breaks ties: the oldest, then by name, then as written.

    Routes of other Gateways are checked, and left out; of a route that no listener takes, `warn` is told.
    """
    plan: list[Plan] = []
    for document in sorted(documents, key=_seniority):
        served = listeners.gateway in gateways_of(document)
        attached = listeners.attachments(document)
        if served and not attached:
            warn(document.at("spec.parentRefs", "no listener takes this route"))
        for number, written in enumerate(document.model.spec.rules):
            rule = _rule(document, written, f"spec.rules[{number}]", services, served=bool(attached))
            if attached:
                rule = _with_policies(rule, policies, listeners.gateway, document, services)
            plan += [Plan(document, rule, match, one) for match in written.matches or _ANY for one in attached]
    return plan


def _rule(document: Document[HTTPRoute], written: RouteRule, path: str, services: Services, *, served: bool) -> Rule:
    def backend_of(ref: ObjectRef, place: str) -> Backend | None:
        service = services.check(document, ref, place, served=served)
        return None if service is None else services.backend(service)

    def filters_at(filters: Sequence[RouteFilter], place: str, protocol: Protocol | None) -> list[Filter]:
        made = make_filters(document, filters, place, backend_of, services.faults)
        for matched in paths:
            for text in filter_faults(made, protocol, matched):
                services.faults.add(document.at(place, text), document.order)
        return made

    paths = [path_of(match) for match in written.matches or _ANY if not _is_faulty(match)]
    backends: list[tuple[str | None, int, Sequence[Filter]]] = []
    protocol = None
    for index, ref in enumerate(written.backend_refs):
        place = f"{path}.backendRefs[{index}]"
        service = services.check(document, ref, place, served=served)
        backend = None if service is None else services.backend(service)
        protocol = None if backend is None else backend.protocol
        if protocol is not None and len(written.backend_refs) > 1:
            text = f"it speaks {protocol.name}, and has to be the only backend of its rule"
            services.faults.add(document.at(place, text), document.order)
        filters = filters_at(ref.filters, f"{place}.filters", protocol)
        if any(isinstance(one, CORS) for one in filters):
            services.faults.add(document.at(f"{place}.filters", f"CORS is {NOT_SUPPORTED} there"), document.order)
        backends.append((service, ref.weight, filters))
    filters, limits = filters_at(written.filters, f"{path}.filters", protocol), written.timeouts
    if limits is None:
        return Rule(backends, filters, None, None)
    return Rule(backends, filters, limits.request, limits.backend_request)


def _with_policies(
    rule: Rule, policies: RoutePolicies, gateway: str | None, document: Document[HTTPRoute], services: Services
) -> Rule:
    """The rule with what policies say where it says nothing itself. A time limit of 0 is none."""
    backend = None if rule.service is None else services.backend(rule.service)
    policies.check(gateway, document.full_name, None if backend is None else backend.protocol)
    timeout = policies.timeout(gateway, document.full_name) if rule.timeout is None else rule.timeout
    return replace(
        rule,
        filters=[*rule.filters, *policies.filters(gateway, document.full_name, rule.filters)],
        timeout=timeout or None,
        backend_timeout=rule.backend_timeout or None,
    )


def _seniority(document: Document[HTTPRoute]) -> tuple[datetime, str, str]:
    return document.model.metadata.creation_timestamp or _LAST, document.namespace, document.name


def route_urls(
    plan: Sequence[Plan], gateway: str | None, attached: Attached, public_url: str | None
) -> dict[Authentication, set[str]]:
    """For each authentication that holds for a route, the URLs of all of its routes."""
    found: dict[Authentication, set[str]] = {}
    for document, _, match, attached_to in plan:
        url = public_url and route_url(public_url, path_of(match), attached_to.hosts)
        for one in attached.of(gateway, document.full_name):
            found.setdefault(one, set()).update([url] if url else [])
    return found


def check_locations(plan: Sequence[Plan], gateway: str | None, attached: Attached, faults: Faults) -> None:
    """Note the routes that nobody could call: two credentials are wanted in one place, and the first is taken away."""
    for document, *_ in plan:
        both = [one for one in attached.of(gateway, document.full_name) if one.mode == "strict"]
        if len(both) == 2 and both[0].authenticators[0].location == both[1].authenticators[0].location:
            text = (
                "jwtAuthentication and apiKeyAuthentication both read their credential there: give one of them another"
            )
            faults.add(
                both[1].policy.at("spec.traffic.apiKeyAuthentication.location", f"for {document.full_name} {text}"),
                both[1].policy.order,
            )


def check_protocols(
    plan: Sequence[Plan], gateway: str | None, documents: Documents, services: Services, url: str | None, faults: Faults
) -> None:
    """Note the policies about MCP and about tokens that are for what speaks neither, and the A2A agents that clients
    could not be told of."""
    for document, rule, match, attached_to in plan:
        agent = services.agents.get(rule.service or "") and _speaks(rule.service, services, "a2a")
        if agent and (url is None or route_url(url, path_of(match), attached_to.hosts) is None):
            text = f"clients of {rule.service} have to be told where this route is: it is one path below --public-url"
            faults.add(document.at("spec", text), document.order)
    served = {document.full_name for document, *_ in plan}
    others = {document.full_name for document in documents.routes} - served
    speaking = {speech: _speaking(speech, plan, gateway, documents, services) for speech in ("mcp", "llm")}
    for policy in documents.policies:
        wanted = policy.model.spec.backend
        about = {"mcp": "speaks MCP"} if wanted and wanted.mcp else {}
        if any(limit.tokens is not None for limit in wanted_limits(policy)):
            about["llm"] = "speaks to an LLM, whose tokens could be counted"
        for number, ref in enumerate(policy.model.spec.target_refs):
            name = f"{policy.namespace}/{ref.name}"
            elsewhere = (ref.kind == "HTTPRoute" and name in others) or (ref.kind == "Gateway" and name != gateway)
            for speech, text in about.items():
                if not elsewhere and (ref.kind, name) not in speaking[speech]:
                    text = f"{ref.kind} {name} has nothing that {text}"
                    faults.add(policy.at(f"spec.targetRefs[{number}]", text), policy.order)


def _speaking(
    protocol: str, plan: Sequence[Plan], gateway: str | None, documents: Documents, services: Services
) -> set[tuple[str, str]]:
    """What speaks a protocol, or leads to what does."""
    found = {
        ("AgentgatewayBackend", one.full_name)
        for one in documents.backends
        if _speaks(one.full_name, services, protocol)
    }
    for document, rule, *_ in plan:
        if _speaks(rule.service, services, protocol):
            found |= {("Gateway", gateway or ""), ("HTTPRoute", document.full_name)}
    return found


def _speaks(service: str | None, services: Services, protocol: str) -> bool:
    return service is not None and ":" not in service and services.agents.speaks(service, protocol)


def build_routes(
    plan: Sequence[Plan],
    gateway: str,
    services: Services,
    attached: Attached,
    rules: Rules,
    mcp_rules: Rules,
    limits: Limits,
    public_url: str | None,
) -> Iterator[Route]:
    """The Routes of a plan without faults. An authentication of the route replaces the Gateway's of the same kind, and
    its limits the Gateway's; the rules of both hold."""
    made: dict[tuple[str, str | None], list[Authorizer]] = {}
    for document, rule, match, attached_to in plan:
        name, service, path = document.full_name, rule.service, path_of(match)
        if (name, service) not in made:
            passed = ("Gateway", gateway), ("HTTPRoute", name)
            made[name, service] = [*rules_for(rules, *passed)]
            if _speaks(service, services, "mcp"):
                made[name, service] += rules_for(mcp_rules, *passed, ("AgentgatewayBackend", service or ""))
            llm = _speaks(service, services, "llm")
            if llm:
                made[name, service] += [AllowedModels()]  # what a key says of itself holds
            made[name, service] += limits_for(limits, gateway, name, llm=llm)  # last: what is refused costs nothing
        url = public_url and route_url(public_url, path, attached_to.hosts)
        yield Route(
            path,
            hosts=attached_to.hosts,
            listener=attached_to.listener,
            filters=[one for one in rule.filters if isinstance(one, CORS)],
            methods=[match.method] if match.method else [],
            headers=_values(match.headers, str.lower),
            query=_values(match.query_params, str),
            name=name,
            **guarded(rule.backend(path, services), attached.of(gateway, name), made[name, service], url),
        )


def path_of(route_match: RouteMatch) -> Path:
    """What a match says of the path."""
    match = route_match.path or PathMatch()
    if match.type == "RegularExpression":
        return Regex(match.value)
    path = unquote(match.value)  # routes are matched on the decoded path
    # A prefix is made of segments: its last slash says nothing, and must not count as length either.
    return Exact(path) if match.type == "Exact" else Prefix(path.rstrip("/") or "/")


def _is_faulty(match: RouteMatch) -> bool:
    try:
        path_of(match)
    except ConfigurationError:  # of a regular expression, which was a fault
        return True
    return False


def _values(matches: Sequence[ValueMatch], same: Callable[[str], str]) -> dict[str, str | re.Pattern[str]]:
    """By name; of several matches for one name the first counts, as the Gateway API says."""
    values: dict[str, str | re.Pattern[str]] = {}
    for match in matches:
        value = re.compile(match.value) if match.type == "RegularExpression" else match.value
        values.setdefault(same(match.name), value)
    return values
