"""Project Wycheproof's vectors for JSON Web Signatures and Keys: what others got wrong, tried on our strict layer.

They come as data: `wycheproof-jws.json` and `wycheproof-jwk.json` in the folder that AGENTGATE_TEST_DATA names.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from agentgate import ConfigurationError, StaticJWKS
from agentgate.auth.base64url import decode
from agentgate.auth.jose import TokenFault, find_key, read_header, split, verify

FOLDER = os.environ.get("AGENTGATE_TEST_DATA")
needs_data = pytest.mark.skipif(FOLDER is None, reason="AGENTGATE_TEST_DATA does not name the folder of the vectors")

_OTHER_ALG = "the key says that it is for another alg than the token's: PS256 and PS384, ES521 and ES512"
_SAME_BYTES = "the padding that the vector is about is not in it: it has the bytes of the valid vector 357"
_FOREIGN = "a character that is not base64url's; RFC 7515 leaves no room for it"

DEVIATIONS: Final = {
    "jws 346 rfc7520 Figure20": _OTHER_ALG,
    "jws 347 rfc7520 Figure27": _OTHER_ALG,
    "jws 350 rfc7520WithKeyOps Figure20": _OTHER_ALG,
    "jws 351 rfc7520WithKeyOps Figure27": _OTHER_ALG,
    "jws 367 base64 invalidBase64Padding": _SAME_BYTES,
    "jws 370 base64 invalidBase64PaddingInPayload": _SAME_BYTES,
    "jws 372 base64 InvalidCharacterInsertedInHeader": _FOREIGN,
    "jws 373 base64 InvalidCharacterInsertedInPayload": _FOREIGN,
}
"""The vectors whose result is not ours, and why: of 427, and none of them lets in what is not signed."""


def vectors(name: str) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Each vector: what it is called, the JWK Set, the test."""
    assert FOLDER is not None
    for group in json.loads((Path(FOLDER) / name).read_text("utf-8"))["testGroups"]:
        keys = group.get("public") or group["private"]
        for test in group["tests"]:
            jwks = keys if "keys" in keys else {"keys": [keys]}
            yield f"{name.removesuffix('.json')[11:]} {test['tcId']} {group['comment']} {test['comment']}", jwks, test


def accepted(jws: object, jwks: Any) -> bool:
    """Whether the token is signed with a key of the set, as far as the strict layer goes."""
    try:
        keys = StaticJWKS(jwks).keys
        parts = split(jws.encode()) if isinstance(jws, str) else None
        if parts is None:
            return False
        header = read_header(parts.header)
        verify(parts, header, find_key(header, keys))
        decode(parts.payload)
    except (ConfigurationError, ValueError, TokenFault):
        return False
    return True


@needs_data
@pytest.mark.parametrize(("name", "count"), [("wycheproof-jws.json", 401), ("wycheproof-jwk.json", 26)])
def test_every_vector(name: str, count: int) -> None:
    results = {vector: (test["result"] == "valid", accepted(test["jws"], jwks)) for vector, jwks, test in vectors(name)}
    assert len(results) == count
    wrong = {vector for vector, (expected, found) in results.items() if expected != found}
    assert wrong == {vector for vector in DEVIATIONS if vector[:3] == name[11:14]}
    assert sum(found for _, found in results.values()) >= {"jws": 40, "jwk": 5}[name[11:14]]  # it does accept


@needs_data
def test_the_padding_vectors_have_no_padding() -> None:
    """What is said of them in the table."""
    jws = {test["tcId"]: test["jws"] for _, _, test in vectors("wycheproof-jws.json")}
    assert jws[367] == jws[370] == jws[357]
