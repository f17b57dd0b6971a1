"""The two eras of MCP on one URL, and the headers that repeat what the body says.

Up to 2025-11-25 there are sessions, opened by `initialize`; 2026-07-28 has neither, and puts version, method and name
into headers, by which others on the way may route. Servers tell the eras apart by the `MCP-Protocol-Version` header,
and so does this. It decides by the body, and refuses a header that says otherwise.
"""

import re
from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Mapping
from typing import Any, Final

from ...request import Request
from ..json_rpc import INVALID_PARAMS, RPCFault, RPCMessage, refuse_twins
from .methods import LEGACY_NAMING, MODERN_NAMING, VERSION_KEY

LEGACY: Final = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
MODERN: Final = ("2026-07-28",)

HEADER_MISMATCH: Final = -32020
UNSUPPORTED_VERSION: Final = -32022

_ENCODED: Final = re.compile(r"=\?base64\?(.*)\?=").fullmatch
_BLANKS: Final = b" \t"  # around a value, they are no part of it (RFC 9110 §5.5); not every server takes them away
_VISIBLE: Final = re.compile(r"[ -~]*").fullmatch


class UnsupportedVersion(RPCFault):
    """The client speaks a revision that is not known here."""

    def __init__(self, requested: str) -> None:
        super().__init__(UNSUPPORTED_VERSION, "Unsupported protocol version")
        # Those that `server/discover` tells of, which is how a client with a version header finds out.
        self.data: Mapping[str, Any] = {"supported": [*MODERN], "requested": requested}


def version_of(request: Request) -> str | None:
    """The revision that the header names; None without one, which is 2025-03-26. Raises `RPCFault`."""
    header = request.by_name.get(b"mcp-protocol-version")
    if header is None:
        return None
    version = header.strip(_BLANKS).decode("latin-1")
    if version not in LEGACY and version not in MODERN:
        raise UnsupportedVersion(version)
    return version


def agree(request: Request, message: RPCMessage, version: str | None) -> None:
    """Refuse headers that contradict the message; in 2026-07-28, also ones that are missing. Raises `RPCFault`."""
    names = [name for name, _ in request.raw_headers if name.startswith(b"mcp-")]
    if len(set(names)) != len(names):
        raise RPCFault(HEADER_MISMATCH, "a header is given twice")
    modern = version in MODERN
    _agree_on_version(message, version, modern)
    _agree_on(request, "mcp-method", message.method, required=modern)
    naming = (MODERN_NAMING if modern else LEGACY_NAMING).get(message.method)
    name = message.params.get(naming.member) if naming is not None and naming.header else None
    _agree_on(request, "mcp-name", name, required=modern and naming is not None and naming.header)


def _agree_on_version(message: RPCMessage, version: str | None, modern: bool) -> None:
    meta = message.params.get("_meta", {})
    if not isinstance(meta, dict):
        raise RPCFault(INVALID_PARAMS, "_meta is not an object")
    refuse_twins(meta, (VERSION_KEY,))
    if VERSION_KEY in meta:
        if meta[VERSION_KEY] != version:
            raise RPCFault(HEADER_MISMATCH, "mcp-protocol-version is not the version in _meta")
    elif modern and message.kind == "request":
        raise RPCFault(INVALID_PARAMS, f"_meta has no {VERSION_KEY}")


def _agree_on(request: Request, header: str, said: Any, *, required: bool) -> None:
    value = request.by_name.get(header.encode())
    if value is None:
        if required:
            raise RPCFault(HEADER_MISMATCH, f"{header} is missing")
    elif said is None or decoded(value) != said:
        raise RPCFault(HEADER_MISMATCH, f"{header} is not what the body says")


def decoded(value: bytes) -> str | None:
    """A header's text, which may be `=?base64?...?=`: canonical base64 of UTF-8. None when it is neither."""
    text = value.strip(_BLANKS).decode("latin-1")
    if _VISIBLE(text) is None:
        return None
    match = _ENCODED(text)
    if match is None:
        return text
    try:
        data = b64decode(match[1], validate=True)
        return data.decode("utf-8") if b64encode(data).decode() == match[1] else None
    except (Error, UnicodeDecodeError):
        return None
