"""JSON Web Signatures in their compact form (RFC 7515), read strictly: a token's bytes have one reading, or none.

Size, shape, alphabet and spelling are checked before anything is decoded. Nothing here chooses an algorithm or a key
by what a token says of itself: a header only names one of our own, and a `jwk`, `jku`, `x5u` or `x5c` in it is never
looked at. What a payload means is not known here.
"""

import re
from dataclasses import dataclass
from typing import Final, NamedTuple

from .. import strict_json
from .base64url import decode
from .jwk import KeySet, VerificationKey

MAX_TOKEN_BYTES: Final = 8 * 1024  # a longer credential is refused before it is looked at
MAX_KID_CHARACTERS: Final = 256

_SHAPE: Final = re.compile(rb"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)\.([A-Za-z0-9_-]+)").fullmatch
_REFUSED_MEMBERS: Final = frozenset({"crit", "zip", "cty", "b64"})  # each would change what the bytes mean

_PLAIN_KID: Final = re.compile(r"[A-Za-z0-9_.:/+=@-]{1,64}").fullmatch


class TokenFault(Exception):
    """Why a token is refused: `message` for the client, in agentgateway's words, `detail` for the log. Neither quotes
    more of the token than the name of a key."""

    def __init__(self, message: str, detail: str = "") -> None:
        self.message = message
        self.detail = detail
        super().__init__(message)


def invalid(error: str, detail: str = "") -> TokenFault:
    """A fault as agentgateway words it: `the token is invalid or malformed: Error(...)`."""
    return TokenFault(f"the token is invalid or malformed: Error({error})", detail)


def malformed(detail: str) -> TokenFault:
    """A fault in a token's outer form or its header."""
    return TokenFault("the token header is malformed: Error(InvalidToken)", detail)


class Compact(NamedTuple):
    """The three parts of a token, as they stand in it."""

    header: bytes
    payload: bytes
    signature: bytes

    @property
    def signed(self) -> bytes:
        """What the signature is over."""
        return b"%b.%b" % (self.header, self.payload)


@dataclass(frozen=True, slots=True)
class Header:
    """What a token's header says of the key: its name, and the algorithm that it must be for."""

    alg: str
    kid: str | None
    typ: str | None


def split(token: bytes) -> Compact | None:
    """The parts of a token, or None for what has not the size, the shape or the alphabet of one. Only the payload may
    be empty."""
    match = _SHAPE(token) if len(token) <= MAX_TOKEN_BYTES else None
    return None if match is None else Compact(*match.groups())


def is_jwt(credential: bytes) -> bool:
    """Whether it has the shape of a JSON Web Token: three parts of base64url, with dots between them."""
    parts = split(credential)
    return parts is not None and parts.payload != b""


def read_header(segment: bytes) -> Header:
    """The header of a token (RFC 7515 §4), before anything is verified. Raises `TokenFault`."""
    try:
        header = strict_json.loads(decode(segment))
    except ValueError:
        raise malformed("the header is not JSON in base64url") from None
    if not isinstance(header, dict):
        raise malformed("the header is no object")
    refused = _REFUSED_MEMBERS.intersection(header)
    if refused:
        raise malformed(f"{min(refused)} in the header")
    alg, kid, typ = header.get("alg"), header.get("kid"), header.get("typ")
    if not isinstance(alg, str):
        raise malformed("alg is not text")
    if "kid" in header and not (isinstance(kid, str) and len(kid) <= MAX_KID_CHARACTERS):
        raise malformed("kid is not text, or too long")
    if "typ" in header and not isinstance(typ, str):
        raise malformed("typ is not text")
    return Header(alg, kid, typ)


def find_key(header: Header, keys: KeySet) -> VerificationKey:
    """The key that a header names, if it is one of ours and for that algorithm. Raises `TokenFault`."""
    key = keys.find(header.kid, header.alg)
    if key is None:
        if header.kid is None:
            raise TokenFault("the token header does not specify a `kid`", "no kid, and not exactly one key for its alg")
        name = f' "{header.kid}"' if _PLAIN_KID(header.kid) else ""
        raise TokenFault(f"token uses the unknown key{name}")
    if header.alg not in key.algorithms:
        raise invalid("InvalidAlgorithm", "alg is not that of the key")
    return key


def verify(parts: Compact, header: Header, key: VerificationKey) -> None:
    """Check the signature with the algorithm that the key is for. Raises `TokenFault`."""
    try:
        good = key.algorithms[header.alg](parts.signed, decode(parts.signature))
    except ValueError:
        good = False
    if good is not True:
        raise invalid("InvalidSignature")
