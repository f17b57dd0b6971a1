"""The edge: a request that can be read in two ways is refused before any policy decides.

Servers, apps and upstreams disagree about dot segments, encoded slashes, doubled headers and their like, and every
such disagreement has been somebody's way around a policy. So the gate does not normalise: what has two readings is
refused (400), and what has one goes on byte for byte. What a legitimate app may need is a named option of `Edge`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, unquote_to_bytes

from . import address
from .decision import Decision, Reason, deny
from .errors import ConfigurationError
from .headers import RawHeaders
from .request import Request, Scope, forwarded_for

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

SINGLETONS: Final = frozenset(
    {
        b"host",
        b"authorization",
        b"proxy-authorization",
        b"content-length",
        b"content-type",
        b"content-encoding",
        b"transfer-encoding",
        b"origin",
        b"x-api-key",
        b"api-key",
        b"x-goog-api-key",
        b"mcp-session-id",
        b"mcp-method",
        b"mcp-name",
        b"mcp-protocol-version",
        b"a2a-version",
        b"sec-websocket-key",
        b"sec-websocket-version",
    }
)
"""Headers that mean one thing and so may occur once. Gates add the headers that their authenticators read."""

_ALNUM: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_PATH_BYTES: Final = _ALNUM + b"-._~!$&'()*+,;=:@%/"  # RFC 3986 pchar, and "/"
_QUERY_BYTES: Final = _PATH_BYTES + b"?"
_LAX_QUERY_BYTES: Final = _QUERY_BYTES + b"[]{}|^`"  # what browsers and HTTP clients send unencoded
NAME_BYTES: Final = b"abcdefghijklmnopqrstuvwxyz0123456789-!#$%&'*+.^`|~"  # RFC 9110 token, lower case as in ASGI
VALUE_BYTES: Final = b"\t" + bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100))  # no controls
_CONTROLS: Final = bytes(range(0x20)) + b"\x7f"

# A path that needs no closer look: no percent sign, no ";", no empty segment, none that starts with a dot.
_PLAIN_PATH: Final = re.compile(
    rb"/(?:[A-Za-z0-9\-_~!$&'()*+,=:@][A-Za-z0-9\-._~!$&'()*+,=:@]*/)*(?:[A-Za-z0-9\-_~!$&'()*+,=:@][A-Za-z0-9\-._~!$&'()*+,=:@]*)?"
).fullmatch
_UNICODE_CONTROL: Final = re.compile("[\x80-\x9f\u2028\u2029]").search
_BAD_PERCENT: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})").search
_DOUBLE_ENCODED: Final = re.compile(rb"%25[0-9A-Fa-f]{2}").search
_ENCODED_SLASH: Final = re.compile(rb"%(?:2[Ff]|5[Cc])").search
# DNS names, IPv4 and bracketed IPv6, with or without a port: narrower than RFC 3986, which allows what no name has, and
# no longer than DNS has them, as routes are looked for by each label.
_HOST: Final = re.compile(rb"(?:[A-Za-z0-9_][A-Za-z0-9_.-]{0,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?").fullmatch
_ABSOLUTE: Final = re.compile(r"(https?)://([^/?#]*)(/.*)?", re.DOTALL).fullmatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """What a request must look like to be judged at all. Every default refuses."""

    methods: frozenset[str] = METHODS
    """Methods that are let through to the policies; others are 405."""
    allow_encoded_slash: bool = False
    """`%2F` in a path. Rules and ASGI apps then read it as a slash."""
    allow_empty_segments: bool = False
    """`//` in a path."""
    allow_path_parameters: bool = False
    """`;` in a path."""
    allow_double_encoding: bool = False
    """`%25` followed by two hex digits in a path."""
    allow_underscores: bool = False
    """`_` in header names. Many servers take `x_user` for `x-user`."""
    lax_query: bool = False
    """The characters ``[]{}|^` `` unencoded in a query."""
    max_target_bytes: int = 8 * 1024
    max_headers: int = 100
    max_header_bytes: int = 32 * 1024
    max_body_bytes: int = 2 * 1024 * 1024
    """Of a body that a policy reads, which is then held in memory; agentgateway's buffer. Others have no limit here."""
    trusted_proxies: Sequence[str] = ()
    """Networks whose `X-Forwarded-For` is believed: `source.address` is then whom they name."""

    def __post_init__(self) -> None:
        if isinstance(self.trusted_proxies, str) or not all(isinstance(text, str) for text in self.trusted_proxies):
            raise ConfigurationError("trusted_proxies is a list of networks, such as ['10.0.0.0/8']")
        object.__setattr__(self, "trusted_proxies", tuple(self.trusted_proxies))
        address.networks(self.trusted_proxies)  # they are networks

    def check(self, request: Request, singletons: frozenset[bytes] = SINGLETONS) -> Decision | None:
        """The refusal, or None when the request has one reading. `singletons`: headers that may occur once."""
        if request.method not in self.methods:
            return deny(
                "method not allowed",
                status=405,
                code="method_not_allowed",
                reason=Reason.INTERNAL,
                policy="edge",
                headers=((b"allow", ", ".join(sorted(self.methods)).encode()),),
            )
        raw = request.raw_headers
        if len(raw) > self.max_headers:
            return _refuse(431, "request header fields too large", f"more than {self.max_headers} headers")
        if len(request.raw_path) + len(request.query_string) > self.max_target_bytes:
            return _refuse(414, "uri too long", f"more than {self.max_target_bytes} bytes")
        by_name = request.by_name
        repeated = len(by_name) != len(raw)
        all_names = b"".join(by_name)  # repeated ones counted once: their values count each time
        all_values = b"".join([value for _, value in raw] if repeated else by_name.values())
        if len(all_names) + len(all_values) > self.max_header_bytes:
            return _refuse(431, "request header fields too large", f"more than {self.max_header_bytes} bytes")
        if request.raw_path == b"*" and request.method == "OPTIONS":  # about the server, not about any resource
            return deny("", status=204, code="options", reason=Reason.DIRECT_RESPONSE, policy="edge")
        strange = all_names.translate(None, NAME_BYTES)
        fault = (
            (self._name(strange) if strange else None)
            or ("a header name is empty" if b"" in by_name else None)
            or ("a header value has a control character" if all_values.translate(None, VALUE_BYTES) else None)
            or (_repeated(raw, singletons) if repeated else None)
            or _framing(by_name, request)
            or _host(by_name, request)
            or self._path(request)
            or (self._query(request.query_string) if request.query_string else None)
        )
        if fault is None and self.trusted_proxies and request.peer is not None:
            fault = self._forwarded_for(request, request.peer[0])
        return None if fault is None else _refuse(400, f"invalid request: {fault}")

    def _forwarded_for(self, request: Request, peer: str) -> str | None:
        values = [value for name, value in request.raw_headers if name == b"x-forwarded-for"]
        try:
            source = address.client(peer, values, address.networks(self.trusted_proxies))
        except ValueError:
            return "x-forwarded-for names no address where one has to be believed"
        if source is not None:
            forwarded_for(request, source)
        return None

    def _name(self, strange: bytes) -> str | None:
        if strange.translate(None, b"_"):
            return "a header name is not a lower-case token"
        return None if self.allow_underscores else "a header name has an underscore"

    def _path(self, request: Request) -> str | None:
        raw = request.raw_path
        if _PLAIN_PATH(raw) is None:
            fault = self._close_look(raw)
            if fault is not None:
                return fault
        path = request.path
        if path != request.scope_path and path != request.root_path + request.scope_path:
            # The app behind us routes on the one, the policies would judge the other.
            return "path and raw_path differ"
        return None

    def _close_look(self, raw: bytes) -> str | None:
        if not raw.startswith(b"/"):
            return "the target does not start with a slash"
        if raw.translate(None, _PATH_BYTES):
            return "the path has a character that RFC 3986 does not allow there"
        if _BAD_PERCENT(raw):
            return "the path has a bad percent-encoding"
        if not self.allow_double_encoding and _DOUBLE_ENCODED(raw):
            return "the path is percent-encoded twice"
        encoded = _ENCODED_SLASH(raw)
        if encoded and not (self.allow_encoded_slash and b"%5c" not in raw.lower()):
            return "the path has an encoded slash"
        if not self.allow_path_parameters and b";" in raw:
            return "the path has a semicolon"
        decoded = unquote_to_bytes(raw)
        if len(decoded.translate(None, _CONTROLS)) != len(decoded):
            return "the path has an encoded control character"
        try:
            text = decoded.decode("utf-8")
        except UnicodeDecodeError:
            return "the path is not UTF-8"
        if _UNICODE_CONTROL(text):
            return "the path has an encoded control character"
        segments = text[1:].split("/")
        if any(segment.partition(";")[0] in (".", "..") for segment in segments):
            return "the path has a dot segment"
        if not self.allow_empty_segments and "" in segments[:-1]:
            return "the path has an empty segment"
        return None

    def _query(self, query: bytes) -> str | None:
        if query.translate(None, _LAX_QUERY_BYTES if self.lax_query else _QUERY_BYTES):
            return "the query has a character that RFC 3986 does not allow there"
        if _BAD_PERCENT(query):
            return "the query has a bad percent-encoding"
        return None


def _refuse(status: int, message: str, detail: str = "") -> Decision:
    return deny(
        message, status=status, code="invalid_request", reason=Reason.INVALID_REQUEST, detail=detail, policy="edge"
    )


def _repeated(raw: RawHeaders, singletons: frozenset[bytes]) -> str | None:
    names = [name for name, _ in raw]
    return next((f"several {name.decode()} headers" for name in sorted(singletons) if names.count(name) > 1), None)


def _framing(by_name: Mapping[bytes, bytes], request: Request) -> str | None:
    """Where a body ends must be said once. (That each of these headers occurs once has been seen to.)"""
    length = by_name.get(b"content-length")
    coding = by_name.get(b"transfer-encoding")
    if coding is not None:
        if length is not None:
            return "content-length and transfer-encoding"
        if coding.lower() != b"chunked" or request.http_version == "1.0":
            return "a transfer-encoding other than chunked"
    elif length is not None and not (length.isdigit() and len(length) <= 18):
        return "content-length is not a number"
    return None


def _host(by_name: Mapping[bytes, bytes], request: Request) -> str | None:
    host = by_name.get(b"host")
    if host is None:
        return None if request.http_version == "1.0" else "no host header"
    return None if _HOST(host) else "the host header is not a host name with an optional port"


def origin_form(scope: Scope) -> Scope:
    """The scope with an absolute-form target (`GET http://host/path`) brought to origin-form, when it names the very
    host and scheme that the request was sent to; any other scope as it is, for `Edge.check` to refuse."""
    path = scope.get("path") or ""
    if path.startswith("/"):
        return scope
    raw = scope.get("raw_path")
    match = _ABSOLUTE(path if raw is None else raw.decode("latin-1"))
    if match is None or match[1] != scope.get("scheme", "http"):
        return scope
    hosts = [value for name, value in scope.get("headers") or () if name == b"host"]
    if len(hosts) != 1 or match[2].lower() != hosts[0].decode("latin-1").lower():
        return scope
    target = match[3] or "/"
    return {**scope, "path": unquote(target), "raw_path": target.encode("latin-1")}


DEFAULT_EDGE: Final = Edge()
