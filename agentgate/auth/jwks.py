"""Where the keys come from that tokens are verified with: given in code or a file (StaticJWKS), or published by the
issuer (RemoteJWKS, in remote_jwks.py)."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from .. import strict_json
from ..errors import ConfigurationError
from ..secret import Secret
from .jwk import KeySet, read_pem, read_secret, read_set

MAX_DOCUMENT_BYTES: Final = 1024 * 1024  # a larger set is refused rather than read

_logger = logging.getLogger("agentgate.jwks")


class StaticJWKS:
    """Keys given in code: a JWK Set as a mapping or as JSON text, or one public key as PEM text.

    Keys that are unfit (`use: enc`, RSA below 2048 bits, two with one `kid`, ...) are left out with a warning. A set
    without a usable key, with a private key, or with symmetric keys beside others is a `ConfigurationError`.
    """

    refreshes = False

    def __init__(self, keys: Mapping[str, Any] | str) -> None:
        if isinstance(keys, str):
            found = read_pem(keys) if keys.lstrip().startswith("-----BEGIN") else _from_json(keys)
        else:
            found = read_set(keys, secrets=True)
        self.keys: KeySet = _usable(found)

    @classmethod
    def file(cls, path: str | os.PathLike[str]) -> "StaticJWKS":
        """Keys from a file, JSON or PEM. It is read once."""
        try:
            if Path(path).stat().st_size > MAX_DOCUMENT_BYTES:
                raise ConfigurationError(f"{path}: too large")
            return cls(Path(path).read_text("utf-8"))
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigurationError(f"{path}: cannot read the keys ({type(exc).__name__})") from None
        except ConfigurationError as exc:
            raise ConfigurationError(f"{path}: {fault}" for fault in exc.faults) from None

    @classmethod
    def hmac(cls, secret: Secret, algorithm: str = "HS256") -> "StaticJWKS":
        """A secret shared with the issuer, for one of HS256, HS384 and HS512. Whoever can verify with it can issue."""
        jwks = cls.__new__(cls)
        jwks.keys = read_secret(secret.reveal().encode(), algorithm)
        return jwks

    def __repr__(self) -> str:
        return f"StaticJWKS({self.keys.size} keys)"


def _from_json(text: str) -> KeySet:
    try:
        document = strict_json.loads(text.encode("utf-8", "surrogatepass"))  # which the reader then refuses
    except strict_json.StrictJSONError as exc:
        raise ConfigurationError(f"a JWK Set is JSON: {exc}") from None
    return read_set(document, secrets=True)


def _usable(keys: KeySet) -> KeySet:
    for fault in keys.skipped:
        _logger.warning("a key is left out: %s", fault)
    if not keys.size:
        raise ConfigurationError(["no usable key: no token could be verified", *keys.skipped])
    return keys
