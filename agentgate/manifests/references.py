"""References from routes to backends: where each leads, or why nowhere.

As in the Gateway API, what leads nowhere takes its share of the requests, and answers them with 500: a Service that is
not there, one of another namespace that has not granted it, a kind that nobody knows. It is told as a warning. In which
namespaces Services are known is for `Service` documents to say; where there are none, every Service may be there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .filter_kinds import ObjectRef
from .kinds import GATEWAY_API
from .read import Document, Documents
from .route_kinds import HTTPRoute


@dataclass
class References:
    """What is known of where references may lead."""

    documents: Documents
    elsewhere: Mapping[str, str]
    warnings: dict[str, None] = field(default_factory=dict)  # in order, each once

    def note(self, warning: str) -> None:
        """Something that whoever starts it should know."""
        self.warnings.setdefault(warning)

    def name(self, route: Document[HTTPRoute], ref: ObjectRef, path: str, *, served: bool) -> str | None:
        """`namespace/name:port` of a Service, or `namespace/name` of an AgentgatewayBackend; None for what leads
        nowhere, of which a warning is noted where the route is `served` here."""
        namespace = ref.namespace or route.namespace
        full = f"{namespace}/{ref.name}"
        problem = None
        if ref.kind not in ("Service", "AgentgatewayBackend"):
            problem = f"nobody knows the kind {ref.kind}"
        elif ref.group not in ("", "agentgateway.dev"):
            problem = f"nobody knows the group {ref.group}"
        elif namespace != route.namespace and not self._granted(route, ref, namespace):
            problem = f"no ReferenceGrant in {namespace} lets routes of {route.namespace} lead to {ref.kind} {ref.name}"
        elif ref.kind == "Service" and not self._is_there(namespace, ref):
            problem = f"there is no Service {full} with port {ref.port}"
        if problem is not None:
            if served:
                self.note(route.at(path, f"{problem}: its requests get 500"))
            return None
        return f"{full}:{ref.port}" if ref.kind == "Service" else full

    def _granted(self, route: Document[HTTPRoute], ref: ObjectRef, namespace: str) -> bool:
        return any(
            grant.namespace == namespace
            and any(
                (one.group, one.kind, one.namespace) == (GATEWAY_API, "HTTPRoute", route.namespace)
                for one in grant.model.spec.from_
            )
            and any(
                (one.group, one.kind) == (ref.group, ref.kind) and one.name in (None, ref.name)
                for one in grant.model.spec.to
            )
            for grant in self.documents.grants
        )

    def _is_there(self, namespace: str, ref: ObjectRef) -> bool:
        known = [service for service in self.documents.services if service.namespace == namespace]
        if not known or f"{namespace}/{ref.name}:{ref.port}" in self.elsewhere:
            return True
        return any(
            service.name == ref.name and any(one.port == ref.port for one in service.model.spec.ports)
            for service in known
        )
