"""Keys of token issuers: which are fit, which are left out, which sets are refused; and where they may come from."""

import json
import logging
import math
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from jwt.algorithms import get_default_algorithms
from jwt.utils import to_base64url_uint

from agentgate import ConfigurationError, JWTAuth, Request, Secret, StaticJWKS
from agentgate.auth import jwks
from agentgate.auth.jwk import _ROCA_PRIMES, MAX_KEYS, KeySet, _check_rsa, _Unfit, read_set
from agentgate.testing import TokenIssuer

ALGORITHMS: Final = get_default_algorithms()
RSA: Final = rsa.generate_private_key(65537, 2048)
EC: Final = ec.generate_private_key(ec.SECP256R1())
ED: Final = ed25519.Ed25519PrivateKey.generate()


def public(kind: str, key: Any, **more: Any) -> dict[str, Any]:
    """A JWK; what is given as `...` is left out."""
    made = {**ALGORITHMS[kind].to_jwk(key.public_key(), as_dict=True), **more}
    return {name: value for name, value in made.items() if value is not ... and (name != "key_ops" or name in more)}


def private(kind: str, key: Any) -> dict[str, Any]:
    made: dict[str, Any] = ALGORITHMS[kind].to_jwk(key, as_dict=True)
    return made


GOOD: Final = public("ES256", EC, kid="good")

FIT: Final[dict[str, tuple[dict[str, Any], set[str]]]] = {
    "RSA": (public("RS256", RSA), {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
    "RSA for one algorithm": (public("RS256", RSA, alg="PS384"), {"PS384"}),
    "P-256": (public("ES256", EC), {"ES256"}),
    "P-384": (public("ES384", ec.generate_private_key(ec.SECP384R1())), {"ES384"}),
    "P-521": (public("ES512", ec.generate_private_key(ec.SECP521R1())), {"ES512"}),
    "Ed25519": (public("EdDSA", ED), {"EdDSA"}),
    "use says signatures": (public("ES256", EC, use="sig"), {"ES256"}),
    "key_ops has verify": (public("ES256", EC, key_ops=["sign", "verify"]), {"ES256"}),
    "members that mean nothing to us": (public("ES256", EC, x5t="abc", x5c=["MIIB"], x5u="http://x"), {"ES256"}),
}


@pytest.mark.parametrize("name", FIT)
def test_keys_that_are_fit(name: str) -> None:
    """A key is for what it says, or for the algorithms of its kind."""
    jwk, algorithms = FIT[name]
    keys = read_set({"keys": [{**jwk, "kid": "k"}]})
    found = {alg for alg in (*ALGORITHMS, "") for key in [keys.find("k", alg)] if key and alg in key.algorithms}
    assert (found, keys.skipped) == (algorithms, ())
    assert "none" not in found


def b64_uint(number: int) -> str:
    return to_base64url_uint(number).decode()


def rsa_of(n: int, e: int = 65537) -> dict[str, Any]:
    return {"kty": "RSA", "n": b64_uint(n), "e": b64_uint(e)}


N: Final = RSA.public_key().public_numbers().n

UNFIT: Final[dict[str, Any]] = {
    "not an object": "key",
    "null": None,
    "no kty": public("ES256", EC, kty=...),
    "kty is a list": public("ES256", EC, kty=["EC"]),
    "an unknown kty": public("ES256", EC, kty="XX"),
    "kty in lower case": public("ES256", EC, kty="ec"),
    "use is for encryption": public("ES256", EC, use="enc"),
    "use is null": public("ES256", EC, use=None),
    "use in upper case": public("ES256", EC, use="SIG"),
    "key_ops without verify": public("ES256", EC, key_ops=["encrypt"]),
    "key_ops is empty": public("ES256", EC, key_ops=[]),
    "key_ops is text": public("ES256", EC, key_ops="verify"),
    "alg of another kind": public("ES256", EC, alg="RS256"),
    "alg of another curve": public("ES256", EC, alg="ES384"),
    "alg for encryption": public("RS256", RSA, alg="RSA-OAEP"),
    "alg none": public("ES256", EC, alg="none"),
    "alg is null": public("ES256", EC, alg=None),
    "alg of HMAC": public("RS256", RSA, alg="HS256"),
    "kid is a number": public("ES256", EC, kid=1),
    "kid is empty": public("ES256", EC, kid=""),
    "kid is null": public("ES256", EC, kid=None),
    "RSA of 1024 bits": public("RS256", rsa.generate_private_key(65537, 1024)),
    "RSA of 2047 bits": rsa_of(N >> 1 | 1),
    "RSA of 16384 bits": rsa_of(1 << 16383 | 1),
    "RSA with e = 1": rsa_of(N, 1),
    "RSA with an even e": rsa_of(N, 65536),
    "RSA with a huge e": rsa_of(N, 2**32 + 1),
    "RSA with an even modulus": rsa_of(N - 1),
    "RSA without n": public("RS256", RSA, n=...),
    "RSA, n is empty": public("RS256", RSA, n=""),
    "RSA, n is a number": public("RS256", RSA, n=5),
    "RSA, n with padding": public("RS256", RSA, n=b64_uint(N) + "=="),
    "RSA, n with a foreign character": public("RS256", RSA, n=b64_uint(N) + "!"),
    "RSA, n with a bit too many": public("RS256", RSA, n=b64_uint(N)[:-1] + "B"),
    "EC, off the curve": public("ES256", EC, y=GOOD["x"]),
    "EC, x too short": public("ES256", EC, x=GOOD["x"][:40]),
    "EC, zeros": public("ES256", EC, x="A" * 43, y="A" * 43),
    "EC without y": public("ES256", EC, y=...),
    "EC of another curve": public("ES256", EC, crv="P-384"),
    "EC of an unknown curve": public("ES256", EC, crv="P-1"),
    "EC without crv": public("ES256", EC, crv=...),
    "secp256k1": public("ES256K", ec.generate_private_key(ec.SECP256K1())),
    "Ed25519, too short": public("EdDSA", ED, x="AAAA"),
    "Ed448": public("EdDSA", ed448.Ed448PrivateKey.generate()),
    "X25519": public("EdDSA", ED, crv="X25519"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_keys_that_are_left_out(name: str) -> None:
    """An unfit key is left out, with a word about it that quotes nothing of it; the others stay."""
    keys = read_set({"keys": [UNFIT[name], GOOD]})
    assert keys.size == 1
    assert keys.find("good", "ES256")
    assert len(keys.skipped) == 1
    assert keys.skipped[0].startswith("key 1: ")
    for secret in (GOOD["x"], b64_uint(N)[:20], "AAAA", "XX"):
        assert secret not in keys.skipped[0]


def test_keys_of_a_faulty_library_are_left_out() -> None:
    """CVE-2017-15361: a modulus that is a power of 65537 modulo every small prime."""
    product = math.prod(_ROCA_PRIMES)
    n = pow(65537, 12345, product) + product * (1 << (2047 - product.bit_length() + 1))
    n += product if n % 2 == 0 else 0
    assert n.bit_length() == 2048
    keys = read_set({"keys": [{**rsa_of(n), "kid": "k"}, GOOD]})
    assert "CVE-2017-15361" in keys.skipped[0]


@pytest.mark.parametrize(("n", "e"), [(N, 1), (N, 2), (N, 65536), (N, 2**32 + 1), (N - 1, 65537), (N >> 1, 65537)])
def test_rsa_numbers_are_looked_at_here_too(n: int, e: int) -> None:
    """And not left to the library that loads them."""
    _check_rsa(N, 3)
    with pytest.raises(_Unfit):
        _check_rsa(n, e)


SECRET: Final = {"kty": "oct", "alg": "HS256", "k": "A" * 43, "kid": "h"}

REFUSED_SETS: Final[dict[str, tuple[Any, str]]] = {
    "no object": ([GOOD], "a list named keys"),
    "no keys": ({}, "a list named keys"),
    "keys is an object": ({"keys": {"good": GOOD}}, "a list named keys"),
    "text": ("keys", "a list named keys"),
    "a private EC key": ({"keys": [GOOD, private("ES256", EC)]}, "private key"),
    "a private RSA key": ({"keys": [GOOD, private("RS256", RSA)]}, "private key"),
    "a private OKP key": ({"keys": [GOOD, private("EdDSA", ED)]}, "private key"),
    "a private key for encryption": ({"keys": [GOOD, {**private("ES256", EC), "use": "enc"}]}, "private key"),
    "one private part": ({"keys": [GOOD, {**public("RS256", RSA), "p": "AQAB"}]}, "private key"),
    "a symmetric key": ({"keys": [SECRET]}, "symmetric key"),
    "a symmetric key and others": ({"keys": [GOOD, SECRET]}, "symmetric key"),
    "a secret in a key of another kind": ({"keys": [{**GOOD, "k": "AAAA"}]}, "private key"),
    "too many": ({"keys": [GOOD] * (MAX_KEYS + 1)}, "at most 256 keys"),
}


@pytest.mark.parametrize("name", REFUSED_SETS)
def test_sets_that_are_refused(name: str) -> None:
    """What is no set, and a set that holds what must stay secret, is refused whole."""
    document, fault = REFUSED_SETS[name]
    with pytest.raises(ConfigurationError, match=fault):
        read_set(document)


def test_a_kid_that_two_keys_have_is_nobodys() -> None:
    """Which of them is meant nobody can tell; not where one is broken, either. Keys for encryption do not count."""
    other = public("ES256", ec.generate_private_key(ec.SECP256R1()), kid="good")
    for double in (other, GOOD, {**other, "y": other["x"]}, public("RS256", RSA, kid="good")):
        keys = read_set({"keys": [GOOD, double, public("RS256", RSA, kid="rsa")]})
        assert keys.find("good", "ES256") is None
        assert keys.find("rsa", "RS256")
    assert read_set({"keys": [GOOD, {**other, "use": "enc"}]}).find("good", "ES256")


def test_a_token_without_kid_gets_the_only_key_for_its_algorithm() -> None:
    """Where two keys could be meant, none is."""
    second = public("ES256", ec.generate_private_key(ec.SECP256R1()), kid="second")
    keys = read_set({"keys": [GOOD, public("RS256", RSA, kid="rsa")]})
    assert keys.find(None, "ES256") is keys.find("good", "ES256")
    assert keys.find(None, "RS512") is keys.find("rsa", "RS512")
    assert keys.find(None, "none") is None
    assert read_set({"keys": [GOOD, second]}).find(None, "ES256") is None


def test_a_single_key_without_a_name_is_asked_about_every_token() -> None:
    """A PEM file has no kid; the issuer's tokens may have one. With a second key, it would be a guess."""
    nameless = public("ES256", EC)
    keys = read_set({"keys": [nameless]})
    assert keys.find("whatever", "ES256")
    assert keys.knows("whatever")
    keys = read_set({"keys": [nameless, public("RS256", RSA, kid="rsa")]})
    assert keys.find("whatever", "ES256") is None
    assert not keys.knows("whatever")
    assert keys.find(None, "ES256")


def test_every_set_has_a_generation_of_its_own() -> None:
    """What was verified with one set is not taken for verified with another."""
    assert len({read_set({"keys": [GOOD]}).generation for _ in range(3)}) == 3


# -- StaticJWKS ------------------------------------------------------------------------------------------------------


def pem(key: Any) -> str:
    text: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return text.decode()


def private_pem(key: Any) -> str:
    text: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return text.decode()


ISSUER: Final = TokenIssuer()


@pytest.mark.parametrize("form", ["mapping", "text", "file", "pem", "pem file"])
def test_keys_given_in_code_in_every_form(form: str, tmp_path: Path) -> None:
    """A mapping, JSON or PEM, in code or in a file: the same keys."""
    text = json.dumps(ISSUER.jwks)
    written = pem(ISSUER._key)
    (tmp_path / "jwks.json").write_text(text)
    (tmp_path / "key.pem").write_text(written)
    store = {
        "mapping": lambda: StaticJWKS(ISSUER.jwks),
        "text": lambda: StaticJWKS(text),
        "file": lambda: StaticJWKS.file(tmp_path / "jwks.json"),
        "pem": lambda: StaticJWKS(written),
        "pem file": lambda: StaticJWKS.file(str(tmp_path / "key.pem")),
    }[form]()
    token = ISSUER.token({"aud": "api", "sub": "alice"})
    policy = JWTAuth(issuer=ISSUER.issuer, audience="api", jwks=store)
    assert policy.check(Request.http(headers={"authorization": f"Bearer {token}"})).effect == "allow"
    assert not policy.prepares


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "a JWK Set is JSON: not valid JSON"),
        ("{", "a JWK Set is JSON: not valid JSON"),
        ('{"keys": [], "keys": []}', "a JWK Set is JSON: a member is given twice"),
        ('{"keys": []}', "no usable key"),
        ('{"keys": "\ud800"}', "a JWK Set is JSON: not UTF-8"),
        ("-----BEGIN PUBLIC KEY-----", "one PUBLIC KEY"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "not a public key in PEM"),
        (pem(EC) + pem(EC), "one PUBLIC KEY"),
        (private_pem(EC), "private key"),
        (pem(EC) + private_pem(EC), "private key"),
        (pem(dsa.generate_private_key(2048)), "not a kind of key that is known here"),
        (pem(ed448.Ed448PrivateKey.generate()), "not a kind of key that is known here"),
        (pem(ec.generate_private_key(ec.SECP256K1())), "not a kind of key that is known here"),
        (pem(rsa.generate_private_key(65537, 1024)), "RSA of 1024 bits"),
        (pem(EC).replace("PUBLIC KEY", "CERTIFICATE"), "one PUBLIC KEY"),
    ],
)
def test_faults_of_keys_given_in_code(text: str, fault: str, tmp_path: Path) -> None:
    """Each is told when the app is built; from a file, with its path."""
    with pytest.raises(ConfigurationError, match=fault):
        StaticJWKS(text)
    (tmp_path / "keys").write_bytes(text.encode("utf-8", "replace"))
    if "\ud800" in text:
        return  # no file has that
    with pytest.raises(ConfigurationError, match=fault) as caught:
        StaticJWKS.file(tmp_path / "keys")
    assert all(line.startswith(str(tmp_path / "keys")) for line in caught.value.faults)


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file, bytes that are no text, or too many of them."""
    with pytest.raises(ConfigurationError, match="FileNotFoundError"):
        StaticJWKS.file(tmp_path / "absent")
    (tmp_path / "binary").write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match="UnicodeDecodeError"):
        StaticJWKS.file(tmp_path / "binary")
    monkeypatch.setattr(jwks, "MAX_DOCUMENT_BYTES", 10)
    (tmp_path / "large").write_text(json.dumps(ISSUER.jwks))
    with pytest.raises(ConfigurationError, match="too large"):
        StaticJWKS.file(tmp_path / "large")


def test_keys_that_are_left_out_are_told(caplog: pytest.LogCaptureFixture) -> None:
    """A warning for each; and a set with no other is a fault that says why."""
    with caplog.at_level(logging.WARNING):
        StaticJWKS({"keys": [GOOD, {**GOOD, "use": "enc"}]})
    assert caplog.messages == ["a key is left out: key 2: not for verifying signatures (use, key_ops)"]
    with pytest.raises(ConfigurationError) as caught:
        StaticJWKS({"keys": [{**GOOD, "use": "enc"}]})
    assert len(caught.value.faults) == 2


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_shared_secret(algorithm: str) -> None:
    """Symmetric keys count where they are given in code, and say for which algorithm."""
    issuer = TokenIssuer(algorithm=algorithm)
    issuer._key = b"0123456789abcdef" * 4
    store = StaticJWKS.hmac(Secret("0123456789abcdef" * 4), algorithm)
    for keys in (store, StaticJWKS(issuer.jwks)):
        policy = JWTAuth(issuer=issuer.issuer, audience="api", jwks=keys)
        token = issuer.token({"aud": "api"})
        assert policy.check(Request.http(headers={"authorization": f"Bearer {token}"})).effect == "allow"
    assert "0123" not in repr(store) + repr(store.keys) + repr(store.keys.find("", algorithm))


@pytest.mark.parametrize(
    ("size", "algorithm"), [(31, "HS256"), (47, "HS384"), (63, "HS512"), (64, "RS256"), (64, "none"), (64, "")]
)
def test_a_secret_that_is_short_or_for_nothing(size: int, algorithm: str) -> None:
    """A secret has the size of the digest, at least."""
    with pytest.raises(ConfigurationError):
        StaticJWKS.hmac(Secret("s" * size), algorithm)


@pytest.mark.parametrize(
    "keys",
    [
        [{**SECRET, "alg": ...}],
        [{**SECRET, "alg": "RS256"}],
        [{**SECRET, "k": "A" * 42}],
        [{**SECRET, "k": ""}],
        [{**SECRET, "k": ...}],
        [{**SECRET, "use": "enc"}],
        [SECRET, GOOD],
        [SECRET, SECRET],
        [SECRET, "x"],
    ],
)
def test_symmetric_keys_that_are_refused(keys: list[Any]) -> None:
    """Without alg, too short, twice, or with keys of another kind beside them."""
    cleaned = [
        {name: value for name, value in key.items() if value is not ...} if isinstance(key, dict) else key
        for key in keys
    ]
    with pytest.raises(ConfigurationError):
        StaticJWKS({"keys": cleaned})


def test_reprs_say_what_and_no_more() -> None:
    store = StaticJWKS(ISSUER.jwks)
    assert repr(store) == "StaticJWKS(1 keys)"
    assert repr(store.keys) == f"KeySet(1 keys, generation={store.keys.generation})"
    assert repr(store.keys.find("test", "ES256")) == "VerificationKey(kid='test', algorithms=['ES256'])"
    assert isinstance(store.keys, KeySet)
