"""APIKeyAuth: who is asking, by an API key. It compares digests, logs no key, and answers every bad key alike."""

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Final

from ..decision import Decision, Reason, abstain, deny
from ..nothing import NOTHING
from ..policy import Authenticator
from ..request import Request
from ..secret import Secret
from .jose import is_jwt
from .keys import ALWAYS, MAX_KEY_BYTES, POLICY, VISIBLE, Key, KeyStore, StaticKeys
from .location import BEARER, Location, places

_CHALLENGE: Final = ((b"www-authenticate", b"Bearer"),)
_FAILURE: Final = "api key authentication failure: "

_MISSING: Final = abstain(_FAILURE + "no API Key found", reason=Reason.API_KEY_AUTH, policy=POLICY, headers=_CHALLENGE)
# A token that may be another authenticator's; if there is none to take it, it was a bad credential all the same.
_UNRECOGNISED: Final = abstain(
    _FAILURE + "invalid credentials",
    code="invalid_credential",
    reason=Reason.API_KEY_AUTH,
    policy=POLICY,
    headers=_CHALLENGE,
)


class APIKeyAuth(Authenticator):
    """Recognises callers by a key at `location` (`Authorization: Bearer <key>` unless written otherwise).

    `keys` is a `KeyStore`, or what `StaticKeys` takes. A missing key abstains, a bad one is 401
    `api key authentication failure: invalid credentials`; strings and statuses are agentgateway's, with
    `WWW-Authenticate` added as RFC 9110 wants it. A bearer token in the shape of a JWT is left to others, unless it
    is a key. `identity_headers` tell the app of the key's metadata: `{"x-agent-group": "group"}`.
    """

    location: Location

    def __init__(
        self,
        keys: KeyStore | Mapping[str, str | Secret] | Iterable[str | Secret | Key],
        *,
        location: Location = BEARER,
        identity_headers: Mapping[str, str] = NOTHING,
    ) -> None:
        self.keys = keys if isinstance(keys, KeyStore) else StaticKeys(keys)
        self.location = location
        self.identity_headers = identity_headers
        if type(self).prepare is APIKeyAuth.prepare:  # a subclass's own is always called
            self.prepares = self.keys.refreshes

    async def prepare(self, request: Request) -> None:
        await self.keys.refresh()

    def check(self, request: Request) -> Decision:
        found = self.location.find(request)
        if not found:
            return _MISSING
        if len(found) > 1:
            return _invalid("several credentials")
        credential = found[0]
        fits = len(credential) <= MAX_KEY_BYTES and not credential.translate(None, VISIBLE)
        key = self.keys.find(sha256(credential).digest()) if fits else None
        if key is None:
            if BEARER in places(self.location) and is_jwt(credential):
                return _UNRECOGNISED
            return _invalid("unknown key" if fits else "not in the form of a key")
        if key.window != ALWAYS and (fault := key.out_of_date(request.now)):
            return _invalid(fault)
        return key.allowed

    def __repr__(self) -> str:
        return f"APIKeyAuth({self.keys!r}, location={self.location!r})"


def _invalid(detail: str) -> Decision:
    return deny(
        _FAILURE + "invalid credentials",
        status=401,
        code="invalid_credential",
        reason=Reason.API_KEY_AUTH,
        detail=detail,
        policy=POLICY,
        headers=_CHALLENGE,
    )
