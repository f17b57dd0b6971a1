"""An OAuth 2.1 authorization server, as small as MCP clients allow: metadata (RFC 8414), dynamic registration (RFC
7591), authorization code with PKCE (RFC 7636), resource indicators (RFC 8707), and keys that can be changed. Everybody
who asks is logged in as `bob`."""

import asyncio
import hashlib
import secrets
import socket
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlencode

import jwt
import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from .servers import PATIENCE, free_port

TENANT = "/tenant"


class OAuthServer:
    """The server; `issuer` is its URL. It can be stopped and started again, on the same port and with the same keys."""

    def __init__(self) -> None:
        self.port = free_port()
        self.issuer = f"http://127.0.0.1:{self.port}{TENANT}"
        self.asked: list[str] = []
        """Method and path of each request, in order."""
        self.granted: list[dict[str, str]] = []
        """What each token was asked for: client, scope, resource."""
        self._keys: list[tuple[str, ec.EllipticCurvePrivateKey]] = []
        self._clients: dict[str, list[str]] = {}
        self._codes: dict[str, dict[str, str]] = {}
        self.new_key()
        self.app = Starlette(
            routes=[
                Route(f"/.well-known/oauth-authorization-server{TENANT}", self._metadata),
                Route(f"{TENANT}/keys", self._jwks),
                Route(f"{TENANT}/register", self._register, methods=["POST"]),
                Route(f"{TENANT}/authorize", self._authorize),
                Route(f"{TENANT}/token", self._token, methods=["POST"]),
            ]
        )

    # -- keys

    def new_key(self) -> None:
        """Sign with a new key from now on. The ones before are still published."""
        self._keys.insert(0, (secrets.token_hex(4), ec.generate_private_key(ec.SECP256R1())))

    def forget_old_keys(self) -> None:
        """Publish the newest key alone."""
        del self._keys[1:]

    def token(self, audience: str, *, scope: str = "", seconds: float = 300) -> str:
        """An access token for `bob`."""
        now = int(time.time())
        claims = {"iss": self.issuer, "sub": "bob", "aud": audience, "iat": now, "exp": now + seconds, "scope": scope}
        kid, key = self._keys[0]
        return jwt.encode(claims, key, algorithm="ES256", headers={"kid": kid, "typ": "at+jwt"})

    # -- endpoints

    async def _metadata(self, request: Request) -> Response:
        self._note(request)
        return JSONResponse(
            {
                "issuer": self.issuer,
                **{f"{name}_endpoint": f"{self.issuer}/{path}" for name, path in _ENDPOINTS.items()},
                "jwks_uri": f"{self.issuer}/keys",
                "response_types_supported": ["code"],
                "grant_types_supported": ["authorization_code"],
                "code_challenge_methods_supported": ["S256"],
                "token_endpoint_auth_methods_supported": ["none"],
                "authorization_response_iss_parameter_supported": True,
            }
        )

    async def _jwks(self, request: Request) -> Response:
        self._note(request)
        keys = [
            {
                **jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True),
                "kid": kid,
                "alg": "ES256",
                "use": "sig",
            }
            for kid, key in self._keys
        ]
        return JSONResponse({"keys": keys})

    async def _register(self, request: Request) -> Response:
        self._note(request)
        asked = await request.json()
        client = secrets.token_hex(8)
        self._clients[client] = asked["redirect_uris"]
        return JSONResponse({**asked, "client_id": client, "token_endpoint_auth_method": "none"}, 201)

    async def _authorize(self, request: Request) -> Response:
        self._note(request)
        asked = dict(request.query_params)
        assert asked["redirect_uri"] in self._clients[asked["client_id"]]
        assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
        code = secrets.token_hex(16)
        self._codes[code] = asked
        answer = {"code": code, "state": asked["state"], "iss": self.issuer}
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode(answer)}", 302)

    async def _token(self, request: Request) -> Response:
        self._note(request)
        form = dict((await request.form()).items())
        asked = self._codes.pop(str(form["code"]))
        verifier = hashlib.sha256(str(form["code_verifier"]).encode()).digest()
        if urlsafe_b64encode(verifier).rstrip(b"=").decode() != asked["code_challenge"]:
            return JSONResponse({"error": "invalid_grant"}, 400)
        assert form["resource"] == asked["resource"]
        scope = asked.get("scope", "")
        self.granted.append({"scope": scope, "resource": asked["resource"]})
        token = self.token(asked["resource"], scope=scope)
        return JSONResponse({"access_token": token, "token_type": "Bearer", "expires_in": 300, "scope": scope})

    def _note(self, request: Request) -> None:
        self.asked.append(f"{request.method} {request.url.path}")

    # -- running

    @contextmanager
    def up(self) -> Iterator[None]:
        """Answer requests while the block runs; outside of it nobody listens."""
        config = uvicorn.Config(self.app, log_level="warning", lifespan="off", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        listener = socket.create_server(("127.0.0.1", self.port))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])), daemon=True)
        thread.start()
        deadline = time.monotonic() + PATIENCE
        while not server.started:
            assert thread.is_alive(), "the OAuth server did not start"
            assert time.monotonic() < deadline, "the OAuth server did not start in time"
            time.sleep(0.01)
        try:
            yield
        finally:
            server.should_exit = True
            thread.join(PATIENCE)
            listener.close()


_ENDPOINTS = {"authorization": "authorize", "token": "token", "registration": "register"}
