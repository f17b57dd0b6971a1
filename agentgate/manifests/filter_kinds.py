"""Filters and time limits of HTTPRoutes, and the references in them, as documents write them, field by field.

What a filter may say of headers, hosts, paths and origins is found when it is made.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field

from .kinds import INFERENCE, Port, Text, group_faults
from .model import Fault, Label, Model, Unsupported, fault, null_is, refuse_values

HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+\-.^_`|~]+$", max_length=256)]

_DURATION: Final = re.compile(r"(?:[0-9]{1,5}(?:h|m|s|ms)){1,4}")  # GEP-2257
_UNITS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def seconds(value: Any) -> Any:
    """Of a duration as the Gateway API writes it, such as `1m30s`."""
    if not isinstance(value, str) or _DURATION.fullmatch(value) is None:
        fault("a duration such as 500ms or 1m30s")
    return sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9]+)(ms|h|m|s)", value))


Duration = Annotated[float, BeforeValidator(seconds)]


class Timeouts(Model):
    """In seconds; 0 is no limit."""

    request: Duration | None = None
    backend_request: Duration | None = None

    @classmethod
    def faults(cls, raw: Mapping[str, Any]) -> Iterator[Fault]:
        given = [raw.get(name) for name in ("request", "backendRequest")]
        if all(isinstance(text, str) and _DURATION.fullmatch(text) for text in given):
            request, backend = map(seconds, given)
            if 0 < request < backend:
                yield ("backendRequest",), "backendRequest timeout cannot be longer than request timeout"


class ObjectRef(Model):
    """A Service or an AgentgatewayBackend. A kind that nobody knows leads nowhere, and is not a fault, as in the
    Gateway API; one that the reference knows is."""

    group: Annotated[str, refuse_values(INFERENCE), Field(max_length=253)] = ""
    kind: Annotated[str, refuse_values("InferencePool", "Hostname"), Field(pattern=r"^[A-Za-z][-A-Za-z0-9]{0,62}$")] = (
        "Service"
    )
    namespace: Label | None = None
    name: Label
    port: Port | None = None

    @classmethod
    def faults(cls, raw: Mapping[str, Any]) -> Iterator[Fault]:
        kind, group = raw.get("kind", "Service"), raw.get("group", "")
        yield from group_faults(kind, group, "")
        if kind == "Service" and group == "" and raw.get("port") is None:
            yield ("port",), "required"
        if kind == "AgentgatewayBackend" and raw.get("port") is not None:
            yield ("port",), "an AgentgatewayBackend says its port itself"


class HeaderValue(Model):
    name: HeaderName
    value: Text


class HeaderModifier(Model):
    set: list[HeaderValue] = Field(default_factory=list, max_length=16)
    add: list[HeaderValue] = Field(default_factory=list, max_length=16)
    remove: list[HeaderName] = Field(default_factory=list, max_length=16)

    @classmethod
    def faults(cls, raw: Mapping[str, Any]) -> Iterator[Fault]:
        for field in ("set", "add"):
            items = raw.get(field)
            items = items if isinstance(items, list) else []
            names = [one.get("name") if isinstance(one, dict) else None for one in items]
            for number, name in enumerate(names):
                if name is not None and name in names[:number]:
                    yield (field, number, "name"), "named twice"


class PathModifier(Model):
    type: Literal["ReplaceFullPath", "ReplacePrefixMatch"]
    replace_full_path: Annotated[str, Field(max_length=1024)] | None = None
    replace_prefix_match: Annotated[str, Field(max_length=1024)] | None = None

    @classmethod
    def faults(cls, raw: Mapping[str, Any]) -> Iterator[Fault]:
        for kind, field in (("ReplaceFullPath", "replaceFullPath"), ("ReplacePrefixMatch", "replacePrefixMatch")):
            if (raw.get("type") == kind) != (raw.get(field) is not None):
                yield (field,), f"it is set with type {kind}, and only then"


class URLRewrite(Model):
    hostname: Annotated[str, Field(min_length=1, max_length=253)] | None = None
    path: PathModifier | None = None


class RequestRedirect(URLRewrite):
    scheme: Literal["http", "https"] | None = None
    port: Port | None = None
    status_code: Literal[301, 302, 303, 307, 308] = 302


class Fraction(Model):
    numerator: Annotated[int, Field(ge=0)]
    denominator: Annotated[int, Field(ge=1)] = 100


class RequestMirror(Model):
    backend_ref: ObjectRef
    percent: Annotated[int, Field(ge=0, le=100)] | None = None
    fraction: Fraction | None = None

    @classmethod
    def faults(cls, raw: Mapping[str, Any]) -> Iterator[Fault]:
        if raw.get("percent") is not None and raw.get("fraction") is not None:
            yield (), "Only one of percent or fraction may be specified in HTTPRequestMirrorFilter"

    @property
    def share(self) -> float:
        """From 0 to 1."""
        if self.fraction is not None:
            return self.fraction.numerator / self.fraction.denominator
        return 1 if self.percent is None else self.percent / 100


class CORSFilter(Model):
    allow_origins: list[Annotated[str, Field(min_length=1, max_length=253)]] = Field(
        default_factory=list, max_length=64
    )
    allow_credentials: bool = False
    allow_methods: list[str] = Field(default_factory=list, max_length=9)
    allow_headers: list[str] = Field(default_factory=list, max_length=64)
    expose_headers: list[str] = Field(default_factory=list, max_length=64)
    max_age: Annotated[int, Field(ge=1)] = 5


_FIELDS: Final = {
    "RequestHeaderModifier": "requestHeaderModifier",
    "ResponseHeaderModifier": "responseHeaderModifier",
    "RequestRedirect": "requestRedirect",
    "URLRewrite": "urlRewrite",
    "RequestMirror": "requestMirror",
    "CORS": "cors",
}


class RouteFilter(Model):
    type: Annotated[
        Literal[
            "RequestHeaderModifier", "ResponseHeaderModifier", "RequestRedirect", "URLRewrite", "RequestMirror", "CORS"
        ],
        refuse_values("ExtensionRef", "ExternalAuth"),
    ]
    request_header_modifier: HeaderModifier | None = None
    response_header_modifier: HeaderModifier | None = None
    request_redirect: RequestRedirect | None = None
    url_rewrite: URLRewrite | None = None
    request_mirror: RequestMirror | None = None
    cors: CORSFilter | None = None
    extension_ref: Unsupported = None
    external_auth: Unsupported = None

    @classmethod
    def faults(cls, raw: Mapping[str, Any]) -> Iterator[Fault]:
        for kind, field in _FIELDS.items():
            if (raw.get("type") == kind) != (raw.get(field) is not None):
                yield (field,), f"it is set with type {kind}, and only then"


RouteFilters = Annotated[list[RouteFilter], null_is(list), Field(max_length=16)]
