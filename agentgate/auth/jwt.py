"""JWTAuth: who is asking, by a JSON Web Token (RFC 7519, RFC 8725, RFC 9068).

A token counts when its issuer is ours, the key it names is the issuer's, the signature is good and the claims say that
it is for us and for now. It issues nothing, asks no provider about a token, and believes nothing of a token that is
not verified, but for the question whose it is.
"""

import re
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Final, final

from .. import strict_json
from ..decision import Decision, Reason, abstain, allow, deny
from ..errors import ConfigurationError
from ..headers import RawHeaders
from ..nothing import NOTHING
from ..policy import Authenticator
from ..principal import JWT, Principal
from ..request import Request
from .base64url import decode
from .jose import Compact, Header, TokenFault, find_key, invalid, malformed, read_header, split, verify
from .jwks import StaticJWKS
from .location import BEARER, Location, places
from .remote_jwks import RemoteJWKS
from .resource import metadata_of

POLICY: Final = "JWTAuth"
LEEWAY_SECONDS: Final = 60  # between our clock and the issuer's; as agentgateway has it
CACHE_SECONDS: Final = 60  # how long a verified token is taken at its word
_MAX_HEADERS: Final = 64  # of tokens whose signatures were good: with most issuers, one for each key

_FAILURE: Final = "authentication failure: "
_MAX_TIME: Final = 2**53  # beyond it, a double no longer tells seconds apart
_ACCESS_TOKEN: Final = frozenset({"at+jwt", "application/at+jwt"})
_ANY_TOKEN: Final = _ACCESS_TOKEN | {"jwt", "application/jwt"}
_SCOPE: Final = re.compile(r"[!#-\[\]-~]+").fullmatch  # RFC 6749 §3.3


@final
class AnyAudience:
    """The type of `ANY_AUDIENCE`."""

    def __repr__(self) -> str:
        return "ANY_AUDIENCE"


ANY_AUDIENCE: Final = AnyAudience()
"""For `JWTAuth(audience=...)`: take tokens that were issued for anybody, so that any service that is shown one can use
it here. It is a name, and not None, so that an unset variable never means it."""


class JWTAuth(Authenticator):
    """Recognises callers by a token of `issuer`, for one of `audience`, at `location`.

    `jwks`: the issuer's keys: their URL, a JWK Set, or a store; left out, the issuer's OpenID configuration says where
    they are. `scopes` that a token must have (else 403), `required_claims` that it must name. `max_lifetime`: the most
    seconds from `iat` to `exp`. `require_at_jwt`: only access tokens that say so (RFC 9068). `cache_size`: how many
    verified tokens are kept for up to a minute; 0 turns that off.

    `identity_headers` tell the app of claims: `{"x-agent-sub": "sub"}`. `resource_metadata` is added to what OAuth
    clients are told where there is a `public_url`.

    A missing token abstains; one of another issuer, or a bearer value that is no token, is left to others; a bad one
    is 401, with agentgateway's words and a challenge. Faults of configuration are one `ConfigurationError`.
    """

    location: Location

    def __init__(
        self,
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
    ) -> None:
        faults: list[str] = []
        if not isinstance(issuer, str) or not issuer:
            faults.append("issuer is the text that tokens have as iss")
        audiences = _audiences(audience, faults)
        self._scopes = _names("scopes", scopes, faults)
        if not all(map(_SCOPE, self._scopes)):
            faults.append("a scope is visible ASCII without blanks, quotes and backslashes")
        self._required_claims = _names("required_claims", required_claims, faults)
        if max_lifetime is not None and not (isinstance(max_lifetime, int | float) and max_lifetime > 0):
            faults.append("max_lifetime is a number of seconds")
        if not isinstance(cache_size, int) or cache_size < 0:
            faults.append("cache_size is a number of tokens")
        if not isinstance(resource_metadata, Mapping):
            faults.append("resource_metadata maps names of RFC 9728 to what they say")
        try:
            self.jwks = _store(jwks, issuer)
        except ConfigurationError as exc:
            faults += [f"jwks: {fault}" for fault in exc.faults]
        if faults:
            raise ConfigurationError(f"JWTAuth: {fault}" for fault in faults)
        if type(self).prepare is JWTAuth.prepare:  # a subclass's own is always called
            self.prepares = self.jwks.refreshes
        self.issuer = issuer
        self.location = location
        self.identity_headers = identity_headers
        self.resource_metadata = metadata_of(issuer, self._scopes, resource_metadata)
        self._audiences = audiences
        self._max_lifetime = max_lifetime
        self._types = _ACCESS_TOKEN if require_at_jwt else _ANY_TOKEN
        self._untyped = not require_at_jwt
        self._cache_size = cache_size
        # SHA-256 of the whole token -> generation of the keys, first and last moment, answer.
        self._verified: OrderedDict[bytes, tuple[int, float, float, Decision]] = OrderedDict()
        self._headers: dict[bytes, Header] = {}
        self._missing = abstain(
            _FAILURE + "no bearer token found", reason=Reason.JWT_AUTH, policy=POLICY, headers=challenge()
        )
        self._foreign = _left_to_others("Error(InvalidIssuer)")
        self._no_token = _left_to_others("Error(InvalidToken)")
        self._narrow = deny(
            code="insufficient_scope",
            detail=f"not every scope of: {' '.join(self._scopes)}",
            policy=POLICY,
            headers=challenge(error="insufficient_scope", scope=" ".join(self._scopes)),
        )

    async def prepare(self, request: Request) -> None:
        found = self.location.find(request)
        if not isinstance(self.jwks, RemoteJWKS) or len(found) != 1:
            return
        header = self._headers.get(found[0].partition(b".")[0])
        if header is not None and self.jwks.settled(header.kid):
            return  # as nearly always: a key that has been used before
        parts = split(found[0])
        if parts is None:
            return
        try:
            header, claims = self._read(parts)
        except TokenFault:
            return  # which `check` will tell
        if claims["iss"] == self.issuer:
            await self.jwks.refresh(header.kid)

    def check(self, request: Request) -> Decision:
        found = self.location.find(request)
        if not found:
            return self._missing
        if len(found) > 1:
            return _refused(malformed("several tokens"))
        token = found[0]
        keys, now = self.jwks.keys, request.now
        digest = sha256(token).digest() if self._cache_size else b""
        known = self._verified.pop(digest, None)
        if known is not None and keys is not None and known[0] == keys.generation and known[1] <= now < known[2]:
            self._verified[digest] = known  # the last one used is the last to go
            return known[3]
        try:
            parts = split(token)
            if parts is None or not parts.payload:
                if BEARER in places(self.location):
                    return self._no_token
                raise malformed("not three parts of base64url, or too long")
            header, claims = self._read(parts)
            if claims["iss"] != self.issuer:
                return self._foreign
            if keys is None:
                return _NO_KEYS
            verify(parts, header, find_key(header, keys))
            if len(self._headers) >= _MAX_HEADERS:
                self._headers.clear()
            self._headers[parts.header] = header
            until = self._check_claims(header, claims, now)
        except TokenFault as fault:
            return _refused(fault)
        answer = self._narrow
        if not self._scopes or _scopes_of(claims).issuperset(self._scopes):
            answer = allow(Principal(_id_of(claims, token), JWT, _frozen(claims)), policy=POLICY)
        if self._cache_size:
            self._verified[digest] = (keys.generation, now, until, answer)
            if len(self._verified) > self._cache_size:
                self._verified.popitem(last=False)
        return answer

    def _read(self, parts: Compact) -> tuple[Header, dict[str, Any]]:
        """Header and claims, neither of them verified, but for `iss` being there."""
        header = self._headers.get(parts.header) or read_header(parts.header)
        claims = _read_claims(parts.payload)
        if "iss" not in claims:
            raise invalid('MissingRequiredClaim("iss")')
        return header, claims

    def _check_claims(self, header: Header, claims: Mapping[str, Any], now: float) -> float:
        """Whether a token with a good signature is for us and for now; until when that need not be asked again."""
        if not (self._untyped if header.typ is None else header.typ.lower() in self._types):
            raise malformed("typ is not that of a token for us")
        if (exp := _time(claims, "exp")) is None:
            raise invalid('MissingRequiredClaim("exp")')
        nbf, iat = _time(claims, "nbf"), _time(claims, "iat")
        if now >= exp + LEEWAY_SECONDS:
            raise invalid("ExpiredSignature")
        if (nbf is not None and now < nbf - LEEWAY_SECONDS) or (iat is not None and now < iat - LEEWAY_SECONDS):
            raise invalid("ImmatureSignature")
        if self._max_lifetime is not None:
            if iat is None:
                raise invalid('MissingRequiredClaim("iat")')
            if exp - iat > self._max_lifetime:
                raise invalid("InvalidToken", "it lives longer than max_lifetime")
        if self._audiences is not None:
            _check_audience(claims, self._audiences)
        if "sub" in claims and not (isinstance(claims["sub"], str) and claims["sub"]):
            raise invalid("InvalidSubject")
        for name in self._required_claims:
            if claims.get(name) is None:
                raise invalid(f'MissingRequiredClaim("{name}")')
        return min(now + CACHE_SECONDS, exp + LEEWAY_SECONDS)

    def __repr__(self) -> str:
        return f"JWTAuth(issuer={self.issuer!r}, jwks={self.jwks!r}, location={self.location!r})"


def challenge(**parameters: str) -> RawHeaders:
    """A `WWW-Authenticate` header for the Bearer scheme (RFC 6750 §3). Values are the configuration's, never the
    client's."""
    text = ", ".join(f'{name}="{value}"' for name, value in parameters.items())
    return ((b"www-authenticate", f"Bearer {text}".rstrip().encode()),)


_INVALID: Final = challenge(error="invalid_token")
# The token may be good, and the caller should keep it: it is us who cannot tell.
_NO_KEYS: Final = deny(
    _FAILURE + "the keys of the issuer are not available",
    status=503,
    code="keys_unavailable",
    reason=Reason.JWT_AUTH,
    policy=POLICY,
)


def _left_to_others(error: str) -> Decision:
    """The answer about what may be another authenticator's; where nobody takes it, it was a bad token all the same."""
    return abstain(
        f"{_FAILURE}the token is invalid or malformed: {error}",
        code="invalid_token",
        reason=Reason.JWT_AUTH,
        policy=POLICY,
        headers=_INVALID,
    )


def _refused(fault: TokenFault) -> Decision:
    return deny(
        _FAILURE + fault.message,
        status=401,
        code="invalid_token",
        reason=Reason.JWT_AUTH,
        detail=fault.detail,
        policy=POLICY,
        headers=_INVALID,
    )


def _store(jwks: object, issuer: str) -> StaticJWKS | RemoteJWKS:
    if isinstance(jwks, StaticJWKS | RemoteJWKS):
        return jwks
    if isinstance(jwks, str):
        return RemoteJWKS(jwks)
    if jwks is None:
        return RemoteJWKS.discover(issuer)
    if isinstance(jwks, Mapping):
        return StaticJWKS(jwks)
    raise ConfigurationError(f"a URL, a JWK Set, a StaticJWKS or a RemoteJWKS is expected, not {type(jwks).__name__}")


def _audiences(audience: object, faults: list[str]) -> frozenset[str] | None:
    if isinstance(audience, AnyAudience):
        return None
    found = [audience] if isinstance(audience, str) else [*audience] if isinstance(audience, Iterable) else []
    if not found or not all(isinstance(name, str) and name for name in found):
        faults.append("audience names who tokens are for, as text or several; ANY_AUDIENCE turns the check off")
    return frozenset(found)


def _names(option: str, names: Collection[str], faults: list[str]) -> tuple[str, ...]:
    if isinstance(names, str) or not all(isinstance(name, str) and name for name in names):
        faults.append(f"{option} is a collection of names")
        return ()
    return tuple(names)


# -- what a token says -----------------------------------------------------------------------------------------------


def _read_claims(payload: bytes) -> dict[str, Any]:
    try:
        claims = strict_json.loads(decode(payload))
    except ValueError:
        raise invalid("InvalidToken", "the payload is not JSON in base64url") from None
    if not isinstance(claims, dict):
        raise invalid("InvalidToken", "the payload is no object")
    return claims


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    """Seconds since the epoch (RFC 7519 NumericDate), None where the token does not say."""
    if name not in claims:
        return None
    value = claims[name]
    if value.__class__ not in (int, float) or not 0 <= value < _MAX_TIME:
        raise invalid(f'InvalidClaimFormat("{name}")')
    moment: float = value
    return moment


def _check_audience(claims: Mapping[str, Any], ours: frozenset[str]) -> None:
    if "aud" not in claims:
        raise invalid('MissingRequiredClaim("aud")')
    aud = claims["aud"]
    named = [aud] if isinstance(aud, str) else aud
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise invalid('InvalidClaimFormat("aud")')
    if ours.isdisjoint(named):
        raise invalid("InvalidAudience")


def _scopes_of(claims: Mapping[str, Any]) -> set[str]:
    """Of `scope` (RFC 8693: names with blanks between) and `scp` (Okta's list, Entra's text)."""
    scope, scp = claims.get("scope"), claims.get("scp")
    named = set(scope.split(" ")) if isinstance(scope, str) else set()
    if isinstance(scp, str):
        named.update(scp.split(" "))
    elif isinstance(scp, list):
        named.update(name for name in scp if isinstance(name, str))
    return named


def _id_of(claims: Mapping[str, Any], token: bytes) -> str:
    """The subject. Without one, a name made of a digest, which nobody can be given as subject by mistake."""
    return claims.get("sub") or f"token-{sha256(token).hexdigest()[:8]}"


def _frozen(value: Any) -> Any:
    """Claims that nobody can change: one verified token's are seen by all requests that bring it."""
    if value.__class__ is dict:
        return MappingProxyType({name: _frozen(member) for name, member in value.items()})
    if value.__class__ is list:
        return tuple(map(_frozen, value))
    return value
