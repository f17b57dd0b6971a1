"""JWTAuth: who is asking, by a token; every mode, and the exact words."""

import pytest

from agentgate import ANY_AUDIENCE, ConfigurationError, JWTAuth, Principal, Request
from agentgate.testing import TokenIssuer

ISSUER = TokenIssuer()


@pytest.mark.parametrize("algorithm", ["RS256", "PS512", "ES256", "ES384", "ES512", "EdDSA", "HS256", "HS512"])
def test_every_algorithm(algorithm: str) -> None:
    """A token of every kind of key is accepted, and nobody else's."""
    issuer, other = TokenIssuer(algorithm=algorithm), TokenIssuer(algorithm=algorithm)
    policy = JWTAuth(issuer=issuer.issuer, audience="api", jwks=issuer.jwks)
    claims = {"sub": "alice", "aud": "api"}
    good = policy.check(Request.http(headers={"authorization": f"Bearer {issuer.token(claims)}"}))
    assert good.principal == Principal("alice", "jwt", good.principal.attributes if good.principal else {})
    bad = policy.check(Request.http(headers={"authorization": f"Bearer {other.token(claims)}"}))
    assert (bad.status, bad.message) == (
        401,
        "authentication failure: the token is invalid or malformed: Error(InvalidSignature)",
    )


@pytest.mark.parametrize("audience", ["", [], [""], None])
def test_the_audience_is_said(audience: object) -> None:
    """An audience that nobody has set is a fault of configuration; that it does not matter has a name."""
    with pytest.raises(ConfigurationError, match="ANY_AUDIENCE"):
        JWTAuth(issuer=ISSUER.issuer, audience=audience, jwks=ISSUER.jwks)  # type: ignore[arg-type]
    JWTAuth(issuer=ISSUER.issuer, audience=ANY_AUDIENCE, jwks=ISSUER.jwks)
