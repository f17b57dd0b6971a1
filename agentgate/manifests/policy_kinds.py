"""AgentgatewayPolicy, as documents write it, field by field. What agentgateway knows beyond this is named here, so that
it is refused as not supported rather than as unknown."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from .expressions import NOT_IN_MCP, NOT_IN_TRAFFIC, expression_faults
from .filter_kinds import CORSFilter, Duration, HeaderModifier
from .frontend import MAX_EXPRESSION, Expression, Frontend
from .kinds import AGENTGATEWAY, GATEWAY_API, INFERENCE, FieldName, KubernetesDocument, Labels, Port, group_faults
from .model import NOT_SUPPORTED, Fault, Label, Model, Name, Unsupported, fault, refuse_values


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
        yield from group_faults(raw.get("kind"), raw.get("group"), GATEWAY_API)


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


def _no_burst(value: Any) -> Any:
    if type(value) is int and value > 0:
        fault(f"a burst is {NOT_SUPPORTED}")
    return value


Amount = Annotated[int, Field(ge=1, le=2**31 - 1)]


class LocalRateLimit(Model):
    exactly_one_of = ("requests", "tokens")

    requests: Amount | None = None
    tokens: Amount | None = None
    unit: Literal["Seconds", "Minutes", "Hours"]
    burst: Annotated[int, Field(ge=0), BeforeValidator(_no_burst)] = 0


class RateLimits(Model):
    local: list[LocalRateLimit] = Field(default_factory=list, min_length=1, max_length=16)
    global_: Unsupported = Field(None, alias="global")
    conditional: Unsupported = None

    @classmethod
    def faults(cls, raw: Mapping[str, Any]) -> Iterator[Fault]:
        if not any(value is not None for value in raw.values()):
            yield (), "a policy that does nothing"


class HeaderModifiers(Model):
    request: HeaderModifier | None = None
    response: HeaderModifier | None = None

    @classmethod
    def faults(cls, raw: Mapping[str, Any]) -> Iterator[Fault]:
        if not any(value is not None for value in raw.values()):
            yield (), "it changes nothing"


def _at_least_a_millisecond(value: float) -> float:
    if value < 0.001:
        fault("request timeout must be at least 1ms")
    return value


class RequestTimeout(Model):
    request: Annotated[Duration, AfterValidator(_at_least_a_millisecond)]


class Traffic(Model):
    phase: Annotated[Literal["PostRouting"], refuse_values("PreRouting")] = "PostRouting"
    api_key_authentication: APIKeyAuthentication | None = None
    authorization: Authorization | None = None
    jwt_authentication: JWTAuthentication | None = None
    rate_limit: RateLimits | None = None
    basic_authentication: Unsupported = None
    buffer: Unsupported = None
    cors: CORSFilter | None = None
    csrf: Unsupported = None
    delay: Unsupported = None
    direct_response: Unsupported = None
    ext_auth: Unsupported = None
    ext_proc: Unsupported = None
    header_modifiers: HeaderModifiers | None = None
    host_rewrite: Unsupported = None
    retry: Unsupported = None
    timeouts: RequestTimeout | None = None
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
    frontend: Frontend | None = None
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
            if raw.get("frontend") is not None and kinds - {"Gateway"}:
                yield ("frontend",), "the 'frontend' field can only target a Gateway"


class AgentgatewayPolicy(KubernetesDocument):
    api_version: Literal["agentgateway.dev/v1alpha1"]
    kind: Literal["AgentgatewayPolicy"]
    spec: PolicySpec
