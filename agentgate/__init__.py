"""agentgate: one policy gate in front of agent traffic, and one log of what was allowed.

A name is imported when it is first asked for, so nobody waits for what they do not use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .allowed_models import AllowedModels
    from .auth.api_key import APIKeyAuth
    from .auth.jwks import StaticJWKS
    from .auth.jwt import ANY_AUDIENCE, JWTAuth
    from .auth.key_files import DirectoryKeys, FileKeys
    from .auth.keys import Key, KeyStore, StaticKeys, hash_key, new_key
    from .auth.location import BEARER, SDK_LOCATIONS, AnyLocation, Cookie, Header, Query
    from .auth.remote_jwks import RemoteJWKS
    from .call import Call
    from .decision import Decision, Reason, Verdict, abstain, allow, deny
    from .edge import Edge
    from .errors import AgentgateError, ConfigurationError, UnknownScopeError
    from .gate import Gate
    from .limits.rate_limit import RateLimit
    from .limits.redis import RedisStore
    from .middleware import (
        AccessLogMiddleware,
        APIKeyMiddleware,
        CELMiddleware,
        JWTMiddleware,
        MetricsMiddleware,
        TracingMiddleware,
    )
    from .names import Names
    from .observe.access_log import AccessLog
    from .observe.metrics import Metrics
    from .observe.tracing import Tracing
    from .policy import Authenticator, Authorizer, Observer, all_of, any_of, authorizer, shadow
    from .principal import Principal
    from .probes import Probes
    from .protocols.a2a import A2A
    from .protocols.llm import LLM
    from .protocols.mcp import MCP
    from .proxy.a2a import A2ABackend
    from .proxy.backend import HTTPBackend
    from .proxy.cors import CORS
    from .proxy.endpoint import Endpoint, Health
    from .proxy.federation.target import MCPTarget
    from .proxy.gateway import Gateway, create_gateway
    from .proxy.header_changes import RequestHeaders, ResponseHeaders
    from .proxy.llm import LLMBackend
    from .proxy.mcp import MCPBackend
    from .proxy.mirror import Mirror
    from .proxy.paths import Exact, Prefix, Regex
    from .proxy.provider import Provider
    from .proxy.retry import Retry
    from .proxy.route import Route
    from .proxy.targets import Redirect, Rewrite
    from .proxy.timeouts import Timeouts
    from .proxy.upstream import PoolTransport
    from .proxy.websocket import WebSockets
    from .proxy.weighted import Filtered, Weighted
    from .record import Record, record_of
    from .request import Request
    from .rules import CELRules
    from .secret import Secret

__version__ = "0.1.0"

__all__ = [
    # the gate
    "Gate",
    "Edge",
    "APIKeyMiddleware",
    "JWTMiddleware",
    "CELMiddleware",
    "AccessLogMiddleware",
    "MetricsMiddleware",
    "TracingMiddleware",
    # who is asking
    "APIKeyAuth",
    "StaticKeys",
    "FileKeys",
    "DirectoryKeys",
    "KeyStore",
    "Key",
    "hash_key",
    "new_key",
    "JWTAuth",
    "StaticJWKS",
    "RemoteJWKS",
    "ANY_AUDIENCE",
    "BEARER",
    "Header",
    "Query",
    "Cookie",
    "SDK_LOCATIONS",
    "AnyLocation",
    # what they may do
    "CELRules",
    "AllowedModels",
    "RateLimit",
    "RedisStore",
    # policies of your own
    "Authenticator",
    "Authorizer",
    "Observer",
    "authorizer",
    "shadow",
    "any_of",
    "all_of",
    "allow",
    "deny",
    "abstain",
    # what they see and say
    "Request",
    "Call",
    "Principal",
    "Decision",
    "Reason",
    "Verdict",
    # what happened
    "AccessLog",
    "Metrics",
    "Tracing",
    "Names",
    "Record",
    "record_of",
    # a gateway
    "create_gateway",
    "Gateway",
    "Route",
    "Exact",
    "Prefix",
    "Regex",
    "HTTPBackend",
    "LLMBackend",
    "MCPBackend",
    "MCPTarget",
    "Provider",
    "LLM",
    "A2ABackend",
    "A2A",
    "MCP",
    "Endpoint",
    "Timeouts",
    "Retry",
    "Health",
    "PoolTransport",
    "Weighted",
    "Filtered",
    # what a route does beside forwarding
    "RequestHeaders",
    "ResponseHeaders",
    "Rewrite",
    "Redirect",
    "Mirror",
    "CORS",
    "Probes",
    "WebSockets",
    # the rest
    "Secret",
    "AgentgateError",
    "ConfigurationError",
    "UnknownScopeError",
]

# Where each of them is. tests/test_names.py compares this with what type checkers are told above.
_MODULES = {
    "allowed_models": "AllowedModels",
    "auth.api_key": "APIKeyAuth",
    "auth.jwks": "StaticJWKS",
    "auth.jwt": "ANY_AUDIENCE JWTAuth",
    "auth.key_files": "DirectoryKeys FileKeys",
    "auth.keys": "Key KeyStore StaticKeys hash_key new_key",
    "auth.location": "BEARER Cookie Header Query SDK_LOCATIONS AnyLocation",
    "auth.remote_jwks": "RemoteJWKS",
    "call": "Call",
    "decision": "Decision Reason Verdict abstain allow deny",
    "edge": "Edge",
    "errors": "AgentgateError ConfigurationError UnknownScopeError",
    "gate": "Gate",
    "limits.rate_limit": "RateLimit",
    "limits.redis": "RedisStore",
    "middleware": "AccessLogMiddleware APIKeyMiddleware CELMiddleware JWTMiddleware MetricsMiddleware "
    "TracingMiddleware",
    "names": "Names",
    "observe.access_log": "AccessLog",
    "observe.metrics": "Metrics",
    "observe.tracing": "Tracing",
    "policy": "Authenticator Authorizer Observer all_of any_of authorizer shadow",
    "principal": "Principal",
    "probes": "Probes",
    "protocols.llm": "LLM",
    "protocols.a2a": "A2A",
    "proxy.a2a": "A2ABackend",
    "protocols.mcp": "MCP",
    "proxy.backend": "HTTPBackend",
    "proxy.cors": "CORS",
    "proxy.endpoint": "Endpoint Health",
    "proxy.federation.target": "MCPTarget",
    "proxy.gateway": "Gateway create_gateway",
    "proxy.header_changes": "RequestHeaders ResponseHeaders",
    "proxy.llm": "LLMBackend",
    "proxy.mcp": "MCPBackend",
    "proxy.mirror": "Mirror",
    "proxy.paths": "Exact Prefix Regex",
    "proxy.provider": "Provider",
    "proxy.route": "Route",
    "proxy.targets": "Redirect Rewrite",
    "proxy.retry": "Retry",
    "proxy.timeouts": "Timeouts",
    "proxy.upstream": "PoolTransport",
    "proxy.weighted": "Filtered Weighted",
    "proxy.websocket": "WebSockets",
    "record": "Record record_of",
    "request": "Request",
    "rules": "CELRules",
    "secret": "Secret",
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names.split()}

if not TYPE_CHECKING:  # type checkers would take any name for granted

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f".{_HOMES[name]}", __name__), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *_HOMES})
