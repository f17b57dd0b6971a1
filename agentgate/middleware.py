"""One middleware per kind, for those who stack them: each is a Gate with one policy or one observer.

Stacked ones share one Record, so it does not matter which of them is outermost; a refusal is seen by every observer
that stands outside of what refused it.
"""

import logging
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .auth.api_key import APIKeyAuth
from .auth.jwks import StaticJWKS
from .auth.jwt import AnyAudience, JWTAuth
from .auth.keys import Key, KeyStore
from .auth.location import BEARER, Location
from .auth.remote_jwks import RemoteJWKS
from .edge import Edge
from .gate import Gate
from .nothing import NOTHING
from .observe.access_log import AccessLog, Format, Sink
from .posture import Mode
from .respond import ASGIApp
from .rules import CELRules
from .secret import Secret

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

    from .observe.metrics import Metrics


class APIKeyMiddleware(Gate):
    """`Gate(app, authenticate=[APIKeyAuth(keys, ...)], mode=mode, edge=edge)`; the options are `APIKeyAuth`'s."""

    def __init__(
        self,
        app: ASGIApp,
        keys: KeyStore | Mapping[str, str | Secret] | Iterable[str | Secret | Key],
        *,
        location: Location = BEARER,
        identity_headers: Mapping[str, str] = NOTHING,
        mode: Mode = "strict",
        edge: Edge | None = None,
    ) -> None:
        authenticator = APIKeyAuth(keys, location=location, identity_headers=identity_headers)
        super().__init__(app, authenticate=[authenticator], mode=mode, edge=edge)


class JWTMiddleware(Gate):
    """`Gate(app, authenticate=[JWTAuth(issuer=issuer, ...)], mode=mode, edge=edge, public_url=public_url)`."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        issuer: str,
        audience: str | Collection[str] | AnyAudience,
        jwks: str | Mapping[str, Any] | StaticJWKS | RemoteJWKS | None = None,
        scopes: Collection[str] = (),
        required_claims: Collection[str] = (),
        max_lifetime: float | None = None,
        require_at_jwt: bool = False,
        location: Location = BEARER,
        identity_headers: Mapping[str, str] = NOTHING,
        resource_metadata: Mapping[str, Any] = NOTHING,
        cache_size: int = 4096,
        mode: Mode = "strict",
        edge: Edge | None = None,
        public_url: str | None = None,
    ) -> None:
        tokens = JWTAuth(
            issuer=issuer,
            audience=audience,
            jwks=jwks,
            scopes=scopes,
            required_claims=required_claims,
            max_lifetime=max_lifetime,
            require_at_jwt=require_at_jwt,
            location=location,
            identity_headers=identity_headers,
            resource_metadata=resource_metadata,
            cache_size=cache_size,
        )
        super().__init__(app, authenticate=[tokens], mode=mode, edge=edge, public_url=public_url)


class CELMiddleware(Gate):
    """`Gate(app, authorize=[CELRules(...)], edge=edge)`, with the options of `CELRules`."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        allow: Sequence[str] | Mapping[str, str] = (),
        deny: Sequence[str] | Mapping[str, str] = (),
        require: Sequence[str] | Mapping[str, str] = (),
        claims: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        edge: Edge | None = None,
    ) -> None:
        rules = CELRules(allow=allow, deny=deny, require=require, claims=claims, metadata=metadata, env=env)
        super().__init__(app, authorize=[rules], edge=edge)


class AccessLogMiddleware(Gate):
    """`Gate(app, observe=[AccessLog(sink, ...)], edge=edge)`, with the options of `AccessLog`."""

    def __init__(
        self,
        app: ASGIApp,
        sink: "Sink | logging.Logger | os.PathLike[str] | None" = None,
        *,
        format: Format = "text",
        filter: str | None = None,
        add: Mapping[str, str] = NOTHING,
        remove: Collection[str] = (),
        replay: bool = False,
        replay_arguments: bool = False,
        edge: Edge | None = None,
    ) -> None:
        log = AccessLog(
            sink,
            format=format,
            filter=filter,
            add=add,
            remove=remove,
            replay=replay,
            replay_arguments=replay_arguments,
        )
        super().__init__(app, observe=[log], edge=edge)


class MetricsMiddleware(Gate):
    """`Gate(app, observe=[metrics], edge=edge)`. What `metrics` has is read from its `app`, which is yours to mount."""

    def __init__(self, app: ASGIApp, metrics: "Metrics", *, edge: Edge | None = None) -> None:
        super().__init__(app, observe=[metrics], edge=edge)


class TracingMiddleware(Gate):
    """`Gate(app, observe=[Tracing(provider=provider, public_endpoint=public_endpoint)], edge=edge)`."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        provider: "TracerProvider | None" = None,
        public_endpoint: bool = False,
        edge: Edge | None = None,
    ) -> None:
        from .observe.tracing import Tracing  # OpenTelemetry, for those who want it

        super().__init__(app, observe=[Tracing(provider=provider, public_endpoint=public_endpoint)], edge=edge)
