"""DNS rebinding: a web page that has its own name resolve to this server, so as to speak to it from its reader's
browser. What a browser says of where a request comes from has to be known here.
"""

from collections.abc import Iterable

from ...errors import ConfigurationError
from ...origin import canonical, host_of, is_loopback, origin_faults
from ...request import Request


class Origins:
    """Which origins and hosts a request may name. `public_url`: where clients reach the server; `declared`: further
    origins, of web pages that may call it."""

    def __init__(self, declared: Iterable[str] = (), public_url: str | None = None) -> None:
        if isinstance(declared, str):
            raise TypeError("origins is a list")
        self._declared = tuple(declared)
        faults = origin_faults(self._declared)
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


def _is_local_peer(peer: tuple[str, int] | None) -> bool:
    return peer is not None and (peer[0] == "::1" or peer[0].removeprefix("::ffff:").startswith("127."))
