"""Where the Services that documents refer to live, and their backends: one for each Service port.

AgentgatewayBackends have their own; which of the two a reference leads to is found here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ..errors import ConfigurationError
from ..proxy.backend import HTTPBackend
from ..proxy.destination import Backend
from .backends import AgentBackends
from .filter_kinds import ObjectRef
from .model import NOT_SUPPORTED
from .policy_kinds import AgentgatewayPolicy, ServiceRef
from .read import Document, Faults
from .references import References
from .route_kinds import HTTPRoute


@dataclass
class Services:
    """Where the Services of the routes live.

    `elsewhere` says it for `namespace/name:port`; `resolve` whether a host name is known here, None to believe all.
    """

    elsewhere: Mapping[str, str]
    resolve: Callable[[str], bool] | None
    faults: Faults
    agents: AgentBackends
    references: References
    _backends: dict[str, HTTPBackend | None] = field(default_factory=dict)
    _named: set[str] = field(default_factory=set)  # by policies
    _resolves: dict[str, bool] = field(default_factory=dict)

    def check(self, route: Document[HTTPRoute], ref: ObjectRef, path: str, *, served: bool) -> str | None:
        """Note what is wrong with a reference. Returns `namespace/name:port`, or `namespace/name` of an
        AgentgatewayBackend; None for a reference that leads nowhere.

        Where a Service lives is asked only when the route is `served` here.
        """
        service = self.references.name(route, ref, path, served=served)
        if service is None:
            return None
        if ref.kind == "AgentgatewayBackend":
            if not self.agents.known(service):
                self.faults.add(route.at(path, f"there is no AgentgatewayBackend {service}"), route.order)
            return service
        if ref.port is None:
            return service  # which was a fault
        host = f"{ref.name}.{ref.namespace or route.namespace}"
        if service not in self._backends:
            self._backends[service] = self._make(service, host, ref.port)
        if served and service not in self.elsewhere and not self._known(host):
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

    def backend(self, service: str) -> Backend | None:
        """The backend of a Service or an AgentgatewayBackend; None for a fault that was noted."""
        return self._backends.get(service) if ":" in service else self.agents.get(service)

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
