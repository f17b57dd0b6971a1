"""Gateway documents to listeners: which routes are attached to which, and for which hosts.

A Gateway that has no document is one listener, which takes every route that names the Gateway.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from .gateway_kinds import GatewayDocument, Listener
from .kinds import GATEWAY_API
from .model import NOT_SUPPORTED
from .read import Document, Documents, Faults
from .route_kinds import HTTPRoute, ParentRef


class Attachment(NamedTuple):
    """That a route is attached to a listener of this host name (None: any), for these hosts (none: all of its)."""

    listener: str | None
    hosts: tuple[str, ...]


@dataclass
class Listeners:
    """The listeners of the Gateway `namespace/name` that this process is: those of one port."""

    documents: Documents
    gateway: str | None
    port: int | None
    faults: Faults
    _document: Document[GatewayDocument] | None = field(init=False, default=None)
    _served: Sequence[Listener] = field(init=False, default=())

    def __post_init__(self) -> None:
        for document in self.documents.gateways:
            if document.full_name == self.gateway:
                self._document = document
                self._served = self._of_one_port(document)
        if self._document is None and self.port is not None:
            self.faults.add(f"listener port {self.port}: there is no Gateway {self.gateway} that would have it")

    def _of_one_port(self, document: Document[GatewayDocument]) -> Sequence[Listener]:
        ports = sorted({listener.port for listener in document.model.spec.listeners})
        shown = ", ".join(map(str, ports))
        if self.port is None and len(ports) > 1:
            text = f"it listens on several ports ({shown}): say which one this is with --listener-port PORT"
            self.faults.add(document.at("spec.listeners", text), document.order)
            return ()
        if self.port is not None and self.port not in ports:
            text = f"no listener has port {self.port} ({shown})"
            self.faults.add(document.at("spec.listeners", text), document.order)
        served = []
        for number, listener in enumerate(document.model.spec.listeners):
            if self.port in (None, listener.port):
                if listener.protocol != "HTTP":
                    text = f"another protocol than HTTP is {NOT_SUPPORTED}: TLS ends in front of it"
                    self.faults.add(document.at(f"spec.listeners[{number}].protocol", text), document.order)
                served.append(listener)
        return served

    def hostnames(self) -> list[str | None]:
        """That of each listener; None for one that has none."""
        return [listener.hostname for listener in self._served]

    def attachments(self, route: Document[HTTPRoute]) -> list[Attachment]:
        """What the route is attached to. What it refers to and is not there is a fault, or may be another port's."""
        found: dict[str, Attachment] = {}
        for number, ref in enumerate(route.model.spec.parent_refs):
            if f"{ref.namespace or route.namespace}/{ref.name}" != self.gateway:
                continue
            if self._document is None:
                for name, value in (("sectionName", ref.section_name), ("port", ref.port)):
                    if value is not None:
                        text = f"there is no Gateway {self.gateway} that would have such a listener"
                        self.faults.add(route.at(f"spec.parentRefs[{number}].{name}", text), route.order)
                found[""] = Attachment(None, tuple(route.model.spec.hostnames))
                continue
            self._check(route, ref, number)
            for listener in self._served:
                if _means(ref, listener) and self._admits(listener, route):
                    hosts = _common(listener.hostname, route.model.spec.hostnames)
                    if hosts is not None:
                        found[listener.name] = Attachment(listener.hostname, hosts)
        return [*found.values()]

    def _check(self, route: Document[HTTPRoute], ref: ParentRef, number: int) -> None:
        assert self._document is not None
        if not any(_means(ref, listener) for listener in self._document.model.spec.listeners):
            text = f"Gateway {self.gateway} has no such listener"
            self.faults.add(route.at(f"spec.parentRefs[{number}]", text), route.order)

    def _admits(self, listener: Listener, route: Document[HTTPRoute]) -> bool:
        assert self._document is not None
        kinds = listener.allowed_routes.kinds
        if kinds and not any((kind.group, kind.kind) == (GATEWAY_API, "HTTPRoute") for kind in kinds):
            return False
        namespaces = listener.allowed_routes.namespaces
        if namespaces.from_ == "Same":
            return route.namespace == self._document.namespace
        if namespaces.selector is not None:
            labels = namespaces.selector.match_labels.items()
            return labels <= self._labels(route.namespace).items()
        return namespaces.from_ == "All"

    def _labels(self, namespace: str) -> Mapping[str, str]:
        """Those of its document; without one, nothing is known of it but its name."""
        labels = {"kubernetes.io/metadata.name": namespace}
        for document in self.documents.namespaces:
            if document.name == namespace:
                return document.model.metadata.labels | labels
        return labels


def _means(ref: ParentRef, listener: Listener) -> bool:
    return ref.section_name in (None, listener.name) and ref.port in (None, listener.port)


def _common(listener: str | None, hosts: Sequence[str]) -> tuple[str, ...] | None:
    """The hosts that a listener and a route have in common, none for all; None where they have none in common."""
    if listener is None:
        return tuple(hosts)
    if not hosts:
        return (listener,)
    return tuple(_intersections(listener, hosts)) or None


def _intersections(listener: str, hosts: Sequence[str]) -> Iterator[str]:
    for host in hosts:
        if _covers(listener, host):
            yield host
        elif _covers(host, listener):
            yield listener


def _covers(name: str, other: str) -> bool:
    """Whether whatever the second name stands for, the first does as well."""
    return name == other or (name.startswith("*.") and other.removeprefix("*").endswith(name[1:]))
