"""Attacks on tokens, one row each, and beside them the tokens that must pass: what fell elsewhere is tried here.

Every token below is signed by hand, byte for byte, so that it may say anything; most are signed with the right key.
"""

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt.algorithms import get_default_algorithms
from jwt.utils import raw_to_der_signature

from agentgate import JWTAuth, Request
from agentgate.auth import base64url
from agentgate.auth.jose import MAX_TOKEN_BYTES

NOW: Final = 1_800_000_000
ISSUER: Final = "https://issuer.example/"
ALGORITHMS: Final = get_default_algorithms()

RSA: Final = rsa.generate_private_key(65537, 2048)
EC: Final = ec.generate_private_key(ec.SECP256R1())
OTHER: Final = ec.generate_private_key(ec.SECP256R1())
KEYS: Final[dict[str, Any]] = {"RS256": RSA, "PS256": RSA, "ES256": EC}


def jwk(kind: str, key: Any, **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = ALGORITHMS[kind].to_jwk(key.public_key(), as_dict=True)
    made.pop("key_ops", None)
    return {**made, **more}


JWKS: Final = {"keys": [jwk("RS256", RSA, kid="rsa", alg="RS256"), jwk("ES256", EC, kid="ec")]}
POLICY: Final = JWTAuth(issuer=ISSUER, audience="api", jwks=JWKS)

HEADER: Final = {"alg": "ES256", "kid": "ec", "typ": "JWT"}
CLAIMS: Final = {"iss": ISSUER, "aud": "api", "sub": "alice", "exp": NOW + 300, "iat": NOW}


def b64(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")


def as_bytes(part: object) -> bytes:
    return part if isinstance(part, bytes) else json.dumps(part).encode()


def sign(header: object = HEADER, payload: object = CLAIMS, alg: str = "ES256", key: Any = None) -> bytes:
    """A token of whatever header and payload, signed by `alg` with our key for it, or with `key`."""
    signed = b64(as_bytes(header)) + b"." + b64(as_bytes(payload))
    return signed + b"." + b64(ALGORITHMS[alg].sign(signed, KEYS[alg] if key is None else key))


def headed(**members: Any) -> bytes:
    """A good token but for its header; what is given as `...` is left out."""
    return sign({name: value for name, value in {**HEADER, **members}.items() if value is not ...})


def saying(**claims: Any) -> bytes:
    """A good token but for its claims; what is given as `...` is left out."""
    return sign(payload={name: value for name, value in {**CLAIMS, **claims}.items() if value is not ...})


def saying_raw(members: str) -> bytes:
    """A good token with claims that no Python value makes."""
    return sign(payload=b'{"iss":"%b","aud":"api","sub":"alice",%b}' % (ISSUER.encode(), members.encode()))


def unsigned(header: object, signature: bytes) -> bytes:
    return b64(as_bytes(header)) + b"." + b64(as_bytes(CLAIMS)) + b"." + signature


def swapped(part: int, change: Callable[[bytes], bytes], token: bytes | None = None) -> bytes:
    """A good token with one part's text changed."""
    parts = (token or sign()).split(b".")
    parts[part] = change(parts[part])
    return b".".join(parts)


def answer(token: bytes, policy: JWTAuth = POLICY, now: float = NOW) -> Any:
    return policy.check(Request({"type": "http", "headers": [(b"authorization", b"Bearer " + token)]}, now=now))


def is_accepted(token: bytes, policy: JWTAuth = POLICY, now: float = NOW) -> bool:
    decision = answer(token, policy, now)
    if decision.effect == "allow":
        assert decision.principal is not None
        return True
    assert decision.status == 401
    assert (b"www-authenticate", b'Bearer error="invalid_token"') in decision.headers
    return False


PEM: Final = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
DER: Final = RSA.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
HS = ALGORITHMS["HS256"]


def with_hmac(secret: bytes, **header: Any) -> bytes:
    head = {name: value for name, value in {"alg": "HS256", "kid": "rsa", **header}.items() if value is not ...}
    signed = b64(as_bytes(head)) + b"." + b64(as_bytes(CLAIMS))
    return signed + b"." + b64(HS.sign(signed, secret))


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


RS = {"alg": "RS256", "kid": "rsa"}

ACCEPTED: Final[dict[str, bytes]] = {
    "the plain good token": sign(),
    "RS256, the key says so": sign(RS, alg="RS256"),
    "no typ": headed(typ=...),
    "typ in lower case": headed(typ="jwt"),
    "typ of an access token": headed(typ="at+jwt"),
    "typ as a media type": headed(typ="application/at+JWT"),
    "members that mean nothing to us": headed(x5t="abc", nonce="1"),
    "white space in the header": sign(b' { "alg" : "ES256" ,\n "kid" : "ec" } '),
    "no kid, one key for its algorithm": headed(kid=...),
    "audience in a list": saying(aud=["other", "api"]),
    "times with fractions": saying(exp=NOW + 0.5, iat=NOW - 0.5, nbf=NOW - 0.25),
    "exponents in times": saying_raw(f'"exp":{NOW + 300:e}'),
    "just in the leeway after exp": saying(exp=NOW - 59),
    "just in the leeway before nbf": saying(nbf=NOW + 60),
    "issued a little ahead of our clock": saying(iat=NOW + 60),
    "no iat, no nbf": saying(iat=..., nbf=...),
    "no sub": saying(sub=...),
    "claims of every kind": saying(roles=["dev"], nested={"a": [1, {"b": None}]}, ok=True, n=1.5),
    "text beyond ASCII": saying(sub="alíce \U0001f600"),
    "jku, that nobody follows": headed(jku="https://evil.example/jwks.json"),
    "jwk of somebody else, our signature": headed(jwk=jwk("ES256", OTHER)),
    "x5c and x5u": headed(x5c=["MIIB"], x5u="https://evil.example/cert.pem"),
    "nearly as long as a token may be": saying(pad="x" * 5800),
}

NO_TIMES: Final[list[Any]] = [
    str(NOW), "9" * 400, True, False, None, [], {}, [NOW], -1, -0.5, 2**53, 2**63, 2**64, 1e300,
]  # fmt: skip

REFUSED: Final[dict[str, bytes]] = {
    # -- the algorithm
    **{
        f"alg {alg!r}, {how} signature": unsigned({"alg": alg, "kid": kid}, signature)
        for alg in ("none", "None", "NONE", "nOnE", "", "null")
        for kid in ("rsa",)
        for how, signature in (("no", b""), ("some", b"AAAA"), ("the right", sign().split(b".")[2]))
    },
    "no alg": headed(alg=...),
    "alg is null": headed(alg=None),
    "alg is a number": headed(alg=256),
    "alg is a list": headed(alg=["ES256"]),
    "alg twice": sign(b'{"alg":"none","alg":"ES256","kid":"ec"}'),
    "alg in lower case": headed(alg="es256"),
    "HS256 with the public key in PEM": with_hmac(PEM),
    "HS256 with the PEM, stripped": with_hmac(PEM.strip()),
    "HS256 with the public key in DER": with_hmac(DER),
    "HS256 with the JWK as text": with_hmac(json.dumps(JWKS["keys"][0]).encode()),
    "HS256 with the modulus": with_hmac(JWKS["keys"][0]["n"].encode()),
    "HS256 without kid": with_hmac(PEM, kid=...),
    "PS256 by a key that is for RS256": sign({"alg": "PS256", "kid": "rsa"}, alg="PS256"),
    "RS256 header over a PS256 signature": sign(RS, alg="PS256"),
    "RS256 with the kid of the EC key": sign({"alg": "RS256", "kid": "ec"}, alg="RS256"),
    "ES256 with the kid of the RSA key": sign({"alg": "ES256", "kid": "rsa"}),
    "ES384 by a P-256 key": headed(alg="ES384"),
    "ES256, signature of zeros": unsigned(HEADER, b64(bytes(64))),
    "ES256, r and s are the order": unsigned(
        HEADER, b64(bytes.fromhex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551") * 2)
    ),
    "ES256, signature in DER": swapped(2, lambda s: b64(raw_to_der_signature(base64url.decode(s), EC.curve))),
    "ES256, signature too short": swapped(2, lambda s: b64(base64url.decode(s)[:-1])),
    "ES256, signature too long": swapped(2, lambda s: b64(base64url.decode(s) + b"\0")),
    "RS256, no signature bytes to speak of": unsigned(RS, b"AA"),
    "RS256, zeros": unsigned(RS, b64(bytes(256))),
    "RS256, ones": unsigned(RS, b64(bytes(255) + b"\1")),
    "signed by somebody else": sign(key=OTHER),
    # -- keys that a token brings along
    "jwk in the header, signed by it": sign({**HEADER, "jwk": jwk("ES256", OTHER)}, key=OTHER),
    "jwk in the header, an unknown kid": sign({**HEADER, "kid": "new", "jwk": jwk("ES256", OTHER)}, key=OTHER),
    "jwk in the header, no kid": sign({"alg": "ES256", "jwk": jwk("ES256", OTHER)}, key=OTHER),
    "x5c in the header, signed by it": sign({**HEADER, "x5c": ["MIIB"]}, key=OTHER),
    # -- the name of the key
    "kid is a path": headed(kid="../../../../dev/null"),
    "kid is SQL": headed(kid="ec' UNION SELECT 'secret"),
    "kid is a command": headed(kid="|id"),
    "kid is a number": headed(kid=1),
    "kid is a list": headed(kid=["ec"]),
    "kid is an object": headed(kid={"ec": 1}),
    "kid is null": headed(kid=None),
    "kid is empty": headed(kid=""),
    "kid is nearly right": headed(kid="ec "),
    "kid in upper case": headed(kid="EC"),
    "kid is long": headed(kid="k" * 257),
    "kid twice": sign(b'{"alg":"ES256","kid":"ec","kid":"ec"}'),
    "no kid, no key for its algorithm": sign({"alg": "PS256"}, alg="PS256"),
    # -- members that change what the bytes mean
    "crit of something": headed(crit=["exp"], exp=NOW),
    "crit of b64": headed(crit=["b64"], b64=True),
    "crit is empty": headed(crit=[]),
    "crit is text": headed(crit="exp"),
    "b64 is false": headed(b64=False),
    "b64 is true": headed(b64=True),
    "zip": headed(zip="DEF"),
    "cty, a nested token": headed(cty="JWT"),
    "typ of something else": headed(typ="dpop+jwt"),
    "typ of a logout token": headed(typ="logout+jwt"),
    "typ is empty": headed(typ=""),
    "typ is a number": headed(typ=1),
    "typ is null": headed(typ=None),
    "a nested token as payload": sign(payload=b'"%b"' % sign()),
    # -- times
    **{f"{name} is {value!r}"[:60]: saying(**{name: value}) for name in ("exp", "nbf", "iat") for value in NO_TIMES},
    **{
        f"{name} is {text}"[:60]: saying_raw(f'"{name}":{text}' + ("" if name == "exp" else f',"exp":{NOW + 300}'))
        for name in ("exp", "nbf", "iat")
        for text in (
            "NaN",
            "Infinity",
            "-Infinity",
            "1e308",
            "1e999",
            "1" * 31,
            "1" * 5000,
            "01800000000",
            "+1",
            "0x10",
        )
    },
    "no exp": saying(exp=...),
    "exp twice": saying_raw(f'"exp":1,"exp":{NOW + 300}'),
    "expired, leeway and all": saying(exp=NOW - 60),
    "not good yet": saying(nbf=NOW + 61),
    "issued in the future": saying(iat=NOW + 61),
    # -- whose and for whom
    "no iss": saying(iss=...),
    "iss of somebody else": saying(iss="https://evil.example/"),
    "iss without its slash": saying(iss="https://issuer.example"),
    "iss is a prefix of ours": saying(iss="https://issuer"),
    "iss begins with ours": saying(iss=ISSUER + "x"),
    "iss in another case": saying(iss="https://Issuer.example/"),
    "iss with a blank": saying(iss=ISSUER + " "),
    "iss is a list with ours": saying(iss=[ISSUER]),
    "iss is null": saying(iss=None),
    "iss is empty": saying(iss=""),
    "no aud": saying(aud=...),
    "aud of somebody else": saying(aud="other"),
    "aud is empty": saying(aud=""),
    "aud is an empty list": saying(aud=[]),
    "aud is null": saying(aud=None),
    "aud is a number": saying(aud=1),
    "aud is an object": saying(aud={"api": True}),
    "aud is a list in a list": saying(aud=[["api"]]),
    "aud is a list with a number": saying(aud=["api", 1]),
    "aud contains ours": saying(aud="api.example"),
    "aud is a part of ours": saying(aud="ap"),
    "aud in another case": saying(aud="API"),
    "sub is empty": saying(sub=""),
    "sub is a number": saying(sub=1),
    "sub is a list": saying(sub=["alice"]),
    "sub is null": saying(sub=None),
    "sub is true": saying(sub=True),
    "sub twice": saying_raw(f'"exp":{NOW + 300},"sub":"root"'),
    # -- JSON with two readings, or none
    "a byte order mark before the payload": sign(payload=b"\xef\xbb\xbf" + as_bytes(CLAIMS)),
    "a byte order mark before the header": sign(b"\xef\xbb\xbf" + as_bytes(HEADER)),
    "UTF-16 payload": sign(payload=json.dumps(CLAIMS).encode("utf-16")),
    "UTF-16 header": sign(json.dumps(HEADER).encode("utf-16")),
    "Latin-1 payload": sign(payload=b'{"sub":"\xe4","exp":%d,"iss":"%b","aud":"api"}' % (NOW + 9, ISSUER.encode())),
    "a lone surrogate": saying_raw(f'"exp":{NOW + 300},"x":"\\ud800"'),
    "a deep payload": saying_raw(f'"exp":{NOW + 300},"x":{nested(2000).decode()}'),
    "a deep header": sign(b'{"alg":"ES256","kid":"ec","x":' + nested(200) + b"}"),
    "payload is a list": sign(payload=[CLAIMS]),
    "payload is text": sign(payload="alice"),
    "payload is a number": sign(payload=1),
    "payload is null": sign(payload=None),
    "payload is empty": sign(payload=b""),
    "payload is not JSON": sign(payload=b"foo"),
    "payload with a comma too many": sign(payload=as_bytes(CLAIMS)[:-1] + b",}"),
    "payload with something behind it": sign(payload=as_bytes(CLAIMS) + b"x"),
    "header is a list": sign([HEADER]),
    "header is null": sign(None),
    "header is not JSON": sign(b"foo"),
    # -- the outer form
    "padding behind the signature": sign() + b"==",
    "padding behind the header": swapped(0, lambda s: s + b"="),
    "padding behind the payload": swapped(1, lambda s: s + b"=="),
    "an unused bit set in the signature": swapped(2, lambda s: s[:-1] + bytes([s[-1] + 1])),
    "plus and slash": swapped(2, lambda s: s.replace(b"-", b"+").replace(b"_", b"/") + b"+"),
    "a blank inside": swapped(1, lambda s: s[:10] + b" " + s[10:]),
    "a line end inside": swapped(1, lambda s: s[:10] + b"\n" + s[10:]),
    "a line end behind": sign() + b"\n",
    "a NUL behind": sign() + b"\0",
    "a character beyond ASCII": swapped(1, lambda s: s + b"\xc3\xa9"),
    "two parts": sign().rpartition(b".")[0],
    "a dot too many, in front": b"." + sign(),
    "a dot too many, behind": sign() + b".",
    "four parts": sign() + b".AAAA",
    "five parts, as a JWE has": b"e30.AAAA.AAAA.AAAA.AAAA",
    "PBES2 with a million rounds": b64(b'{"alg":"PBES2-HS256+A128KW","p2c":2147483647}') + b".AAAA.AAAA.AAAA.AAAA",
    "ten thousand dots": b"." * 8000,
    "no header": b"." + sign().partition(b".")[2],
    "no signature": sign().rpartition(b".")[0] + b".",
    "JSON serialisation": json.dumps({"payload": "e30", "signatures": []}).encode(),
    "flattened JSON": b'{"payload":"e30","protected":"e30","signature":"AA"}',
    "longer than a token may be": saying(pad="x" * 8000),
    "two tokens with a comma": sign() + b", " + sign(),
    "two tokens with a comma, no blank": sign() + b"," + sign(),
    "in quotes": b'"' + sign() + b'"',
    "the scheme twice": b"Bearer " + sign(),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_good_tokens_pass(name: str) -> None:
    """The attacks below fail for what is wrong with them, and not because nothing passes."""
    decision = answer(ACCEPTED[name])
    assert (decision.effect, decision.detail) == ("allow", "")


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("warm", [False, True], ids=["cold", "after a good token"])
def test_attacks_do_not(name: str, warm: bool) -> None:
    """Every one of them is a 401 with a challenge; whether or not caches hold what a good token has left there."""
    policy = JWTAuth(issuer=ISSUER, audience="api", jwks=JWKS, cache_size=16 if warm else 0)
    if warm:
        assert is_accepted(sign(), policy)
        assert is_accepted(sign(RS, alg="RS256"), policy)
    assert not is_accepted(REFUSED[name], policy)
    assert not is_accepted(REFUSED[name], policy)
    if warm:
        assert is_accepted(sign(), policy)


def test_no_attack_is_told_what_it_said() -> None:
    """No answer to an attack quotes anything of the token, but for the name of a key in plain characters."""
    for name, token in REFUSED.items():
        decision = answer(token)
        for said in (decision.message, decision.detail, repr(decision)):
            assert "alice" not in said, name
            assert "evil" not in said, name
            assert "root" not in said, name
            assert "SELECT" not in said, name


@pytest.mark.parametrize(
    ("algorithms", "header", "accepted"),
    [
        (["RS256"], {"alg": "RS256"}, True),
        (["PS256"], {"alg": "PS256"}, True),
        (["PS256"], {"alg": "RS256"}, False),
        (["RS256"], {"alg": "PS256"}, False),
        ([], {"alg": "RS256"}, True),
        ([], {"alg": "PS256"}, True),
        ([], {"alg": "ES256"}, False),
        ([], {"alg": "HS256"}, False),
    ],
)
def test_the_key_says_which_algorithm(algorithms: list[str], header: dict[str, str], accepted: bool) -> None:
    """A key is for the `alg` that it has; without one, for those of its kind. Tokens are signed as they say."""
    alg = header["alg"]
    key = jwk("RS256", RSA, kid="k", **({"alg": algorithms[0]} if algorithms else {}))
    policy = JWTAuth(issuer=ISSUER, audience="api", jwks={"keys": [key]})
    token = with_hmac(PEM, kid="k") if alg == "HS256" else sign({**header, "kid": "k"}, alg=alg)
    assert is_accepted(token, policy) is accepted


def test_the_key_of_another_issuer_is_no_key() -> None:
    """A token is matched by issuer first: an issuer's key, with its kid, vouches for nobody else's tokens."""
    ours = JWTAuth(issuer=ISSUER, audience="api", jwks={"keys": [jwk("ES256", EC, kid="k")]})
    theirs = JWTAuth(issuer="https://other.example/", audience="api", jwks={"keys": [jwk("ES256", OTHER, kid="k")]})
    header = {"alg": "ES256", "kid": "k"}
    forged = sign(header, {**CLAIMS, "iss": "https://other.example/"})
    assert is_accepted(sign(header), ours)
    assert not is_accepted(forged, ours)
    assert not is_accepted(forged, theirs)
    assert is_accepted(sign(header, {**CLAIMS, "iss": "https://other.example/"}, key=OTHER), theirs)


def test_null_is_no_claim() -> None:
    """A claim that is required is there, and says something."""
    policy = JWTAuth(issuer=ISSUER, audience="api", jwks=JWKS, required_claims=["email"])
    assert is_accepted(saying(email="a@example.com"), policy)
    assert not is_accepted(saying(email=None), policy)


# -- properties ------------------------------------------------------------------------------------------------------

GOOD: Final = sign()
_POSITIONS = st.integers(0, len(GOOD) - 1)
_BYTES = st.integers(0, 255)


@settings(max_examples=500, deadline=None)
@given(position=_POSITIONS, byte=_BYTES)
def test_no_byte_of_a_token_can_be_changed(position: int, byte: int) -> None:
    changed = GOOD[:position] + bytes([byte]) + GOOD[position + 1 :]
    assert is_accepted(changed) is (changed == GOOD)


@settings(max_examples=500, deadline=None)
@given(start=_POSITIONS, length=st.integers(0, 20), put=st.binary(max_size=20))
def test_nothing_can_be_put_in_or_taken_out(start: int, length: int, put: bytes) -> None:
    changed = GOOD[:start] + put + GOOD[start + length :]
    assert is_accepted(changed) is (changed == GOOD)


@settings(max_examples=300, deadline=None)
@given(part=st.integers(0, 2), bit=st.integers(0, 10_000))
def test_no_bit_of_what_a_token_means_can_be_changed(part: int, bit: int) -> None:
    """The same on the decoded bytes, which are spelled properly again."""
    parts = GOOD.split(b".")
    data = bytearray(base64url.decode(parts[part]))
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    parts[part] = b64(bytes(data))
    assert not is_accepted(b".".join(parts))


@settings(max_examples=500, deadline=None)
@given(
    st.one_of(
        st.binary(min_size=1, max_size=200),
        st.from_regex(rb"[A-Za-z0-9_-]{1,40}(\.[A-Za-z0-9_-]{0,40}){2}", fullmatch=True),
    )
)
def test_no_bytes_at_all_are_a_token(token: bytes) -> None:
    assert not is_accepted(token)


@settings(max_examples=300, deadline=None)
@given(
    header=st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "jwk", "zip"]), st.one_of(
        st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.sampled_from(["none", "HS256", "ES256", "ec"]),
        st.lists(st.text(max_size=3), max_size=2))),
    signature=st.binary(max_size=70),
)  # fmt: skip
def test_no_header_makes_up_for_a_signature(header: dict[str, Any], signature: bytes) -> None:
    assert not is_accepted(unsigned(header, b64(signature)))


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=60))
def test_base64url_has_one_spelling(data: bytes) -> None:
    """What encoding gives is decoded; with any other last character, or padding, it is refused or means other bytes."""
    text = b64(data)
    assert base64url.decode(text) == data
    for last in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_":
        other = text[:-1] + bytes([last])
        if text and other != text:
            try:
                assert base64url.decode(other) != data
                assert b64(base64url.decode(other)) == other
            except ValueError:
                pass


def test_the_longest_token_there_can_be() -> None:
    """The limit is where it is said to be, and holds before anything is decoded."""
    base = len(saying(pad=""))
    fill = (MAX_TOKEN_BYTES - base) * 3 // 4
    sizes = {len(saying(pad="x" * n)): n for n in range(fill - 4, fill + 5)}
    longest = max(size for size in sizes if size <= MAX_TOKEN_BYTES)
    assert longest > MAX_TOKEN_BYTES - 3
    assert is_accepted(saying(pad="x" * sizes[longest]))
    assert not is_accepted(saying(pad="x" * (sizes[longest] + 3)))
