"""The kinds of document that are read, but for backends, field by field; fields that are only the cluster's own
book-keeping are let in and not looked at. What agentgateway and the Gateway API know beyond this is named here, so that
it is refused as not supported rather than as unknown."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import BeforeValidator, Field

from .expressions import NOT_IN_MCP, NOT_IN_TRAFFIC, expression_faults
from .model import NOT_SUPPORTED, Fault, Label, Model, Name, Unsupported, fault, refuse_values

GATEWAY_API: Final = "gateway.networking.k8s.io"
AGENTGATEWAY: Final = "agentgateway.dev"
INFERENCE: Final = "inference.networking.k8s.io"
MAX_EXPRESSION: Final = 16384  # characters

Text = Annotated[str, Field(min_length=1, max_length=4096)]
Expression = Annotated[str, Field(min_length=1, max_length=MAX_EXPRESSION)]
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


def _group_faults(kind: Any, group: Any, otherwise: str) -> Iterator[Fault]:
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
        yield from _group_faults(kind, raw.get("group", ""), "")
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


# -- policies --------------------------------------------------------------------------------------------------------


class TargetRef(Model):
    group: Annotated[Literal["gateway.networking.k8s.io", "agentgateway.dev"], refuse_values("", INFERENCE)]
    kind: Annotated[
        Literal["Gateway", "HTTPRoute", "AgentgatewayBackend"],
        refuse_values("Service", "GRPCRoute", "ListenerSet", "InferencePool"),
    ]
    name: Name
    section_name: Unsupported = None
    port: Unsupported = None

    @classmethod
    def faults(cls, raw: Mapping[str, Any]) -> Iterator[Fault]:
        yield from _group_faults(raw.get("kind"), raw.get("group"), GATEWAY_API)


class SecretRef(Model):
    name: Name


class Selector(Model):
    match_labels: Labels = Field(min_length=1)


class HeaderLocation(Model):
    name: FieldName
    prefix: Annotated[str, Field(max_length=256)] = ""


class NamedLocation(Model):
    name: FieldName


class CredentialLocation(Model):
    exactly_one_of = ("header", "queryParameter", "cookie", "expression")

    header: HeaderLocation | None = None
    query_parameter: NamedLocation | None = None
    cookie: NamedLocation | None = None
    expression: Unsupported = None


class APIKeyAuthentication(Model):
    exactly_one_of = ("secretRef", "secretSelector", "configMapSelector")

    mode: Literal["Strict", "Optional", "Permissive"] = "Strict"
    secret_ref: SecretRef | None = None
    secret_selector: Selector | None = None
    config_map_selector: Selector | None = None
    location: CredentialLocation | None = None


class AuthorizationRules(Model):
    absent: ClassVar[Mapping[str, str]] = NOT_IN_TRAFFIC  # variables that are not there when they decide

    match_expressions: list[Expression] = Field(min_length=1, max_length=256)

    @classmethod
    def faults(cls, raw: Mapping[str, Any]) -> Iterator[Fault]:
        texts = raw.get("matchExpressions")
        for number, text in enumerate(texts if isinstance(texts, list) else ()):
            if isinstance(text, str) and 0 < len(text) <= MAX_EXPRESSION:
                for problem in expression_faults(text, cls.absent):
                    yield ("matchExpressions", number), problem


class Authorization(Model):
    policy: AuthorizationRules
    action: Literal["Allow", "Deny", "Require"] = "Allow"


class MCPAuthorizationRules(AuthorizationRules):
    absent: ClassVar[Mapping[str, str]] = NOT_IN_MCP


class MCPAuthorization(Model):
    policy: MCPAuthorizationRules
    action: Literal["Allow", "Deny", "Require"] = "Allow"


class ServiceRef(Model):
    """A BackendRef without weight and filters."""

    group: Annotated[Literal[""], refuse_values(AGENTGATEWAY, INFERENCE)] = ""
    kind: Annotated[Literal["Service"], refuse_values("AgentgatewayBackend", "InferencePool")] = "Service"
    namespace: Label | None = None
    name: Label
    port: Port


_DURATION: Final = re.compile(r"(?:[0-9]{1,9}(?:h|m|s|ms))+")
_UNITS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def _seconds(value: Any) -> Any:
    """Of a duration as Kubernetes writes it, such as `1h30m`."""
    if not isinstance(value, str) or _DURATION.fullmatch(value) is None:
        fault("a duration such as 5m or 1h30m")
    seconds = sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9]+)(ms|h|m|s)", value))
    if seconds < 300:
        fault("cacheDuration must be at least 5m.")
    return seconds


class RemoteKeys(Model):
    exactly_one_of = ("backendRef", "url")

    backend_ref: ServiceRef | None = None
    url: Annotated[str, Field(min_length=1, max_length=2048)] | None = None
    jwks_path: Annotated[str, Field(pattern=r"^/?[A-Za-z0-9\-._~!$&'()*+,;=:@%/]+$", max_length=2000)] | None = None
    cache_duration: Annotated[float, BeforeValidator(_seconds)] = 300.0

    @classmethod
    def faults(cls, raw: Mapping[str, Any]) -> Iterator[Fault]:
        yield from super().faults(raw)
        if raw.get("backendRef") is not None and raw.get("jwksPath") is None:
            yield ("jwksPath",), "jwksPath is required when backendRef is set"
        if raw.get("url") is not None and raw.get("jwksPath") is not None:
            yield ("jwksPath",), "jwksPath may not be set when url is set"


class ProviderKeys(Model):
    exactly_one_of = ("inline", "remote")

    inline: Annotated[str, Field(min_length=2, max_length=65536)] | None = None
    remote: RemoteKeys | None = None


class Provider(Model):
    issuer: Annotated[str, Field(min_length=1, max_length=256)]
    audiences: list[Annotated[str, Field(min_length=1, max_length=256)]] = Field(min_length=1, max_length=64)
    jwks: ProviderKeys


class MCPAuthentication(Model):
    resource_metadata: dict[str, Any] = Field(default_factory=dict)
    provider: Unsupported = None
    client_id: Unsupported = None


class JWTAuthentication(Model):
    mode: Literal["Strict", "Optional", "Permissive"] = "Strict"
    providers: list[Provider] = Field(min_length=1, max_length=64)
    location: CredentialLocation | None = None
    mcp: MCPAuthentication | None = None

    @classmethod
    def faults(cls, raw: Mapping[str, Any]) -> Iterator[Fault]:
        providers = raw.get("providers")
        if not isinstance(providers, list):
            return
        if raw.get("mcp") is not None and len(providers) != 1:
            yield ("mcp",), "jwtAuthentication.mcp requires exactly one provider"
        if raw.get("mcp") is not None and raw.get("mode", "Strict") != "Strict":
            yield ("mcp",), "jwtAuthentication.mcp requires mode Strict"
        issuers = [provider.get("issuer") if isinstance(provider, dict) else None for provider in providers]
        for number, issuer in enumerate(issuers):
            if isinstance(issuer, str) and issuer in issuers[:number]:
                yield ("providers", number, "issuer"), f"the issuer of providers[{issuers.index(issuer)}]"


class Traffic(Model):
    phase: Annotated[Literal["PostRouting"], refuse_values("PreRouting")] = "PostRouting"
    api_key_authentication: APIKeyAuthentication | None = None
    authorization: Authorization | None = None
    jwt_authentication: JWTAuthentication | None = None
    basic_authentication: Unsupported = None
    buffer: Unsupported = None
    cors: Unsupported = None
    csrf: Unsupported = None
    delay: Unsupported = None
    direct_response: Unsupported = None
    ext_auth: Unsupported = None
    ext_proc: Unsupported = None
    header_modifiers: Unsupported = None
    host_rewrite: Unsupported = None
    rate_limit: Unsupported = None
    retry: Unsupported = None
    timeouts: Unsupported = None
    transformation: Unsupported = None

    @classmethod
    def faults(cls, raw: Mapping[str, Any]) -> Iterator[Fault]:
        if not any(value is not None for name, value in raw.items() if name != "phase"):
            yield (), "a policy that does nothing"


_TRAFFIC: Final = "the 'traffic' field can only target a Gateway, ListenerSet, GRPCRoute, HTTPRoute, or InferencePool"


class MCPPolicy(Model):
    authorization: MCPAuthorization
    authentication: Unsupported = None
    guardrails: Unsupported = None


class BackendPolicy(Model):
    mcp: MCPPolicy | None = None
    ai: Unsupported = None
    auth: Unsupported = None
    ext_auth: Unsupported = None
    health: Unsupported = None
    http: Unsupported = None
    tcp: Unsupported = None
    tls: Unsupported = None
    transformation: Unsupported = None
    tunnel: Unsupported = None

    @classmethod
    def faults(cls, raw: Mapping[str, Any]) -> Iterator[Fault]:
        if not any(value is not None for value in raw.values()):
            yield (), "a policy that does nothing"


class PolicySpec(Model):
    exactly_one_of = ("targetRefs", "targetSelectors")

    target_refs: list[TargetRef] = Field(default_factory=list, min_length=1, max_length=16)
    target_selectors: Unsupported = None
    strategy: Unsupported = None
    traffic: Traffic | None = None
    frontend: Unsupported = None
    backend: BackendPolicy | None = None

    @classmethod
    def faults(cls, raw: Mapping[str, Any]) -> Iterator[Fault]:
        yield from super().faults(raw)
        if all(raw.get(name) is None for name in ("traffic", "frontend", "backend")):
            yield (), "At least one of traffic, frontend, or backend must be provided."
        refs = raw.get("targetRefs")
        if isinstance(refs, list):
            kinds = {ref.get("kind") for ref in refs if isinstance(ref, dict) and isinstance(ref.get("kind"), str)}
            if len(kinds) > 1:
                yield ("targetRefs",), "Only one Kind of targetRef can be set on one policy"
            if raw.get("traffic") is not None and "AgentgatewayBackend" in kinds:
                yield ("traffic",), _TRAFFIC


class AgentgatewayPolicy(KubernetesDocument):
    api_version: Literal["agentgateway.dev/v1alpha1"]
    kind: Literal["AgentgatewayPolicy"]
    spec: PolicySpec
