"""What a token costs: beside an API key in a Gate where it was seen before, and beside `jwt.decode` where it was not.

Run it: `python tests/bench/tokens.py`. All rows of a table come from one run, their rounds interleaved; compare the
ratios.
"""

import asyncio
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import jwt

from agentgate import APIKeyAuth, Gate, JWTAuth, RemoteJWKS, Request, hash_key, new_key
from agentgate.testing import TokenIssuer

ALGORITHMS = ("RS256", "ES256", "EdDSA")
AUDIENCE = "https://api.example.com"
CLAIMS = {
    "sub": "auth0|5f7c8ec7c33c6c004bbafe82",
    "aud": [AUDIENCE, "https://issuer.example/userinfo"],
    "azp": "my_client_id",
    "scope": "openid profile tools:read tools:call",
    "roles": ["dev", "ops"],
    "email": "alice@example.com",
    "email_verified": True,
    "tenant": "t1",
    "level": 5,
    "exp": int(time.time()) + 3600,
}
START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
BODY = {"type": "http.response.body", "body": b"ok"}


async def bare(scope: Any, receive: Any, send: Any) -> None:
    await send(START)
    await send(BODY)


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: object) -> None:
    pass


def _scope(credential: str) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 53122),
        "scheme": "http",
        "method": "GET",
        "root_path": "",
        "path": "/headers",
        "raw_path": b"/headers",
        "query_string": b"",
        "headers": [
            (b"host", b"www.example.com"),
            (b"user-agent", b"curl/8.5.0"),
            (b"accept", b"*/*"),
            (b"accept-encoding", b"gzip, deflate"),
            (b"x-request-id", b"0123456789abcdef"),
            (b"authorization", b"Bearer " + credential.encode()),
        ],
    }


def _remote(issuer: TokenIssuer) -> RemoteJWKS:
    return RemoteJWKS(
        "https://issuer.example/jwks", transport=httpx.MockTransport(lambda _: httpx.Response(200, json=issuer.jwks))
    )


async def _gates(rounds: int, requests: int) -> dict[str, float]:
    issuer, key = TokenIssuer(algorithm="RS256"), new_key()
    token = issuer.token(CLAIMS)

    def tokens(**options: Any) -> Gate:
        policy = JWTAuth(**{"issuer": issuer.issuer, "audience": AUDIENCE, "jwks": issuer.jwks, **options})
        return Gate(bare, authenticate=[policy])

    contestants: dict[str, tuple[Any, str]] = {
        "bare app": (bare, key),
        "API key": (Gate(bare, authenticate=[APIKeyAuth({"alice": hash_key(key)})]), key),
        "token seen before, keys in code": (tokens(), token),
        "token seen before, keys of the issuer": (tokens(jwks=_remote(issuer)), token),
        "token never seen (RS256), keys in code": (tokens(cache_size=0), token),
        "token never seen (RS256), keys of the issuer": (tokens(cache_size=0, jwks=_remote(issuer)), token),
    }
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, (app, credential) in contestants.items():
            started = time.process_time_ns()
            for _ in range(requests):
                await app(_scope(credential), _receive, _send)
            times[name].append((time.process_time_ns() - started) / requests / 1000)
    bare_time = statistics.median(times.pop("bare app"))
    return {name: statistics.median(values) - bare_time for name, values in times.items()}


def measure_gates(rounds: int = 15, requests: int = 1000) -> Mapping[str, float]:
    """Microseconds of CPU per request that each Gate adds to a bare app."""
    return asyncio.run(_gates(rounds, requests))


def _verifiers(algorithm: str) -> tuple[Callable[[], Any], Callable[[], Any]]:
    issuer = TokenIssuer(algorithm=algorithm)
    token = issuer.token(CLAIMS)
    policy = JWTAuth(issuer=issuer.issuer, audience=AUDIENCE, jwks=issuer.jwks, cache_size=0)
    request = Request.http(headers={"authorization": f"Bearer {token}"})
    key = jwt.PyJWK(issuer.jwks["keys"][0]).key
    options: Any = {"require": ["exp", "iss", "aud"]}

    def ours() -> Any:
        return policy.check(request).effect

    def theirs() -> Any:
        return jwt.decode(
            token, key, algorithms=[algorithm], audience=AUDIENCE, issuer=issuer.issuer, leeway=60, options=options
        )

    assert ours() == "allow"
    assert theirs()["azp"] == "my_client_id"
    return ours, theirs


def measure_verifying(rounds: int = 15, tokens: int = 500) -> Mapping[str, tuple[float, float]]:
    """Microseconds of CPU per token, by algorithm: `JWTAuth.check` without its cache, and `jwt.decode` alone."""
    result: dict[str, tuple[float, float]] = {}
    for algorithm in ALGORITHMS:
        times: tuple[list[float], list[float]] = ([], [])
        verifiers = _verifiers(algorithm)
        for _ in range(rounds):
            for verify, values in zip(verifiers, times, strict=True):
                started = time.process_time_ns()
                for _ in range(tokens):
                    verify()
                values.append((time.process_time_ns() - started) / tokens / 1000)
        result[algorithm] = (statistics.median(times[0]), statistics.median(times[1]))
    return result


def main() -> None:
    gates = measure_gates()
    print("| added to a bare app | µs per request | more than an API key |\n| --- | ---: | ---: |")
    for name, microseconds in gates.items():
        print(f"| Gate: {name} | {microseconds:.1f} | {microseconds - gates['API key']:+.1f} |")
    print("\n| a token that was never seen | JWTAuth, µs | jwt.decode, µs | ratio |\n| --- | ---: | ---: | ---: |")
    for algorithm, (ours, theirs) in measure_verifying().items():
        print(f"| {algorithm} | {ours:.0f} | {theirs:.0f} | {ours / theirs:.2f} |")


if __name__ == "__main__":
    main()
