"""HTTPRoute, as documents write it, field by field. What the Gateway API knows beyond this is named here, so that it is
refused as not supported rather than as unknown."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field

from .filter_kinds import HeaderName, ObjectRef, RouteFilters, Timeouts
from .kinds import GATEWAY_API, KubernetesDocument, Port, Text
from .model import Fault, Label, Model, Name, Unsupported, fault, refuse_values

_HOSTNAME: Final = re.compile(r"(?:\*\.)?[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")
_PATH: Final = re.compile(r"/(?:[A-Za-z0-9/\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2})*")
_PATH_TWISTS: Final = re.compile(r"//|/\.\.?(?:/|$)|%2[Ff]")
_METHODS = Literal["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]


def _hostname(value: Any) -> Any:
    if isinstance(value, str) and (len(value) > 253 or _HOSTNAME.fullmatch(value) is None):
        fault("a lower-case host name, with or without *. in front, and without a port")
    return value


Hostname = Annotated[str, BeforeValidator(_hostname)]


def _regex_fault(raw: Mapping[str, Any]) -> Iterator[Fault]:
    value = raw.get("value")
    if raw.get("type") == "RegularExpression" and isinstance(value, str):
        try:
            re.compile(value)
        except re.error as exc:
            yield ("value",), f"no regular expression: {exc.msg}"


class ParentRef(Model):
    group: Literal["gateway.networking.k8s.io"] = GATEWAY_API
    kind: Annotated[Literal["Gateway"], refuse_values("Service", "ListenerSet")] = "Gateway"
    namespace: Label | None = None
    name: Name
    section_name: Name | None = None
    port: Port | None = None


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
    name: HeaderName
    value: Text

    @classmethod
    def faults(cls, raw: Mapping[str, Any]) -> Iterator[Fault]:
        yield from _regex_fault(raw)


class RouteMatch(Model):
    path: PathMatch | None = None
    method: _METHODS | None = None
    headers: list[ValueMatch] = Field(default_factory=list, max_length=16)
    query_params: list[ValueMatch] = Field(default_factory=list, max_length=16)


class BackendRef(ObjectRef):
    weight: Annotated[int, Field(ge=0, le=1_000_000)] = 1
    filters: RouteFilters = Field(default_factory=list)


class RouteRule(Model):
    name: Name | None = None
    matches: list[RouteMatch] = Field(default_factory=list, max_length=64)
    backend_refs: list[BackendRef] = Field(default_factory=list, max_length=16)
    filters: RouteFilters = Field(default_factory=list)
    timeouts: Timeouts | None = None
    retry: Unsupported = None
    session_persistence: Unsupported = None

    @classmethod
    def faults(cls, raw: Mapping[str, Any]) -> Iterator[Fault]:
        filters = raw.get("filters")
        redirects = isinstance(filters, list) and any(
            isinstance(one, dict) and one.get("type") == "RequestRedirect" for one in filters
        )
        if redirects and raw.get("backendRefs"):
            yield ("backendRefs",), "RequestRedirect filter must not be used together with backendRefs"


class HTTPRouteSpec(Model):
    parent_refs: list[ParentRef] = Field(min_length=1, max_length=32)
    hostnames: list[Hostname] = Field(default_factory=list, max_length=16)
    rules: list[RouteRule] = Field(min_length=1, max_length=16)
    use_default_gateways: Unsupported = None


class HTTPRoute(KubernetesDocument):
    api_version: Literal["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"]
    kind: Literal["HTTPRoute"]
    spec: HTTPRouteSpec
