"""AgentgatewayBackend documents, field by field: a plain server, an MCP server, an LLM provider or an A2A agent.

What agentgateway knows beyond this is named here, so that it is refused as not supported rather than as unknown.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field

from .kinds import KubernetesDocument, Port
from .model import NOT_SUPPORTED, Fault, Model, Name, Unsupported, fault, refuse_values
from .policy_kinds import SecretRef

_HOST: Final = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")


def _host(value: Any) -> Any:
    if isinstance(value, str) and (len(value) > 253 or _HOST.fullmatch(value) is None):
        fault("a lower-case host name or an IPv4 address, without a port")
    return value


Host = Annotated[str, BeforeValidator(_host)]
Path = Annotated[str, Field(pattern=r"^/[A-Za-z0-9/\-._~]*$", max_length=1024)]


class Server(Model):
    host: Host
    port: Port


class StaticBackend(Server):
    unix_path: Unsupported = None


class MCPServer(Server):
    path: Path = "/mcp"
    protocol: Annotated[Literal["StreamableHTTP"], refuse_values("SSE")] = "StreamableHTTP"
    backend_ref: Unsupported = None
    policies: Unsupported = None


class MCPTarget(Model):
    name: Name
    static: MCPServer
    selector: Unsupported = None


class MCPTargets(Model):
    targets: list[MCPTarget] = Field(min_length=1, max_length=128)
    failure_mode: Unsupported = None
    prefix_mode: Unsupported = None
    session_routing: Unsupported = None

    @classmethod
    def faults(cls, raw: Mapping[str, Any]) -> Iterator[Fault]:
        targets = raw.get("targets")
        names = (
            [one.get("name") if isinstance(one, dict) else None for one in targets] if isinstance(targets, list) else []
        )
        for number, name in enumerate(names):
            if isinstance(name, str) and name in names[:number]:
                yield ("targets", number, "name"), "target names must be unique"


class LLMModel(Model):
    model: Unsupported = None  # which would replace the one that rules have judged


class LLMProvider(Model):
    exactly_one_of = (
        *("openai", "anthropic", "gemini"),
        *("azure", "azureopenai", "bedrock", "custom", "vertexai"),
    )

    openai: LLMModel | None = None
    anthropic: LLMModel | None = None
    gemini: LLMModel | None = None
    azure: Unsupported = None
    azureopenai: Unsupported = None
    bedrock: Unsupported = None
    custom: Unsupported = None
    vertexai: Unsupported = None
    host: Host | None = None
    port: Port | None = None
    path_prefix: Path | None = None
    path: Unsupported = None

    @classmethod
    def faults(cls, raw: Mapping[str, Any]) -> Iterator[Fault]:
        yield from super().faults(raw)
        if (raw.get("host") is None) != (raw.get("port") is None):
            yield (), "host and port are set together"
        if raw.get("pathPrefix") is not None and raw.get("openai") is None:
            yield ("pathPrefix",), f"for another provider than openai it is {NOT_SUPPORTED}"


class LLMProviders(Model):
    provider: LLMProvider
    groups: Unsupported = None


class BackendAuth(Model):
    secret_ref: SecretRef
    aws: Unsupported = None
    azure: Unsupported = None
    credentials: Unsupported = None
    cross_app_access: Unsupported = None
    gcp: Unsupported = None
    jwt_sign: Unsupported = None
    key: Unsupported = None
    location: Unsupported = None
    oauth_token_exchange: Unsupported = None
    passthrough: Unsupported = None


class BackendTLS(Model):
    """Empty: the public authorities, and the host's own name."""

    alpn_protocols: Unsupported = None
    ca_certificate_refs: Unsupported = None
    certificate_source: Unsupported = None
    insecure_skip_verify: Unsupported = None
    key_exchange_groups: Unsupported = None
    mtls_certificate_ref: Unsupported = None
    sni: Unsupported = None
    verify_subject_alt_names: Unsupported = None


class BackendPolicies(Model):
    auth: BackendAuth | None = None
    tls: BackendTLS | None = None
    ai: Unsupported = None
    ext_auth: Unsupported = None
    health: Unsupported = None
    http: Unsupported = None
    mcp: Unsupported = None
    tcp: Unsupported = None
    transformation: Unsupported = None
    tunnel: Unsupported = None


class BackendSpec(Model):
    exactly_one_of = ("static", "mcp", "ai", "a2a", "aws", "dynamicForwardProxy")

    static: StaticBackend | None = None
    mcp: MCPTargets | None = None
    ai: LLMProviders | None = None
    a2a: Annotated[Server | None, Field(alias="a2a")] = None  # to_camel would say a2A
    aws: Unsupported = None
    dynamic_forward_proxy: Unsupported = None
    policies: BackendPolicies | None = None

    @classmethod
    def faults(cls, raw: Mapping[str, Any]) -> Iterator[Fault]:
        yield from super().faults(raw)
        policies = raw.get("policies")
        if isinstance(policies, dict) and policies.get("auth") is not None and raw.get("ai") is None:
            yield ("policies", "auth"), f"for another backend than ai it is {NOT_SUPPORTED}"


class AgentgatewayBackend(KubernetesDocument):
    api_version: Literal["agentgateway.dev/v1alpha1"]
    kind: Literal["AgentgatewayBackend"]
    spec: BackendSpec
