"""Agent cards of an agent behind a gateway, rewritten so that every way in that they name leads through the gateway.

A card that points past the gateway is a way around it. So what is not understood is not passed on: interfaces at other
URLs than the agent's, or in bindings that the gateway does not serve, are dropped; a card that is not plain JSON, or
leaves no way in, is refused. Signatures go: what they were made for is not what is sent.
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from ...auth.jwt import JWTAuth
from ...auth.location import BEARER, Header, Place, places
from ...auth.remote_jwks import RemoteJWKS
from ...policy import Authenticator
from ...strict_json import StrictJSONError, loads

MAX_BYTES: Final = 1024 * 1024  # of a card, which is held in memory while it is rewritten

_BINDINGS: Final = ("JSONRPC", "HTTP+JSON")
_PORTS: Final = {"http": 80, "https": 443}
# Nothing in it that two parsers could take for different things: dot segments, percent signs, users, queries.
_URL: Final = re.compile(
    r"https?://(?:[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?"
    r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)*/?"
).fullmatch

_CARD: Final = (
    *("url", "preferredTransport", "additionalInterfaces", "supportedInterfaces", "signatures", "capabilities"),
    *("securitySchemes", "securityRequirements", "security"),
)
_INTERFACE: Final = ("url", "transport", "protocolBinding", "protocolVersion", "tenant")
_CAPABILITIES: Final = ("pushNotifications",)


class CardFault(ValueError):
    """The card cannot be passed on. The text says why, and quotes nothing of it."""


class Base(NamedTuple):
    """A URL below which the agent is: scheme, host and port, and path without a slash at its end."""

    origin: tuple[str, str, int]
    path: str

    @classmethod
    def of(cls, url: str) -> "Base | None":
        """The base at this URL; None if it is no plain URL."""
        if not isinstance(url, str) or _URL(url) is None:
            return None
        parts = urlsplit(url)
        try:
            port = _PORTS[parts.scheme] if parts.port is None else parts.port
        except ValueError:  # more than 65535
            return None
        return cls((parts.scheme, parts.hostname or "", port), parts.path.rstrip("/"))

    def below(self, url: str) -> str | None:
        """The path of a URL below this one, with the slash at its end if it has one; None if it is not below."""
        other = Base.of(url)
        if other is None or other.origin != self.origin:
            return None
        path = urlsplit(url).path
        rest = path[len(self.path) :]
        return rest if path.startswith(self.path) and rest[:1] in ("", "/") else None


class Cards:
    """Rewrites the cards of one agent.

    `bases`: where the agent is, as the gateway knows it and as the agent speaks of itself. `public_url`: where clients
    reach it. `interfaces`: paths, without a slash at the end, that are served there. `schemes`: what the gateway wants
    of callers, each one of them being enough.
    """

    def __init__(
        self,
        bases: Iterable[Base],
        public_url: str,
        interfaces: Iterable[str],
        *,
        schemes: Sequence["Scheme"] = (),
        push_notifications: bool = False,
    ) -> None:
        self._bases = tuple(bases)
        self._public_url = public_url.rstrip("/")
        self._interfaces = frozenset(interfaces)
        self.schemes = tuple(schemes)
        self._push_notifications = push_notifications

    def public(self, url: Any) -> str | None:
        """The public URL of one of the agent's; None if it is none of them."""
        for base in self._bases:
            path = base.below(url)
            if path is not None:
                return self._public_url + path
        return None

    def rewrite_bytes(self, data: bytes) -> bytes:
        """A card as JSON, rewritten. Raises `CardFault`."""
        return json.dumps(self.rewrite(_parse(data)), ensure_ascii=False).encode()

    def rewrite_result(self, data: bytes) -> bytes:
        """A JSON-RPC response whose result is a card, rewritten; an error goes on as it is. Raises `CardFault`."""
        value = _parse(data)
        if not isinstance(value, dict):
            raise CardFault("no JSON-RPC response")
        if isinstance(value.get("error"), dict) and value.get("result") is None:
            return data
        return json.dumps({**value, "result": self.rewrite(value.get("result"))}, ensure_ascii=False).encode()

    def rewrite(self, value: Any) -> dict[str, Any]:
        """The card as clients of the gateway are to see it. Raises `CardFault`."""
        card = _members(value, _CARD, "the card")
        card.pop("signatures", None)
        modern = self._served(card.pop("supportedInterfaces", None), "protocolBinding")
        legacy = self._legacy(card)
        if not modern and not legacy:
            raise CardFault("no interface that the card names is served here")
        card.update(legacy)
        if modern:
            card["supportedInterfaces"] = modern
        if not self._push_notifications and card.get("capabilities") is not None:
            capabilities = _members(card["capabilities"], _CAPABILITIES, "its capabilities")
            card["capabilities"] = {**capabilities, "pushNotifications": False}
        if self.schemes:
            self._protect(card, modern=bool(modern), legacy=bool(legacy))
        return card

    def _served(self, value: Any, binding: str) -> list[dict[str, Any]]:
        if value is None:
            return []
        if not isinstance(value, list):
            raise CardFault("interfaces are no list")
        interfaces = [_members(one, _INTERFACE, "an interface") for one in value]
        return [
            {**interface, "url": url}
            for interface in interfaces
            if (url := self._interface(interface.get("url"))) and interface.get(binding) in _BINDINGS
        ]

    def _interface(self, url: Any) -> str | None:
        for base in self._bases:
            path = base.below(url)
            if path is not None and path.rstrip("/") in self._interfaces:
                return self._public_url + path
        return None

    def _legacy(self, card: dict[str, Any]) -> dict[str, Any]:
        """Takes the members out by which 0.3 names interfaces, and returns them as they are to be: the first one left
        is the main one."""
        main = {"url": card.pop("url", None), "transport": card.pop("preferredTransport", None) or "JSONRPC"}
        given = card.pop("additionalInterfaces", None)
        more = self._served(given, "transport")
        served = [*self._served([main], "transport"), *more]
        if not served:
            return {}
        first = {"url": served[0]["url"], "preferredTransport": served[0]["transport"]}
        return first if given is None else {**first, "additionalInterfaces": more}

    def _protect(self, card: dict[str, Any], *, modern: bool, legacy: bool) -> None:
        """Add what the gateway wants of callers to what the agent wants: one of the former, and the latter."""
        schemes = card.get("securitySchemes")
        schemes = {} if schemes is None else schemes
        if not isinstance(schemes, dict):
            raise CardFault("security schemes are no object")
        names: list[str] = []
        for scheme in self.schemes:
            name = "agentgate"
            while name in schemes:
                name += "_"
            schemes = {**schemes, name: scheme.shown(modern=modern, legacy=legacy)}
            names.append(name)
        card["securitySchemes"] = schemes
        if modern or "securityRequirements" in card:
            wanted = [_schemes_of(one) for one in _list_of_objects(card.get("securityRequirements"))] or [{}]
            card["securityRequirements"] = [
                {"schemes": {**one, name: {"list": []}}} for name in names for one in wanted
            ]
        if legacy or "security" in card:
            wanted = _list_of_objects(card.get("security")) or [{}]
            card["security"] = [{**one, name: []} for name in names for one in wanted]


class Scheme(NamedTuple):
    """A credential that the gateway takes, as a security scheme of OpenAPI: in 0.3 with a `type`, in 1.0 under the
    name of one."""

    kind: str
    name: str
    fields: dict[str, str]
    place: str = ""
    """`header`, `query` or `cookie`, of a key."""

    def shown(self, *, modern: bool, legacy: bool) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if modern:
            found[self.name] = {**self.fields, **({"location": self.place} if self.place else {})}
        if legacy:
            found |= {"type": self.kind, **self.fields, **({"in": self.place} if self.place else {})}
        return found


def schemes_of(authenticators: Iterable[Authenticator]) -> list[Scheme]:
    """What these authenticators want of callers, as far as it can be told by where they look for it."""
    found: list[Scheme] = []
    for policy in authenticators:
        for scheme in [_scheme_of(policy, place) for place in places(policy.location)]:
            if scheme not in found:
                found.append(scheme)
    return found


def _scheme_of(policy: Authenticator, place: Place) -> Scheme:
    if place == BEARER and isinstance(policy, JWTAuth):
        keys = policy.jwks
        if isinstance(keys, RemoteJWKS) and keys.issuer is not None:  # an OpenID provider, by its own configuration
            return Scheme("openIdConnect", "openIdConnectSecurityScheme", {"openIdConnectUrl": str(keys.url)})
        token = {"scheme": "Bearer", "bearerFormat": "JWT", "description": f"A token of {policy.issuer}"}
        return Scheme("http", "httpAuthSecurityScheme", token)
    if isinstance(place, Header) and place.name == "authorization" and place.prefix.strip():
        return Scheme("http", "httpAuthSecurityScheme", {"scheme": place.prefix.strip()})
    return Scheme("apiKey", "apiKeySecurityScheme", {"name": place.name}, type(place).__name__.lower())


def _parse(data: bytes) -> Any:
    try:
        return loads(data)
    except StrictJSONError as exc:
        raise CardFault(f"not one reading as JSON: {exc}") from None


def _members(value: Any, known: tuple[str, ...], what: str) -> dict[str, Any]:
    """An object whose known members have the one name that is known here: clients may read others, protobuf's
    `supported_interfaces` or `URL`, so those are renamed. Two for one are a fault."""
    if not isinstance(value, dict):
        raise CardFault(f"{what} is no object")
    names: dict[str, str] = {_fold(name): name for name in known}
    found: dict[str, Any] = {}
    member: str
    for member, content in value.items():
        name = names.get(_fold(member), member)
        if name in found:
            raise CardFault(f"{what} has a member spelt in two ways")
        found[name] = content
    return found


def _fold(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold().replace("_", "")


def _list_of_objects(value: Any) -> list[dict[str, Any]]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise CardFault("security requirements are no list of objects")
    return value


def _schemes_of(requirement: dict[str, Any]) -> dict[str, Any]:
    schemes = requirement.get("schemes", {})
    if not isinstance(schemes, dict):
        raise CardFault("security requirements are no list of objects")
    return schemes
