"""Keys and routes, as documents write them, field by field; fields that are only the cluster's own book-keeping are
let in and not looked at. What the Gateway API knows beyond this is named here, so that it is refused as not supported
rather than as unknown."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field

from .model import NOT_SUPPORTED, Fault, Label, Model, Name, Unsupported, fault, refuse_values

GATEWAY_API: Final = "gateway.networking.k8s.io"
AGENTGATEWAY: Final = "agentgateway.dev"
INFERENCE: Final = "inference.networking.k8s.io"

Text = Annotated[str, Field(min_length=1, max_length=4096)]
FieldName = Annotated[str, Field(min_length=1, max_length=256)]
Port = Annotated[int, Field(ge=1, le=65535)]
Labels = dict[str, str]


def _moment(value: Any) -> Any:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            fault("a time such as 2030-01-31T00:00:00Z")
    if isinstance(value, datetime) and value.tzinfo is None:
        fault("a time has a time zone, such as 2030-01-31T00:00:00Z")
    return value


class Metadata(Model):
    name: Name
    namespace: Label = "default"
    labels: Labels = Field(default_factory=dict)
    creation_timestamp: Annotated[datetime | None, BeforeValidator(_moment)] = None
    # What a cluster writes into documents, and what only its tools read.
    annotations: Any = None
    finalizers: Any = None
    generation: Any = None
    managed_fields: Any = None
    owner_references: Any = None
    resource_version: Any = None
    self_link: Any = None
    uid: Any = None


class KubernetesDocument(Model):
    metadata: Metadata
    status: Any = None  # what a controller found, not what is wanted


# -- keys ------------------------------------------------------------------------------------------------------------


class Secret(KubernetesDocument):
    api_version: Literal["v1"]
    kind: Literal["Secret"]
    type: str = "Opaque"
    immutable: bool = False
    data: dict[str, str] = Field(default_factory=dict, repr=False)
    string_data: dict[str, str] = Field(default_factory=dict, repr=False)


class ConfigMap(KubernetesDocument):
    api_version: Literal["v1"]
    kind: Literal["ConfigMap"]
    immutable: bool = False
    data: dict[str, str] = Field(default_factory=dict, repr=False)
    binary_data: Unsupported = None


# -- routes ----------------------------------------------------------------------------------------------------------

_HOSTNAME: Final = re.compile(r"(?:\*\.)?[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")
_PATH: Final = re.compile(r"/(?:[A-Za-z0-9/\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2})*")
_PATH_TWISTS: Final = re.compile(r"//|/\.\.?(?:/|$)|%2[Ff]")
_METHODS = Literal["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]


def _hostname(value: Any) -> Any:
    if isinstance(value, str) and (len(value) > 253 or _HOSTNAME.fullmatch(value) is None):
        fault("a lower-case host name, with or without *. in front, and without a port")
    return value


def _weight(value: Any) -> Any:
    if value != 1:
        fault(f"a weight other than 1 is {NOT_SUPPORTED}")
    return value


def _regex_fault(raw: Mapping[str, Any]) -> Iterator[Fault]:
    value = raw.get("value")
    if raw.get("type") == "RegularExpression" and isinstance(value, str):
        try:
            re.compile(value)
        except re.error as exc:
            yield ("value",), f"no regular expression: {exc.msg}"


def group_faults(kind: Any, group: Any, otherwise: str) -> Iterator[Fault]:
    """That an AgentgatewayBackend is of its own group, and nothing else is."""
    if group in (AGENTGATEWAY, otherwise) and (kind == "AgentgatewayBackend") != (group == AGENTGATEWAY):
        wanted = AGENTGATEWAY if kind == "AgentgatewayBackend" else repr(otherwise)
        yield ("group",), f"it is {wanted} for this kind"


class ParentRef(Model):
    group: Literal["gateway.networking.k8s.io"] = GATEWAY_API
    kind: Annotated[Literal["Gateway"], refuse_values("Service", "ListenerSet")] = "Gateway"
    namespace: Label | None = None
    name: Name
    section_name: Unsupported = None
    port: Unsupported = None


class PathMatch(Model):
    type: Literal["Exact", "PathPrefix", "RegularExpression"] = "PathPrefix"
    value: Annotated[str, Field(min_length=1, max_length=1024)] = "/"

    @classmethod
    def faults(cls, raw: Mapping[str, Any]) -> Iterator[Fault]:
        yield from _regex_fault(raw)
        value = raw.get("value")
        if isinstance(value, str) and value and raw.get("type", "PathPrefix") in ("Exact", "PathPrefix"):
            if _PATH.fullmatch(value) is None:
                yield ("value",), "a path begins with a slash, and has no query and no character outside of RFC 3986"
            elif _PATH_TWISTS.search(value):
                yield ("value",), "a path has no empty segment, no dot segment and no encoded slash"


class ValueMatch(Model):
    """A header or a query parameter."""

    type: Literal["Exact", "RegularExpression"] = "Exact"
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+\-.^_`|~]+$", max_length=256)]
    value: Text

    @classmethod
    def faults(cls, raw: Mapping[str, Any]) -> Iterator[Fault]:
        yield from _regex_fault(raw)


class RouteMatch(Model):
    path: PathMatch | None = None
    method: _METHODS | None = None
    headers: list[ValueMatch] = Field(default_factory=list, max_length=16)
    query_params: list[ValueMatch] = Field(default_factory=list, max_length=16)


class BackendRef(Model):
    group: Annotated[Literal["", "agentgateway.dev"], refuse_values(INFERENCE)] = ""
    kind: Annotated[Literal["Service", "AgentgatewayBackend"], refuse_values("InferencePool", "Hostname")] = "Service"
    namespace: Label | None = None
    name: Label
    port: Port | None = None
    weight: Annotated[int, BeforeValidator(_weight)] = 1
    filters: Unsupported = None

    @classmethod
    def faults(cls, raw: Mapping[str, Any]) -> Iterator[Fault]:
        kind = raw.get("kind", "Service")
        yield from group_faults(kind, raw.get("group", ""), "")
        if kind == "Service" and raw.get("port") is None:
            yield ("port",), "required"
        if kind == "AgentgatewayBackend" and raw.get("port") is not None:
            yield ("port",), "an AgentgatewayBackend says its port itself"


class RouteRule(Model):
    name: Name | None = None
    matches: list[RouteMatch] = Field(default_factory=list, max_length=64)
    backend_refs: list[BackendRef] = Field(default_factory=list)
    filters: Unsupported = None
    timeouts: Unsupported = None
    retry: Unsupported = None
    session_persistence: Unsupported = None

    @classmethod
    def faults(cls, raw: Mapping[str, Any]) -> Iterator[Fault]:
        refs = raw.get("backendRefs", [])
        if isinstance(refs, list) and len(refs) != 1:
            problem = (
                f"several backends are {NOT_SUPPORTED}" if refs else f"a rule without a backend is {NOT_SUPPORTED}"
            )
            yield ("backendRefs",), problem


class HTTPRouteSpec(Model):
    parent_refs: list[ParentRef] = Field(min_length=1, max_length=32)
    hostnames: list[Annotated[str, BeforeValidator(_hostname)]] = Field(default_factory=list, max_length=16)
    rules: list[RouteRule] = Field(min_length=1, max_length=16)
    use_default_gateways: Unsupported = None


class HTTPRoute(KubernetesDocument):
    api_version: Literal["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"]
    kind: Literal["HTTPRoute"]
    spec: HTTPRouteSpec
