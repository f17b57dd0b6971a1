"""The jwtAuthentication of AgentgatewayPolicy documents to authenticators: one for each provider.

Keys are fetched when a token first needs them, not when the gateway starts: it starts while the provider is away.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from .. import strict_json
from ..auth.jwk import read_set
from ..auth.jwks import StaticJWKS
from ..auth.jwt import JWTAuth
from ..auth.location import Location
from ..auth.remote_jwks import RemoteJWKS
from ..auth.resource import merged_metadata, public_url
from ..errors import ConfigurationError
from ..policy import Authenticator
from .policies import MODES, Attached, Authentication, location_of
from .policy_kinds import AgentgatewayPolicy, JWTAuthentication, Provider, ProviderKeys, RemoteKeys
from .read import Document, Documents, Faults
from .services import Services

FIELD: Final = "spec.traffic.jwtAuthentication"

_OF_MCP: Final = f"{FIELD}.mcp"
_RESOURCE: Final = f"{_OF_MCP}.resourceMetadata.resource"
_LABEL: Final = "JWTAuth: resource_metadata: "
_HUMP: Final = re.compile("(?<=[a-z0-9])[A-Z]").sub


def attach_tokens(documents: Documents, services: Services, attached: Attached) -> None:
    """Attach every `jwtAuthentication`."""
    for policy in documents.policies:
        wanted = policy.model.spec.traffic and policy.model.spec.traffic.jwt_authentication
        if wanted:
            attached.attach("jwtAuthentication", policy, _authentication(policy, wanted, services, attached.faults))


def _authentication(
    policy: Document[AgentgatewayPolicy], wanted: JWTAuthentication, services: Services, faults: Faults
) -> Authentication | None:
    metadata = {_snake(name): value for name, value in (wanted.mcp.resource_metadata if wanted.mcp else {}).items()}
    resource = metadata.pop("resource", None)
    if resource is not None and not isinstance(resource, str):
        faults.add(policy.at(_RESOURCE, "text is expected"), policy.order)
        resource = None
    location = location_of(policy, wanted.location, FIELD, faults)
    made: list[Authenticator] = []
    for number, provider in enumerate(wanted.providers):
        place = f"{FIELD}.providers[{number}]"
        keys = _keys(policy, provider.jwks, f"{place}.jwks", services, faults)
        if keys is not None and location is not None:
            made.append(_authenticator(provider, keys, location, metadata))
    if len(made) < len(wanted.providers):
        return None
    try:
        if wanted.mcp and not merged_metadata(made).get("authorization_servers"):
            faults.add(policy.at(_OF_MCP, "the issuer is no URL: nobody could log in there"), policy.order)
    except ConfigurationError as exc:
        for text in exc.faults:
            faults.add(policy.at(f"{_OF_MCP}.resourceMetadata", text.removeprefix(_LABEL)), policy.order)
    return Authentication(policy, made, MODES[wanted.mode], resource if wanted.mcp else None)


def _authenticator(
    provider: Provider, keys: StaticJWKS | RemoteJWKS, location: Location, metadata: Mapping[str, Any]
) -> JWTAuth:
    return JWTAuth(
        issuer=provider.issuer,
        audience=provider.audiences,
        jwks=keys,
        location=location,
        resource_metadata=metadata,
    )


def _keys(
    policy: Document[AgentgatewayPolicy], wanted: ProviderKeys, place: str, services: Services, faults: Faults
) -> StaticJWKS | RemoteJWKS | None:
    hint = ""
    try:
        if wanted.inline is not None:
            place += ".inline"
            return _inline(wanted.inline)
        if wanted.remote is not None:
            place += ".remote"
            if wanted.remote.backend_ref is not None:
                hint = "; say where the Service lives: --backend NAMESPACE/NAME:PORT=https://HOST:PORT"
            url = _url(policy, wanted.remote, place, services)
            return None if url is None else RemoteJWKS(url, max_age=wanted.remote.cache_duration)
    except ConfigurationError as exc:
        for text in exc.faults:
            faults.add(policy.at(place, f"{text}{hint}"), policy.order)
    return None


def _inline(text: str) -> StaticJWKS:
    if text.lstrip().startswith("-----"):
        raise ConfigurationError("a JWK Set is JSON")
    keys = StaticJWKS(text)
    read_set(strict_json.loads(text.encode()))  # a policy is not confidential: no key in it is a secret
    return keys


def _url(policy: Document[AgentgatewayPolicy], remote: RemoteKeys, place: str, services: Services) -> str | None:
    if remote.backend_ref is None:
        return remote.url
    base = services.url(policy, remote.backend_ref, f"{place}.backendRef")
    path = (remote.jwks_path or "").removeprefix("/")
    return None if base is None else f"{base.rstrip('/')}/{path}"


def public_url_of(given: str | None, found: Iterable[Authentication], faults: Faults) -> str | None:
    """Where clients reach the gateway: what the command says, else the origin that the policies' resources share."""
    found = list(found)
    if given is not None:
        try:
            return public_url(given)
        except ConfigurationError as exc:
            faults.add(str(exc))
            return None
    origins: dict[str, Authentication] = {}
    for one in found:
        if one.resource is not None:
            try:
                parts = urlsplit(public_url(one.resource))
            except ConfigurationError as exc:
                faults.add(one.policy.at(_RESOURCE, str(exc).replace("public_url", "resource")), one.policy.order)
            else:
                origins.setdefault(f"{parts.scheme}://{parts.netloc}", one)
    for one in [*origins.values()][1:]:
        text = "of another origin than those before: say where clients reach this gateway with --public-url"
        faults.add(one.policy.at(_RESOURCE, text), one.policy.order)
    return next(iter(origins), None)


def check_resources(url: str | None, found: Mapping[Authentication, Iterable[str]], faults: Faults) -> None:
    """Note what a policy says is protected, and is not. `found`: the URLs of the routes that each of them holds for."""
    for one, urls in found.items():
        wanted = one.policy.model.spec.traffic
        if wanted is None or wanted.jwt_authentication is None or wanted.jwt_authentication.mcp is None:
            continue
        if url is None:
            if one.resource is None:
                text = "clients have to be told where this gateway is: say it with --public-url"
                faults.add(one.policy.at(_OF_MCP, text), one.policy.order)
        elif one.resource is not None and one.resource.rstrip("/") not in {known.rstrip("/") for known in urls}:
            text = f"no route that this policy holds for is there; clients reach this gateway at {url}"
            faults.add(one.policy.at(_RESOURCE, text), one.policy.order)


def _snake(name: str) -> str:
    """`scopes_supported`, for `scopesSupported` as well."""
    return _HUMP(lambda found: "_" + found[0].lower(), name)
