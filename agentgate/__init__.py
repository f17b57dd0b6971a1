"""agentgate: one policy gate in front of agent traffic, and one log of what was allowed."""

from .allowed_models import AllowedModels
from .auth.api_key import APIKeyAuth
from .auth.jwks import StaticJWKS
from .auth.jwt import ANY_AUDIENCE, JWTAuth
from .auth.key_files import DirectoryKeys, FileKeys
from .auth.keys import Key, KeyStore, StaticKeys, hash_key, new_key
from .auth.location import BEARER, SDK_LOCATIONS, AnyLocation, Cookie, Header, Query
from .auth.remote_jwks import RemoteJWKS
from .decision import Decision, Reason, Verdict, abstain, allow, deny
from .edge import Edge
from .errors import AgentgateError, ConfigurationError, UnknownScopeError
from .gate import Gate
from .middleware import AccessLogMiddleware, APIKeyMiddleware, CELMiddleware, JWTMiddleware
from .observe.access_log import AccessLog
from .policy import Authenticator, Authorizer, Observer, all_of, any_of, authorizer, shadow
from .protocols.llm import LLM
from .proxy.backend import HTTPBackend
from .proxy.gateway import Gateway, create_gateway
from .proxy.llm import LLMBackend
from .proxy.provider import Provider
from .proxy.route import Exact, Prefix, Regex, Route
from .proxy.upstream import PoolTransport
from .record import Record, record_of
from .request import Call, Principal, Request
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
    "AnyLocation",
    "SDK_LOCATIONS",
    # what they may do
    "CELRules",
    "AllowedModels",
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
    "Provider",
    "LLM",
    "PoolTransport",
    # the rest
    "Secret",
    "AgentgateError",
    "ConfigurationError",
    "UnknownScopeError",
]
