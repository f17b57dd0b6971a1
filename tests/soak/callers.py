"""Callers: a hundred principals, most with API keys in a file, some with tokens, and what happens to their credentials
while they are used: new ones are added, old ones taken away, and the file is broken now and then.

Each caller has a canary of its own. A credential is `current` only when the gateway must know it, and `revoked` only
when it must have noticed that it does not count any more; in between nobody begins to use it. Whoever is refused with
one that was taken away while the request was on its way was refused rightly.
"""

import asyncio
import json
import os
import random
import secrets
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from agentgate import hash_key, new_key
from agentgate.auth.key_files import POLL_SECONDS

from .gateway import AUDIENCE, ISSUER
from .words import MARK

NOTICED: Final = 2 * POLL_SECONDS + 0.2  # keys are never older than that, whatever holds the gateway up
ON_THE_WAY: Final = 1.0  # seconds that old credentials still count; most requests that have them are there by then
PUBLISHED: Final = 35.0  # seconds: a set of token keys is fetched again after 30 at the earliest
FORGOTTEN: Final = 130.0  # seconds: keys of tokens are fetched every minute, and a verified token is kept for one
KEPT: Final = 100  # revoked credentials in use


@dataclass
class Caller:
    """One principal. `current` is in the form of a header's value."""

    id: str
    secret: str
    current: bytes = b""
    key: str = ""  # its API key, if it has one
    coming: str = ""
    generation: int = 0
    since: float = 0.0  # when it began to use that

    def canary(self, number: int) -> bytes:
        return MARK + f"{self.id}-{self.secret}-{number}".encode()


@dataclass
class Revoked:
    """Credentials that nobody may be let in with, each from its time on."""

    found: deque[tuple[float, bytes]] = field(default_factory=lambda: deque(maxlen=KEPT))
    ever: set[bytes] = field(default_factory=set)  # and those that may be refused, but need not be yet

    def add(self, credentials: Sequence[bytes], since: float) -> None:
        self.ever.update(credentials)
        self.found.extend((since, credential) for credential in credentials)

    def any(self, rng: random.Random) -> bytes | None:
        now = time.monotonic()
        due = [credential for since, credential in self.found if since < now]
        return rng.choice(due) if due else None


class Callers:
    """All of them, and the files and the issuer that say so."""

    def __init__(self, folder: Path, count: int, *, tokens: int, seed: int) -> None:
        self.random = random.Random(seed)
        self.revoked = Revoked()
        self.rotations = 0
        self.issued = 0
        self._file = folder / "keys.json"
        everybody = [Caller(f"p{number:03}", secrets.token_hex(8)) for number in range(count)]
        self.with_tokens: Sequence[Caller] = everybody[:tokens]
        self.with_keys: Sequence[Caller] = everybody[tokens:]
        self.everybody: Sequence[Caller] = everybody
        for caller in self.with_keys:
            caller.key = new_key()
            caller.current = b"Bearer " + caller.key.encode()
        self._write()
        self._signing = [self._new_signing_key()]
        self._sign()

    # API keys.

    def _write(self, *, broken: bool = False) -> None:
        entries = []
        for caller in self.with_keys:
            for key, generation in ((caller.key, caller.generation), (caller.coming, caller.generation + 1)):
                if key:
                    entries.append(
                        {"id": f"{caller.id}-{generation}", "keyHash": hash_key(key), "metadata": {"agent": caller.id}}
                    )
        text = json.dumps({"keys": entries})
        new = self._file.with_suffix(".new")
        new.write_text(text[: len(text) // 2] if broken else text)
        os.replace(new, self._file)

    async def rotate_keys(self, every: float, at_once: int) -> None:
        """For ever: some callers get new keys, use them, and lose the old ones."""
        while True:
            await asyncio.sleep(every)
            chosen = self.random.sample(self.with_keys, min(at_once, len(self.with_keys)))
            for caller in chosen:
                caller.coming = new_key()
            if self.random.random() < 0.3:
                self._write(broken=True)
                await asyncio.sleep(1.0)
            self._write()
            await asyncio.sleep(NOTICED)
            old = []
            for caller in chosen:
                old.append(caller.current)
                caller.key, caller.coming = caller.coming, ""
                caller.generation += 1
                caller.since = time.monotonic()
                caller.current = b"Bearer " + caller.key.encode()
            await asyncio.sleep(ON_THE_WAY)
            self._write()
            self.revoked.add(old, time.monotonic() + NOTICED)
            self.rotations += len(chosen)

    # Tokens.

    def _new_signing_key(self) -> tuple[str, ec.EllipticCurvePrivateKey]:
        self.issued += 1
        return f"key-{self.issued}", ec.generate_private_key(ec.SECP256R1())

    def jwks(self) -> bytes:
        keys: list[dict[str, Any]] = []
        for kid, key in self._signing:
            public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
            keys.append({**public, "kid": kid, "alg": "ES256", "use": "sig"})
        return json.dumps({"keys": keys}).encode()

    def _sign(self) -> None:
        kid, key = self._signing[-1]
        now = int(time.time())
        for caller in self.with_tokens:
            claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": caller.id, "agent": caller.id, "iat": now}
            token = jwt.encode({**claims, "exp": now + 86_400}, key, "ES256", headers={"kid": kid})
            caller.current = b"Bearer " + token.encode()
            caller.since = time.monotonic()

    async def rotate_tokens(self) -> None:
        """For ever: the issuer publishes a new key, uses it, and takes away the old one."""
        while True:
            self._signing.append(self._new_signing_key())
            await asyncio.sleep(PUBLISHED)
            old = [caller.current for caller in self.with_tokens]
            self._sign()
            await asyncio.sleep(ON_THE_WAY)
            del self._signing[0]
            self.revoked.add(old, time.monotonic() + FORGOTTEN)

    async def publish(self) -> asyncio.Server:
        """The issuer's server, on any port."""

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            document = self.jwks()
            head = b"HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
            writer.write(head % len(document) + document)
            writer.close()

        return await asyncio.start_server(answer, "127.0.0.1", 0)
