"""DNS rebinding: a web page that has its own name resolve to this server, so as to speak to it from its reader's
browser. What a browser says of where a request comes from has to be known here.
"""

import re
from collections.abc import Iterable
from typing import Final

from ...errors import ConfigurationError
from ...request import Request

_ORIGIN: Final = re.compile(
    r"(https?)://([a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?"
).fullmatch
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}


class Origins:
    """Which origins and hosts a request may name. `public_url`: where clients reach the server; `declared`: further
    origins, of web pages that may call it."""

    def __init__(self, declared: Iterable[str] = (), public_url: str | None = None) -> None:
        if isinstance(declared, str):
            raise TypeError("origins is a list")
        self._declared = tuple(declared)
        faults = [
            f"origins: {origin!r} is no origin such as https://app.example.com"
            for origin in self._declared
            if not isinstance(origin, str) or canonical(origin) is None
        ]
        if faults:
            raise ConfigurationError(faults)
        known = [*self._declared]
        self._host: str | None = None
        if public_url is not None:
            parts = public_url.split("/", 3)
            known.append("/".join(parts[:3]))
            self._host = host_of(known[-1])
        self._known = frozenset(map(canonical, known))

    def reached_at(self, public_url: str) -> "Origins":
        """The same where clients reach the server at this URL."""
        return Origins(self._declared, public_url)

    def admit(self, request: Request) -> bool:
        """Whether a browser that was misled could not have sent this request."""
        host = request.host
        local = is_loopback(host)
        origin = request.by_name.get(b"origin")
        if origin is not None:
            text = origin.decode("latin-1")
            known = canonical(text)
            if known is None or (known not in self._known and not (local and is_loopback(host_of(known)))):
                return False
        if local or host == self._host:
            return True
        # A name that is not ours: from this very machine, it is one that somebody else has pointed here.
        return self._host is None and not _is_local_peer(request.peer)


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


def _is_local_peer(peer: tuple[str, int] | None) -> bool:
    return peer is not None and (peer[0] == "::1" or peer[0].removeprefix("::ffff:").startswith("127."))
