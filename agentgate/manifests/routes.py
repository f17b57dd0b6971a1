"""HTTPRoute documents to Routes: one for each match of each rule, and one backend for each Service port.

Which Gateway is meant is read from the routes themselves, as Gateway documents are not among those that are read.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from urllib.parse import unquote

from ..errors import ConfigurationError
from ..proxy.backend import HTTPBackend
from ..proxy.route import Exact, Prefix, Regex, Route, route_url
from ..rules import CELRules
from .authorization import Rules, rules_for
from .guard import guarded
from .kinds import AgentgatewayPolicy, BackendRef, HTTPRoute, PathMatch, RouteMatch, ServiceRef, ValueMatch
from .model import NOT_SUPPORTED
from .policies import Attached, Authentication
from .read import Document, Faults

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
    _backends: dict[str, HTTPBackend | None] = field(default_factory=dict)
    _named: set[str] = field(default_factory=set)  # by policies
    _resolves: dict[str, bool] = field(default_factory=dict)

    def check(self, route: Document[HTTPRoute], ref: BackendRef, path: str, *, served: bool) -> str:
        """Note what is wrong with a reference. Returns `namespace/name:port`.

        Where a Service lives is asked only when the route is `served` here.
        """
        service = f"{route.namespace}/{ref.name}:{ref.port}"
        if ref.namespace not in (None, route.namespace):
            text = f"{NOT_SUPPORTED}: a backend in another namespace, which needs a ReferenceGrant"
            self.faults.add(route.at(f"{path}.namespace", text), route.order)
            return service
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

    def backend(self, service: str) -> HTTPBackend:
        """The backend of a Service, once nothing is wrong."""
        backend = self._backends[service]
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
"""A route document, one match of it, and the Service its rule sends traffic to."""


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


def build_routes(
    plan: Sequence[Plan], gateway: str, services: Services, attached: Attached, rules: Rules
) -> Iterator[Route]:
    """The Routes of a plan without faults. An authentication of the route replaces the Gateway's of the same kind, the
    rules of both hold."""
    made: dict[str, list[CELRules]] = {}
    for document, match, service in plan:
        if document.full_name not in made:
            made[document.full_name] = rules_for(rules, gateway, document.full_name)
        yield Route(
            path_of(match),
            hosts=document.model.spec.hostnames,
            methods=[match.method] if match.method else [],
            headers=_values(match.headers, str.lower),
            query=_values(match.query_params, str),
            name=document.full_name,
            **guarded(services.backend(service), attached.of(gateway, document.full_name), made[document.full_name]),
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
