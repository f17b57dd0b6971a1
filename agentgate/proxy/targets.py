"""Rewrite and Redirect: another host or path, for the upstream or for the client to go to.

Both come after the decision: rules see the path and the host that the client sent. A prefix is replaced in whole
segments of the raw path, so what is below it goes on byte for byte.
"""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from ..decision import Decision, Reason, deny
from ..errors import ConfigurationError
from ..request import Request, below_mount
from .paths import Path, Prefix

_PATH: Final = re.compile(r"/(?:[A-Za-z0-9/\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2})*").fullmatch
_TWISTS: Final = re.compile(r"//|/\.\.?(?:/|$)|%2[Ff]|%5[Cc]").search
_HOST: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9])?|\[[0-9a-f:.]+\]").fullmatch
_STATUSES: Final = (301, 302, 303, 307, 308)
_PORTS: Final = {"http": 80, "https": 443}


class _Target:
    """What is there in place of host and path: `path` of all of it, `prefix` of what the route's path matches."""

    def __init__(self, host: str | None, path: str | None, prefix: str | None) -> None:
        self.faults: list[str] = []
        if host is not None and (not isinstance(host, str) or _HOST(host) is None):
            self.faults.append(f"{host!r} is no host name in lower case, without a port")
        if path is not None and prefix is not None:
            self.faults.append("path or prefix, not both")
        for text in (path, prefix or None):  # no prefix at all is a slash
            if text is not None and (not isinstance(text, str) or _PATH(text) is None or _TWISTS(text)):
                self.faults.append(f"{text!r} is no path that begins with a slash, percent-encoded and without a twist")
        self.host, self.path, self.prefix = host, path, prefix

    def raise_any(self) -> None:
        if self.faults:
            raise ConfigurationError(f"{type(self).__name__}: {fault}" for fault in self.faults)

    @property
    def replaces_prefix(self) -> bool:
        return self.prefix is not None

    def target(self, raw: bytes, matched: Path | None) -> bytes | None:
        """The path in place of `raw`, which is below the gateway's mount; None where the prefix cannot be cut off, as
        an encoded slash stands for one of its own."""
        if self.path is not None:
            return self.path.encode()
        if self.prefix is None:
            return raw
        assert isinstance(matched, Prefix)  # or it was a fault
        prefix, new = matched.path.rstrip("/"), self.prefix.rstrip("/").encode()
        segments = raw.split(b"/")
        depth = prefix.count("/") + 1
        if unquote_to_bytes(b"/".join(segments[:depth])) != prefix.encode():
            return None
        below = segments[depth:]
        if not below or (below == [b""] and not prefix):
            return new or b"/"
        return new + b"/" + b"/".join(below)


class Rewrite(_Target):
    """The upstream is asked for another path, and told another Host: `Rewrite(prefix="/v2")`.

    `host` in place of its own; `path` in place of the whole path, or `prefix` in place of the one that the route
    matches. A path in the backend's URL stays in front, and the query as it is.
    """

    def __init__(self, *, host: str | None = None, path: str | None = None, prefix: str | None = None) -> None:
        super().__init__(host, path, prefix)
        if host is None and path is None and prefix is None:
            self.faults.append("it changes nothing")
        self.raise_any()

    def rewritten(self, view: Request, matched: Path | None) -> tuple[bytes | None, bytes | None] | None:
        """Path and Host for the upstream, None for one that stays; None for both where the path cannot be told."""
        path: bytes | None = None
        if self.path is not None or self.prefix is not None:
            path = self.target(below_mount(view)[1], matched)
            if path is None:
                return None
        return path, None if self.host is None else self.host.encode()

    def __repr__(self) -> str:
        return f"Rewrite({_shown(host=self.host, path=self.path, prefix=self.prefix)})"


class Redirect(_Target):
    """The client is sent elsewhere, once the policies have let it through: `Redirect(scheme="https", status=301)`.

    What is not given stays as the client asked for it. `path` and `prefix` as for `Rewrite`; the query stays.
    """

    def __init__(
        self,
        *,
        scheme: str | None = None,
        host: str | None = None,
        port: int | None = None,
        path: str | None = None,
        prefix: str | None = None,
        status: int = 302,
    ) -> None:
        super().__init__(host, path, prefix)
        if scheme not in (None, *_PORTS):
            self.faults.append(f"scheme is http or https, not {scheme!r}")
        if port is not None and (not isinstance(port, int) or not 1 <= port <= 65535):
            self.faults.append(f"{port!r} is no port")
        if status not in _STATUSES:
            self.faults.append(f"status is one of {', '.join(map(str, _STATUSES))}, not {status!r}")
        self.raise_any()
        self.scheme, self.port, self.status = scheme, port, status

    def answer(self, view: Request, query: bytes, matched: Path | None) -> Decision:
        """The redirect. `query` is the one that goes on, without a credential that was in it."""
        name = self.host or view.host
        mount, path = _mount(view)
        target = self.target(path, matched)
        if target is path:
            mount, target = b"", view.raw_path
        if target is None or not name:
            return BAD_TARGET
        scheme = self.scheme or ("https" if view.scheme in ("https", "wss") else "http")
        port = self.port or (_PORTS[scheme] if self.scheme else _port(view))
        authority = name if port in (None, _PORTS[scheme]) else f"{name}:{port}"
        location = b"".join(
            (scheme.encode(), b"://", authority.encode("latin-1"), mount, target, b"?" + query if query else b"")
        )
        return deny(
            "",
            status=self.status,
            code="redirect",
            reason=Reason.DIRECT_RESPONSE,
            policy="redirect",
            headers=((b"location", location),),
        )

    def __repr__(self) -> str:
        parts = {"scheme": self.scheme, "host": self.host, "port": self.port, "path": self.path, "prefix": self.prefix}
        return f"Redirect({_shown(**parts, status=self.status)})"


BAD_TARGET: Final = deny(
    "invalid request: the target cannot be rewritten",
    status=400,
    code="invalid_request",
    reason=Reason.INVALID_REQUEST,
    policy="rewrite",
)


def _mount(view: Request) -> tuple[bytes, bytes]:
    """The raw path at which the gateway is mounted, and what is below."""
    _, below = below_mount(view)
    raw = view.raw_path
    return (raw[: len(raw) - len(below)] if raw.endswith(below) else raw), below


def _port(view: Request) -> int | None:
    """The one that the client says it has called."""
    _, colon, port = view.authority.rpartition(":")
    return int(port) if colon and port.isdigit() else None


def _shown(**values: object) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in values.items() if value is not None)
