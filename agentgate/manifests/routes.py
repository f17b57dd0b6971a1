"""HTTPRoute documents to Routes: one for each match of each rule, and one backend for each Service port and
each AgentgatewayBackend.

Which Gateway is meant is read from the routes themselves, as Gateway documents are not among those that are read.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from urllib.parse import unquote

from ..allowed_models import AllowedModels
from ..errors import ConfigurationError
from ..policy import Authorizer
from ..proxy.backend import HTTPBackend
from ..proxy.destination import Backend
from ..proxy.paths import Exact, Prefix, Regex
from ..proxy.route import Route, route_url
from .authorization import Rules, rules_for
from .backends import AgentBackends
from .guard import guarded
from .kinds import BackendRef, HTTPRoute, PathMatch, RouteMatch, ValueMatch
from .model import NOT_SUPPORTED
from .policies import Attached, Authentication
from .policy_kinds import AgentgatewayPolicy, ServiceRef
from .rate_limits import Limits, limits_for, wanted_limits
from .read import Document, Documents, Faults

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


@dataclass
class Services:
    """Where the Services of the routes live.

    `elsewhere` says it for `namespace/name:port`; `resolve` whether a host name is known here, None to believe all.
    """

    elsewhere: Mapping[str, str]
    resolve: Callable[[str], bool] | None
    faults: Faults
    agents: AgentBackends
    _backends: dict[str, HTTPBackend | None] = field(default_factory=dict)
    _named: set[str] = field(default_factory=set)  # by policies
    _resolves: dict[str, bool] = field(default_factory=dict)

    def check(self, route: Document[HTTPRoute], ref: BackendRef, path: str, *, served: bool) -> str:
        """Note what is wrong with a reference. Returns `namespace/name:port`, or `namespace/name` of an
        AgentgatewayBackend.

        Where a Service lives is asked only when the route is `served` here.
        """
        agent = ref.kind == "AgentgatewayBackend"
        service = f"{route.namespace}/{ref.name}" if agent else f"{route.namespace}/{ref.name}:{ref.port}"
        if ref.namespace not in (None, route.namespace):
            text = f"{NOT_SUPPORTED}: a backend in another namespace, which needs a ReferenceGrant"
            self.faults.add(route.at(f"{path}.namespace", text), route.order)
            return service
        if agent:
            if not self.agents.known(service):
                self.faults.add(route.at(path, f"there is no AgentgatewayBackend {service}"), route.order)
            return service
        if ref.port is None:
            return service  # which was a fault
        if service not in self._backends:
            self._backends[service] = self._make(service, f"{ref.name}.{route.namespace}", ref.port)
        if served and service not in self.elsewhere and not self._known(f"{ref.name}.{route.namespace}"):
            text = f"Service {service} does not resolve here; say where it lives: --backend {service}=http://HOST:PORT"
            self.faults.add(route.at(path, text), route.order)
        return service

    def url(self, policy: Document[AgentgatewayPolicy], ref: ServiceRef, path: str) -> str | None:
        """Where a Service lives that a policy refers to; None for a fault."""
        service = f"{policy.namespace}/{ref.name}:{ref.port}"
        host = f"{ref.name}.{policy.namespace}"
        self._named.add(service)
        if ref.namespace not in (None, policy.namespace):
            text = f"{NOT_SUPPORTED}: a backend in another namespace, which needs a ReferenceGrant"
            self.faults.add(policy.at(f"{path}.namespace", text), policy.order)
        elif service in self.elsewhere or self._known(host):
            # Where nobody resolves names, nobody calls: whether it will be https is not known, and no fault.
            return self.elsewhere.get(service, f"{'http' if self.resolve else 'https'}://{host}:{ref.port}")
        else:
            text = f"Service {service} does not resolve here; say where it lives: --backend {service}=https://HOST:PORT"
            self.faults.add(policy.at(path, text), policy.order)
        return None

    def check_unused(self) -> None:
        """Note what `elsewhere` says about Services that no route names."""
        for service in self.elsewhere:
            if service not in self._backends and service not in self._named:
                self.faults.add(f"backend {service}: no HTTPRoute has such a backendRef")

    def backend(self, service: str) -> Backend:
        """The backend of a Service or an AgentgatewayBackend, once nothing is wrong."""
        backend = self._backends[service] if ":" in service else self.agents.get(service)
        assert backend is not None
        return backend

    def _make(self, service: str, host: str, port: int) -> HTTPBackend | None:
        try:
            return HTTPBackend(self.elsewhere.get(service, f"http://{host}:{port}"), preserve_host=True)
        except ConfigurationError as exc:
            self.faults.add(f"backend {service}: {exc}")
            return None

    def _known(self, host: str) -> bool:
        if self.resolve is None:
            return True
        if host not in self._resolves:
            self._resolves[host] = self.resolve(host)
        return self._resolves[host]


Plan = tuple[Document[HTTPRoute], RouteMatch, str]
"""A route document, one match of it, and the Service or AgentgatewayBackend its rule sends traffic to."""


def plan_routes(documents: Sequence[Document[HTTPRoute]], gateway: str | None, services: Services) -> list[Plan]:
    """What to route, in the order in which the Gateway API breaks ties: the oldest, then by name, then as written.

    Routes of other Gateways are checked, and left out.
    """
    plan: list[Plan] = []
    for document in sorted(documents, key=_seniority):
        served = gateway in gateways_of(document)
        for number, rule in enumerate(document.model.spec.rules):
            for index, ref in enumerate(rule.backend_refs):
                path = f"spec.rules[{number}].backendRefs[{index}]"
                service = services.check(document, ref, path, served=served)
                if served:
                    plan += [(document, match, service) for match in rule.matches or _ANY]
    return plan


def _seniority(document: Document[HTTPRoute]) -> tuple[datetime, str, str]:
    return document.model.metadata.creation_timestamp or _LAST, document.namespace, document.name


def route_urls(
    plan: Sequence[Plan], gateway: str | None, attached: Attached, public_url: str | None
) -> dict[Authentication, set[str]]:
    """For each authentication that holds for a route, the URLs of all of its routes."""
    found: dict[Authentication, set[str]] = {}
    for document, match, _ in plan:
        url = public_url and route_url(public_url, path_of(match), document.model.spec.hostnames)
        for one in attached.of(gateway, document.full_name):
            found.setdefault(one, set()).update([url] if url else [])
    return found


def check_locations(plan: Sequence[Plan], gateway: str | None, attached: Attached, faults: Faults) -> None:
    """Note the routes that nobody could call: two credentials are wanted in one place, and the first is taken away."""
    for document, _, _ in plan:
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
    for document, match, service in plan:
        agent = ":" not in service and services.agents.get(service) and services.agents.speaks(service, "a2a")
        if agent and (url is None or route_url(url, path_of(match), document.model.spec.hostnames) is None):
            text = f"clients of {service} have to be told where this route is: it is one path below --public-url"
            faults.add(document.at("spec", text), document.order)
    served = {document.full_name for document, _, _ in plan}
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
    for document, _, service in plan:
        if _speaks(service, services, protocol):
            found |= {("Gateway", gateway or ""), ("HTTPRoute", document.full_name)}
    return found


def _speaks(service: str, services: Services, protocol: str) -> bool:
    return ":" not in service and services.agents.speaks(service, protocol)


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
    made: dict[tuple[str, str], list[Authorizer]] = {}
    for document, match, service in plan:
        name, hosts = document.full_name, document.model.spec.hostnames
        if (name, service) not in made:
            passed = ("Gateway", gateway), ("HTTPRoute", name)
            made[name, service] = [*rules_for(rules, *passed)]
            if _speaks(service, services, "mcp"):
                made[name, service] += rules_for(mcp_rules, *passed, ("AgentgatewayBackend", service))
            llm = _speaks(service, services, "llm")
            if llm:
                made[name, service] += [AllowedModels()]  # what a key says of itself holds
            made[name, service] += limits_for(limits, gateway, name, llm=llm)  # last: what is refused costs nothing
        url = public_url and route_url(public_url, path_of(match), hosts)
        yield Route(
            path_of(match),
            hosts=hosts,
            methods=[match.method] if match.method else [],
            headers=_values(match.headers, str.lower),
            query=_values(match.query_params, str),
            name=name,
            **guarded(services.backend(service), attached.of(gateway, name), made[name, service], url),
        )


def path_of(route_match: RouteMatch) -> Exact | Prefix | Regex:
    """What a match says of the path."""
    match = route_match.path or PathMatch()
    if match.type == "RegularExpression":
        return Regex(match.value)
    path = unquote(match.value)  # routes are matched on the decoded path
    # A prefix is made of segments: its last slash says nothing, and must not count as length either.
    return Exact(path) if match.type == "Exact" else Prefix(path.rstrip("/") or "/")


def _values(matches: Sequence[ValueMatch], same: Callable[[str], str]) -> dict[str, str | re.Pattern[str]]:
    """By name; of several matches for one name the first counts, as the Gateway API says."""
    values: dict[str, str | re.Pattern[str]] = {}
    for match in matches:
        value = re.compile(match.value) if match.type == "RegularExpression" else match.value
        values.setdefault(same(match.name), value)
    return values
