"""JSON Web Keys (RFC 7517): the keys that tokens are verified with, and which of them are fit for it.

A key decides which algorithms it is for; a token can only name one of them. A key that is unfit is left out, and told
of; a set that holds what must stay secret is refused whole. No private key is ever loaded, and no message quotes a key.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from types import MappingProxyType
from typing import Any, Final

from ..errors import ConfigurationError
from . import base64url

MAX_KEYS: Final = 256  # a larger set is refused: no provider has so many, and each costs time to load
MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 8192  # verifying takes time that grows with the square of it

Verify = Callable[[bytes, bytes], bool]
"""`(message, signature)` to whether the signature is good."""

_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES: Final[Mapping[tuple[str, str], str]] = {
    ("EC", "P-256"): "ES256",
    ("EC", "P-384"): "ES384",
    ("EC", "P-521"): "ES512",
    ("OKP", "Ed25519"): "EdDSA",
}
_NIST: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_MIN_SECRET_BYTES: Final[Mapping[str, int]] = {"HS256": 32, "HS384": 48, "HS512": 64}  # RFC 7518 §3.2
_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})

_BASE64URL: Final = re.compile("[A-Za-z0-9_-]+").fullmatch
_PEM: Final = re.compile(r"\s*-----BEGIN PUBLIC KEY-----[A-Za-z0-9+/=\s]+-----END PUBLIC KEY-----\s*").fullmatch

# CVE-2017-15361: RSA moduli from Infineon's library are, modulo small primes, powers of 65537, and can be factored.
_ROCA_PRIMES: Final = (
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109,
    113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
)  # fmt: skip

_generations: Final = count(1)


@dataclass(frozen=True, slots=True, eq=False)
class VerificationKey:
    """A key, and how a signature is checked with it, by each algorithm that it is for."""

    kid: str | None
    algorithms: Mapping[str, Verify] = field(repr=False)

    def __repr__(self) -> str:
        return f"VerificationKey(kid={self.kid!r}, algorithms={[*self.algorithms]!r})"


class KeySet:
    """Keys by their names, frozen: a change of keys is another set. `generation` is a number that no two sets share;
    `skipped` says which keys were left out, and why."""

    __slots__ = ("_by_algorithm", "_by_kid", "_nameless", "generation", "size", "skipped")

    def __init__(self, keys: Iterable[VerificationKey], skipped: Iterable[str] = ()) -> None:
        found = tuple(keys)
        self.skipped: Final = tuple(skipped)
        self.size: Final = len(found)
        self.generation: Final = next(_generations)
        self._by_kid = {key.kid: key for key in found if key.kid is not None}
        admitting = Counter(alg for key in found for alg in key.algorithms)
        self._by_algorithm = {alg: key for key in found for alg in key.algorithms if admitting[alg] == 1}
        self._nameless = found[0] if len(found) == 1 and found[0].kid is None else None

    def knows(self, kid: str | None) -> bool:
        """Whether there is a key for tokens with this `kid`. For those with none, other keys would be no help."""
        return kid is None or kid in self._by_kid or self._nameless is not None

    def find(self, kid: str | None, alg: str) -> VerificationKey | None:
        """The key called `kid`. A token without one gets the only key for its algorithm; a set of one key that has no
        name itself (a PEM file) is asked about every token."""
        if kid is None:
            return self._by_algorithm.get(alg)
        return self._by_kid.get(kid, self._nameless)

    def __repr__(self) -> str:
        return f"KeySet({self.size} keys, generation={self.generation})"


def read_set(document: Any, *, secrets: bool = False) -> KeySet:
    """The usable keys of a JWK Set (RFC 7517 §5). Raises `ConfigurationError` for what is none, and for a set with
    private parts. `secrets` allows symmetric keys, in a set that has no others."""
    entries = document.get("keys") if isinstance(document, Mapping) else None
    if not isinstance(entries, list):
        raise ConfigurationError("a JWK Set is an object with a list named keys")
    if len(entries) > MAX_KEYS:
        raise ConfigurationError(f"a JWK Set has at most {MAX_KEYS} keys")
    members = [entry for entry in entries if isinstance(entry, Mapping)]
    symmetric = [entry for entry in members if entry.get("kty") == "oct"]
    if secrets and symmetric and len(symmetric) < len(entries):
        raise ConfigurationError("symmetric keys and others in one JWK Set")
    if not secrets and symmetric:
        raise ConfigurationError("a symmetric key in a JWK Set that is not secret")
    if any(_PRIVATE.intersection(entry) for entry in members if entry.get("kty") != "oct"):
        raise ConfigurationError("a private key in a JWK Set: replace that key, others may have read it")
    names = Counter(entry["kid"] for entry in members if isinstance(entry.get("kid"), str) and _for_signatures(entry))
    keys, skipped = [], []
    for number, entry in enumerate(entries, 1):
        try:
            key = _read_key(entry)
            if key.kid is not None and names[key.kid] > 1:  # also where the other one is broken: which is meant?
                raise _Unfit("another key has the same kid")
            keys.append(key)
        except _Unfit as exc:
            skipped.append(f"key {number}: {exc}")
    return KeySet(keys, skipped)


def read_pem(text: str) -> KeySet:
    """One public key in PEM (`BEGIN PUBLIC KEY`), which has no name. Raises `ConfigurationError`."""
    if "PRIVATE KEY-----" in text:
        raise ConfigurationError("this is a private key; tokens are verified with the public one")
    if _PEM(text) is None:
        raise ConfigurationError("a PEM text holds one PUBLIC KEY")
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        return KeySet([VerificationKey(None, _algorithms_of(load_pem_public_key(text.encode())))])
    except _Unfit as exc:
        raise ConfigurationError(str(exc)) from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigurationError("not a public key in PEM") from None


def read_secret(secret: bytes, alg: str) -> KeySet:
    """One symmetric key, for one algorithm. Raises `ConfigurationError`."""
    try:
        return KeySet([VerificationKey(None, _secret(secret, alg))])
    except _Unfit as exc:
        raise ConfigurationError(str(exc)) from None


class _Unfit(Exception):
    """Why a key is left out."""


def _read_key(jwk: Any) -> VerificationKey:
    if not isinstance(jwk, Mapping):
        raise _Unfit("not an object")
    if not _for_signatures(jwk):
        raise _Unfit("not for verifying signatures (use, key_ops)")
    kid, alg = jwk.get("kid"), jwk.get("alg")
    if "kid" in jwk and not (isinstance(kid, str) and kid):
        raise _Unfit("kid is not text")
    if "alg" in jwk and not isinstance(alg, str):
        raise _Unfit("alg is not text")
    algorithms = _secret(_bytes(jwk, "k"), alg) if jwk.get("kty") == "oct" else _public(jwk)
    if alg is not None:
        if alg not in algorithms:
            raise _Unfit("alg is not one for this kind of key")
        algorithms = {alg: algorithms[alg]}
    return VerificationKey(kid, MappingProxyType(algorithms))


def _for_signatures(jwk: Mapping[str, Any]) -> bool:
    operations = jwk.get("key_ops", ["verify"])
    return jwk.get("use", "sig") == "sig" and isinstance(operations, list) and "verify" in operations


def _public(jwk: Mapping[str, Any]) -> dict[str, Verify]:
    kty, curve = jwk.get("kty"), jwk.get("crv")
    parts: tuple[str, ...]
    if kty == "RSA":
        alg, parts = "RS256", ("n", "e")
    elif isinstance(kty, str) and isinstance(curve, str) and (kty, curve) in _CURVES:
        alg, parts = _CURVES[kty, curve], ("x", "y") if kty == "EC" else ("x",)
    else:
        raise _Unfit("not a kind of key that is known here (kty, crv)")
    for name in parts:
        _bytes(jwk, name)
    material = {name: jwk[name] for name in ("kty", "crv", *parts) if name in jwk}  # and nothing else, not even `d`
    try:
        key = pyjwt_algorithms()[alg].from_jwk(material)
    except Exception as exc:  # cryptography and PyJWT have several: not on the curve, too short, ...
        raise _Unfit(f"not a valid key ({type(exc).__name__})") from None
    return _algorithms_of(key)


def _algorithms_of(key: Any) -> dict[str, Verify]:
    """What a public key of cryptography's is for, if it is fit for anything."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    if isinstance(key, RSAPublicKey):
        _check_rsa(key.public_numbers().n, key.public_numbers().e)
        names: tuple[str, ...] = _RSA
    elif isinstance(key, EllipticCurvePublicKey) and key.curve.name in _NIST:
        names = (_NIST[key.curve.name],)
    elif isinstance(key, Ed25519PublicKey):
        names = ("EdDSA",)
    else:
        raise _Unfit("not a kind of key that is known here")
    return {name: _verifier(name, key) for name in names}


def _check_rsa(n: int, e: int) -> None:
    if not MIN_RSA_BITS <= n.bit_length() <= MAX_RSA_BITS:
        raise _Unfit(f"RSA of {n.bit_length()} bits, not of {MIN_RSA_BITS} to {MAX_RSA_BITS}")
    if not (2 < e < 2**32 and e % 2 and n % 2):
        raise _Unfit("RSA with an exponent or modulus that nobody should use")
    if all(n % prime in powers for prime, powers in _roca().items()):
        raise _Unfit("RSA key made by a faulty library (CVE-2017-15361)")


@cache
def _roca() -> dict[int, frozenset[int]]:
    return {prime: frozenset(pow(65537, k, prime) for k in range(prime - 1)) for prime in _ROCA_PRIMES}


def _secret(secret: bytes, alg: str | None) -> dict[str, Verify]:
    if alg is None or alg not in _MIN_SECRET_BYTES:
        raise _Unfit(f"a symmetric key is for one of {', '.join(_MIN_SECRET_BYTES)}, and says for which")
    if len(secret) < _MIN_SECRET_BYTES[alg]:
        raise _Unfit(f"a secret for {alg} has at least {_MIN_SECRET_BYTES[alg]} bytes")
    return {alg: _verifier(alg, secret)}


def _verifier(alg: str, key: Any) -> Verify:
    verify = pyjwt_algorithms()[alg].verify
    return lambda message, signature: verify(message, key, signature)


def _bytes(jwk: Mapping[str, Any], name: str) -> bytes:
    text = jwk.get(name)
    if not isinstance(text, str) or _BASE64URL(text) is None:
        raise _Unfit(f"{name} is not base64url")
    try:
        return base64url.decode(text.encode())
    except ValueError:
        raise _Unfit(f"{name} is not base64url") from None


@cache
def pyjwt_algorithms() -> Mapping[str, Any]:
    """PyJWT's algorithms by name; of use only with the names that a key of ours has."""
    from jwt.algorithms import get_default_algorithms  # it loads cryptography: only where a token can come

    return get_default_algorithms()
