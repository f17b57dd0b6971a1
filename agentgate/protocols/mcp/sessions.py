"""Session ids: the client's is the upstream's, sealed for the one who opened the session.

Nothing is kept. An id opens with the key it was sealed with, for the same caller, on any replica that has that key;
for everybody else it is as unknown as one made up. It refuses to be a credential: whoever holds one still has to be
the caller it was made for.
"""

import hmac
import json
import re
import secrets
from base64 import urlsafe_b64encode
from hashlib import sha256, sha512
from typing import Final

from ...auth.base64url import decode
from ...errors import ConfigurationError
from ...principal import Principal
from ...secret import Secret

MIN_KEY: Final = 32  # characters of a key that is given

Caller = tuple[Principal, ...]
"""Everybody who was authenticated when the request was read; Gates further in may know more, but come later."""

_BASE64URL: Final = re.compile(rb"[A-Za-z0-9_-]+").fullmatch


class Sessions:
    """Seals the session ids of upstreams. Without a key, with one of this process alone."""

    def __init__(self, key: Secret | None = None) -> None:
        # Costly to import, and only a process that speaks MCP needs it.
        from cryptography.hazmat.primitives.ciphers.aead import AESSIV

        if key is not None and (not isinstance(key, Secret) or len(key.reveal()) < MIN_KEY):
            raise ConfigurationError(f"session_key is a Secret of at least {MIN_KEY} random characters")
        seed = secrets.token_bytes(32) if key is None else key.reveal().encode()
        # Deterministic: an upstream repeats its id in every answer, and the client's must not change.
        self._cipher = AESSIV(hmac.digest(seed, b"agentgate: MCP session ids", sha512))

    def seal(self, upstream: bytes, owner: bytes) -> bytes:
        """The id for the client."""
        return urlsafe_b64encode(self._cipher.encrypt(upstream, [owner])).rstrip(b"=")

    def unseal(self, sealed: bytes, owner: bytes) -> bytes | None:
        """The upstream's id; None for what was not sealed for this owner with this key."""
        from cryptography.exceptions import InvalidTag

        if _BASE64URL(sealed) is None:
            return None
        try:
            return self._cipher.decrypt(decode(sealed), [owner])
        except (InvalidTag, ValueError):
            return None

    def __repr__(self) -> str:
        return "Sessions()"


def owner_of(caller: Caller) -> bytes:
    """Who is asking, as far as a session is bound to it: everybody that was authenticated, each by the kind of
    credential, its issuer and the id. A new key or token of the same caller changes nothing; nobody is an owner too."""
    who = [[one.source, str(one.attributes.get("iss", "")), one.id] for one in caller]
    return sha256(json.dumps(who).encode()).digest()


def fingerprint(sealed: bytes) -> str:
    """What rules and logs have for a session: nobody can use it to join one."""
    return sha256(sealed).hexdigest()[:16]
