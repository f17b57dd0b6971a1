"""Origins of web pages, as browsers say them (RFC 6454): `https://app.example.com`.

An origin is what a browser says of where a page comes from. Whether it may come from there is for others to say.
"""

import re
from collections.abc import Iterable
from typing import Final

_ORIGIN: Final = re.compile(
    r"(https?)://([a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?"
).fullmatch
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}


def canonical(origin: str) -> str | None:
    """The origin as browsers spell it; None for what is none, `null` included."""
    match = _ORIGIN(origin.lower())
    if match is None:
        return None
    scheme, host, port = match.groups()
    return f"{scheme}://{host}" if port is None or port == _DEFAULT_PORTS[scheme] else f"{scheme}://{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether a host, in lower case and without port, is a name of this machine."""
    return host in ("localhost", "[::1]") or re.fullmatch(r"127(?:\.[0-9]{1,3}){3}", host) is not None


def host_of(origin: str) -> str:
    """The host of an origin."""
    match = _ORIGIN(origin.lower())
    assert match is not None
    return match[2]


def origin_faults(origins: Iterable[object]) -> list[str]:
    """What is wrong with those of a configuration."""
    return [
        f"origins: {origin!r} is no origin such as https://app.example.com"
        for origin in origins
        if not isinstance(origin, str) or canonical(origin) is None
    ]
