"""Gateway, ReferenceGrant, Namespace and Service, as documents write them: what decides which routes there are, and
where they may lead. None of them has to be there."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field

from .kinds import GATEWAY_API, KubernetesDocument, Labels, Port
from .model import NOT_SUPPORTED, Fault, Label, Model, Name, Unsupported
from .route_kinds import Hostname


class NamespaceSelector(Model):
    match_labels: Labels = Field(min_length=1)
    match_expressions: Unsupported = None


class RouteNamespaces(Model):
    from_: Annotated[Literal["All", "Same", "Selector", "None"], Field(alias="from")] = "Same"
    selector: NamespaceSelector | None = None

    @classmethod
    def faults(cls, raw: Mapping[str, Any]) -> Iterator[Fault]:
        if (raw.get("from") == "Selector") != (raw.get("selector") is not None):
            yield ("selector",), "it is set with from: Selector, and only then"


class RouteKind(Model):
    group: str = GATEWAY_API
    kind: str


class AllowedRoutes(Model):
    namespaces: RouteNamespaces = RouteNamespaces()
    kinds: list[RouteKind] = Field(default_factory=list, max_length=8)


class Listener(Model):
    name: Name
    hostname: Hostname | None = None
    port: Port
    protocol: str
    allowed_routes: AllowedRoutes = AllowedRoutes()
    tls: Any = None  # of listeners that are not HTTP, which is a fault where they are to be served


class GatewaySpec(Model):
    gateway_class_name: str
    listeners: list[Listener] = Field(min_length=1, max_length=64)
    addresses: Any = None  # where the cluster puts it
    infrastructure: Any = None
    allowed_listeners: Unsupported = None
    default_scope: Unsupported = None
    tls: Unsupported = None

    @classmethod
    def faults(cls, raw: Mapping[str, Any]) -> Iterator[Fault]:
        listeners = raw.get("listeners")
        names: list[Any] = []
        places: list[Any] = []
        for number, one in enumerate(listeners if isinstance(listeners, list) else ()):
            if isinstance(one, dict):
                place = one.get("port"), one.get("protocol"), one.get("hostname")
                if one.get("name") in names:
                    yield ("listeners", number, "name"), "Listener name must be unique within the Gateway"
                if place in places:
                    yield (
                        ("listeners", number),
                        "Combination of port, protocol and hostname must be unique for each listener",
                    )
                names.append(one.get("name"))
                places.append(place)


class GatewayDocument(KubernetesDocument):
    api_version: Literal["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"]
    kind: Literal["Gateway"]
    spec: GatewaySpec


class GrantFrom(Model):
    group: str
    kind: str
    namespace: Label


class GrantTo(Model):
    group: str
    kind: str
    name: str | None = None


class GrantSpec(Model):
    from_: Annotated[list[GrantFrom], Field(alias="from", min_length=1, max_length=16)]
    to: list[GrantTo] = Field(min_length=1, max_length=16)


class ReferenceGrant(KubernetesDocument):
    api_version: Literal["gateway.networking.k8s.io/v1beta1", "gateway.networking.k8s.io/v1"]
    kind: Literal["ReferenceGrant"]
    spec: GrantSpec


class Namespace(KubernetesDocument):
    api_version: Literal["v1"]
    kind: Literal["Namespace"]
    spec: Any = None


_SPOKEN: Final = (None, "http", "HTTP", "kubernetes.io/ws")


class ServicePort(Model):
    model_config = ConfigDict(extra="ignore")  # which pods are behind it is for the cluster

    port: Port
    app_protocol: str | None = None

    @classmethod
    def faults(cls, raw: Mapping[str, Any]) -> Iterator[Fault]:
        if raw.get("appProtocol") not in _SPOKEN:
            yield ("appProtocol",), f"another protocol than HTTP/1.1 is {NOT_SUPPORTED}"


class ServiceSpec(Model):
    model_config = ConfigDict(extra="ignore")

    ports: list[ServicePort] = Field(default_factory=list)
    external_name: Unsupported = None  # a name outside of the cluster, by which routes could lead anywhere


class Service(KubernetesDocument):
    api_version: Literal["v1"]
    kind: Literal["Service"]
    spec: ServiceSpec
