"""URIs of resources: one spelling each, so that a rule and the server speak of the same one.

Servers built on a URL library bring URIs into its normal form before they look them up: `FILE:///x/../secret` and
`file:///%73ecret` are then `file:///secret`. So what such a library would change is refused here. Nothing is fetched,
and nothing is said about which URIs exist.
"""

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final, TypeGuard

from ..json_rpc import MAX_NAME

# RFC 3986, percent-encodings in upper case, and only of what needs them: neither a letter, a digit, nor one of `-._~`.
# Those of control characters are left out, too.
_SPELLING: Final = re.compile(
    r"[a-z][a-z0-9+.-]*:"
    r"(?:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]|%(?:2[0-9A-CF]|3[A-F]|40|5[B-E]|60|7[B-D]|[89A-F][0-9A-F]))+"
).fullmatch
_EXPRESSION: Final = re.compile(r"\{[+#./;?&=,!@|]?[A-Za-z0-9_.,:*%]+\}")
# Segments of dots, also between slashes that a server decodes later; and what is percent-encoded twice.
_HIDDEN: Final = re.compile(r"(?:/|%2F|%5C)\.{1,2}(?:[/?#]|%2F|%5C|$)|%25[0-9A-Fa-f]{2}").search
_AUTHORITY: Final = re.compile(
    r"(?P<user>[A-Za-z0-9._~-]+(?::[A-Za-z0-9._~-]+)?@)?(?P<host>[^@:\[\]]*|\[[0-9a-f:]+\])(?::(?P<port>[1-9][0-9]{0,4}))?"
).fullmatch
_ENDS_AUTHORITY: Final = re.compile("[/?#]")
# Schemes that URL libraries know (WHATWG), their default ports, and what hosts they have.
_SPECIAL: Final = {"http": "80", "https": "443", "ws": "80", "wss": "443", "ftp": "21", "file": ""}
_SPECIAL_HOST: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?|\[.*\]").fullmatch
_NUMBER: Final = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)").fullmatch


def is_uri(text: object) -> TypeGuard[str]:
    """Whether this is a URI that no library spells otherwise."""
    if not isinstance(text, str) or len(text) > MAX_NAME or _SPELLING(text) is None:
        return False
    scheme, _, rest = text.partition(":")
    if _HIDDEN(text) is not None:
        return False
    if not rest.startswith("//"):
        return scheme not in _SPECIAL
    authority = _ENDS_AUTHORITY.split(rest[2:], 1)[0]
    match = _AUTHORITY(authority)
    if match is None or not _is_host(match["host"]) or (authority and not match["host"]):
        return False
    return scheme not in _SPECIAL or _is_special(scheme, match, rest[2 + len(authority) :])


def is_template(text: object) -> TypeGuard[str]:
    """Whether this is a URI template (RFC 6570), or a URI, of which the same holds."""
    if not isinstance(text, str) or len(text) > MAX_NAME:
        return False
    return is_uri(_EXPRESSION.sub("x", text))


def _is_special(scheme: str, authority: re.Match[str], path: str) -> bool:
    host, port = authority["host"], authority["port"]
    if not path.startswith("/") or authority["user"] or port == _SPECIAL[scheme] or "'" in path.partition("?")[2]:
        return False
    if scheme == "file":
        return not host and not path.startswith("//")  # of another host, libraries have several opinions
    return _SPECIAL_HOST(host) is not None and (not _NUMBER(host.rpartition(".")[2]) or _is_ipv4(host))


def _is_host(host: str) -> bool:
    """Addresses have many spellings, too: the shortest counts."""
    if not host.startswith("["):
        return True
    try:
        address = IPv6Address(host[1:-1])
    except AddressValueError:
        return False
    return address.ipv4_mapped is None and f"[{address}]" == host


def _is_ipv4(host: str) -> bool:
    """`0x7f.1` is taken for an address, too."""
    try:
        return str(IPv4Address(host)) == host
    except AddressValueError:
        return False
