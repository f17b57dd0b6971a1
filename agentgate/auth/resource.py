"""How a client is told where to get in: protected-resource metadata (RFC 9728), and challenges that lead to it.

All of it comes from the operator. Nothing is taken from what a request says of itself, such as its Host; and nothing
is told but where the authorization server is and which scopes to ask for.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

from ..decision import Decision, Reason, deny
from ..errors import ConfigurationError
from ..headers import RawHeaders
from ..request import Request, below_mount
from .location import BEARER, Place, Query, places

if TYPE_CHECKING:
    from ..policy import Authenticator

WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"

_URL: Final = re.compile(
    r"https?://(?:[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?"
    r"(?:/(?!\.{1,2}(?:/|$))(?:[A-Za-z0-9\-._~!$&'()*+,;=:@]|%[0-9A-F]{2})+)*/?"
).fullmatch
_SCOPE: Final = re.compile(r"[!#-\[\]-~]+").fullmatch  # RFC 6749 §3.3
_HAS_SCOPE: Final = re.compile(rb"[ ,]scope=").search
_OURS: Final = ("resource", "bearer_methods_supported")
_BEARER_METHODS: Final[tuple[tuple[Place, str], ...]] = ((BEARER, "header"), (Query("access_token"), "query"))
_OFFLINE: Final = "offline_access"  # how long a login lasts is between the client and its server

_CORS: Final[RawHeaders] = ((b"access-control-allow-origin", b"*"),)
_PREFLIGHT: Final[RawHeaders] = (
    *_CORS,
    (b"access-control-allow-methods", b"GET, HEAD, OPTIONS"),
    (b"access-control-allow-headers", b"*"),  # clients in a browser send MCP-Protocol-Version
)
_OPTIONS: Final = deny("", status=204, code="options", reason=Reason.DIRECT_RESPONSE, policy="gate", headers=_PREFLIGHT)
_METHOD: Final = deny(
    "method not allowed",
    status=405,
    code="method_not_allowed",
    reason=Reason.INTERNAL,
    policy="gate",
    headers=((b"allow", b"GET, HEAD, OPTIONS"), *_CORS),
)


class ProtectedResource:
    """One resource as OAuth clients see it: its public URL, the document about it, and what a 401 says of both."""

    __slots__ = ("_challenge", "_document", "_scope", "host", "path", "url")

    def __init__(self, url: str, authenticators: Sequence["Authenticator"]) -> None:
        self.url = url
        metadata = {"resource": url, **merged_metadata(authenticators)}
        parts = urlsplit(url)
        self.host = host_of(url)
        self.path = f"{WELL_KNOWN}{parts.path}".encode()
        self._document = deny(
            json.dumps(metadata),
            status=200,
            code="resource_metadata",
            reason=Reason.DIRECT_RESPONSE,
            policy="gate",
            headers=((b"content-type", b"application/json"), *_CORS),
        )
        self._challenge = f'resource_metadata="{parts.scheme}://{parts.netloc}{WELL_KNOWN}{parts.path}"'.encode()
        self._scope = " ".join(metadata.get("scopes_supported", ())).encode()

    def is_asked(self, request: Request) -> bool:
        """Whether the request is for the document: at this one spelling of its path, below a mount or not."""
        if request.type != "http":
            return False
        return request.raw_path == self.path or (bool(request.root_path) and below_mount(request)[1] == self.path)

    def answer(self, method: str) -> Decision:
        """What a request for the document gets, whoever asks."""
        return self._document if method in ("GET", "HEAD") else _OPTIONS if method == "OPTIONS" else _METHOD

    def challenged(self, decision: Decision) -> Decision:
        """The refusal, with one Bearer challenge that leads to the document, where logging in would help: a 401, and a
        403 that asks for more scope. Of any other refusal, nothing changes."""
        bearer: bytes | None = None
        others = []
        for name, value in decision.headers:
            if name.lower() == b"www-authenticate" and value.partition(b" ")[0].lower() == b"bearer":
                bearer = value if bearer is None else bearer
            else:
                others.append((name, value))
        if decision.status != 401 and not (decision.status == 403 and bearer and b"insufficient_scope" in bearer):
            return decision
        parameters = (bearer or b"").partition(b" ")[2].strip()
        given = [parameters] if parameters else []
        given.append(self._challenge)
        if self._scope and not _HAS_SCOPE(b" " + parameters):
            given.append(b'scope="%s"' % self._scope)
        return replace(decision, headers=(*others, (b"www-authenticate", b"Bearer " + b", ".join(given))))

    def __repr__(self) -> str:
        return f"ProtectedResource({self.url!r})"


def protected_resource(url: str | None, authenticators: Sequence["Authenticator"]) -> ProtectedResource | None:
    """The resource at this public URL; None where no authenticator knows a server to log in at, or no URL is given."""
    if url is None:
        return None
    url = public_url(url)
    if not any(policy.resource_metadata.get("authorization_servers") for policy in authenticators):
        return None
    return ProtectedResource(url, authenticators)


def public_url(url: str) -> str:
    """The URL as clients spell it; the root is without a slash. A `ConfigurationError` if it is none."""
    if not isinstance(url, str) or _URL(url) is None:
        raise ConfigurationError(
            "public_url is what clients dial, such as https://gateway.example.com: http or https, a host, and no user,"
            " query or fragment"
        )
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.lower()}{'' if parts.path == '/' else parts.path}"


def below(url: str, path: str) -> str:
    """The public URL of a path, which is percent-decoded."""
    return url.rstrip("/") + quote(path, safe="/-._~!$&'()*+,;=:@")


def metadata_of(issuer: str, scopes: Sequence[str], added: Mapping[str, Any]) -> Mapping[str, Any]:
    """What there is to tell of an issuer and the scopes that its tokens must have, and what the operator adds. Who is
    said to be the authorization server is the issuer, if it has a URL, unless the operator names another one."""
    named = {"authorization_servers": [issuer]} if _is_server(issuer) else {}
    more = added.get("scopes_supported", ())
    asked = [*scopes, *(more if isinstance(more, (list, tuple)) else (more,))]
    return MappingProxyType({**named, **added, "scopes_supported": asked})


def host_of(url: str) -> str:
    """The host of a public URL as `Request.host` has it."""
    host = urlsplit(url).hostname or ""
    return f"[{host}]" if ":" in host else host


def merged_metadata(authenticators: Sequence["Authenticator"]) -> dict[str, Any]:
    """What all of them say together: lists are joined; of anything else the first one counts. Raises one
    `ConfigurationError` with every fault."""
    merged: dict[str, Any] = {}
    faults: list[str] = []
    for policy in authenticators:
        place = f"{type(policy).__name__}: resource_metadata"
        for name, value in policy.resource_metadata.items():
            if name in _OURS:
                faults.append(f"{place}: {name} is not set there: it follows from public_url")
            elif name in _LISTS:
                known = merged.setdefault(name, [])
                for one in value if isinstance(value, (list, tuple)) else (None,):
                    if one not in known:
                        known.append(one)
            else:
                merged.setdefault(name, value)
    for name, (fits, what) in _LISTS.items():
        faults += [f"resource_metadata: {name} are {what}" for one in merged.get(name, ()) if not fits(one)]
    try:
        json.dumps(merged, allow_nan=False)
    except (TypeError, ValueError):
        faults.append("resource_metadata: what is in it is JSON")
    if faults:
        raise ConfigurationError(faults)
    merged["scopes_supported"] = [scope for scope in merged.get("scopes_supported", ()) if scope != _OFFLINE]
    locations = [place for policy in authenticators if policy.resource_metadata for place in places(policy.location)]
    merged["bearer_methods_supported"] = [method for place, method in _BEARER_METHODS if place in locations]
    return {name: value for name, value in merged.items() if value != []}  # RFC 9728 §3.2: no empty arrays


def _is_server(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("https://", "http://"))


def _is_scope(value: Any) -> bool:
    return isinstance(value, str) and _SCOPE(value) is not None


_LISTS: Final = {
    "authorization_servers": (_is_server, "URLs"),
    "scopes_supported": (_is_scope, "scopes as of RFC 6749"),
}
