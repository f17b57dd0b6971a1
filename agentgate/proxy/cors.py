"""CORS: which web pages may read what a route answers. Browsers keep to it; it is no authentication.

It stands before the policies, as a browser asks without credentials whether it may ask with them. It answers such a
question (a preflight) itself, and lets nothing else pass them by; what an upstream says about CORS is dropped.
"""

import re
from collections.abc import Sequence
from typing import Final

from ..decision import Decision, Reason, deny
from ..edge import METHODS, NAME_BYTES
from ..errors import ConfigurationError
from ..headers import RawHeaders
from ..record import Record, record_of
from ..request import Request, Scope
from ..respond import ASGIApp, Message, Receive, Send, respond
from .headers import RawHeaderList

_ORIGIN: Final = re.compile(
    r"[a-z][a-z0-9+.-]*://(?P<host>(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?"
).fullmatch
_LABELS: Final = r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*"
_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+").fullmatch
_ASKED: Final = NAME_BYTES + b"ABCDEFGHIJKLMNOPQRSTUVWXYZ_, "  # of what a preflight asks for, to be echoed
_VARY: Final = (b"vary", b"Origin")
_ANY: Final = "*"


class CORS:
    """Lets pages of `origins` read the answers of a route, and ask it with more than a plain form would.

    `origins`: `https://app.example.com`, `https://*.example.com` for one label or more in front, or `*`. `methods` and
    `headers` of requests beyond those that need no asking, `expose` of answers: names, or `*`. `credentials`: whether
    cookies and the like may be sent along; with origin `*` that is for every page there is. `max_age`: seconds for
    which a browser remembers.
    """

    def __init__(
        self,
        origins: Sequence[str],
        *,
        methods: Sequence[str] = (),
        headers: Sequence[str] = (),
        expose: Sequence[str] = (),
        credentials: bool = False,
        max_age: int = 5,
    ) -> None:
        if any(isinstance(names, str) for names in (origins, methods, headers, expose)):
            raise TypeError("origins, methods, headers and expose are lists")
        faults = [f"{one!r} is no origin such as https://app.example.com" for one in origins if not _is_origin(one)]
        faults += [f"{one!r} is no method" for one in methods if one not in (*METHODS, _ANY)]
        faults += [f"{one!r} is no header name" for one in (*headers, *expose) if not _is_name(one)]
        faults += [
            f"{name}: * stands alone"
            for name, given in (("origins", origins), ("methods", methods), ("headers", headers), ("expose", expose))
            if _ANY in given and len(given) > 1
        ]
        if isinstance(max_age, bool) or not isinstance(max_age, int) or max_age < 1:
            faults.append("max_age is a number of seconds, 1 or more")
        if faults:
            raise ConfigurationError(f"CORS: {fault}" for fault in faults)
        self.origins, self.credentials = tuple(origins), credentials
        self._any = _ANY in origins
        self._exact = frozenset(one.encode() for one in origins if _ANY not in one)
        wildcards = [re.escape(one).replace(r"\*", _LABELS) for one in origins if _ANY in one and one != _ANY]
        self._wildcard = re.compile("|".join(wildcards).encode()).fullmatch if wildcards else None
        self._methods = None if _ANY in methods else ", ".join(methods).encode()
        self._headers = None if _ANY in headers else ", ".join(headers).encode()
        granted: list[tuple[bytes, bytes]] = []
        if credentials:
            granted.append((b"access-control-allow-credentials", b"true"))
        if expose:
            granted.append((b"access-control-expose-headers", ", ".join(expose).encode()))
        self._granted: RawHeaders = tuple(granted)
        self._max_age = (b"access-control-max-age", str(max_age).encode())

    def preflight(self, request: Request) -> Decision | None:
        """The answer to a preflight, None for any other request. Where the origin is not admitted it admits nothing."""
        asked = request.by_name
        if (
            request.type != "http"
            or request.method != "OPTIONS"
            or b"origin" not in asked
            or b"access-control-request-method" not in asked
        ):
            return None
        headers = self._admitted(asked[b"origin"])
        if headers != (_VARY,):
            headers = (*headers, *self._allowed(asked), self._max_age)
        return deny("", status=200, code="preflight", reason=Reason.DIRECT_RESPONSE, policy="cors", headers=headers)

    def _admitted(self, origin: bytes | None) -> RawHeaders:
        """What every answer says to a page of this origin."""
        if self._any and not self.credentials:
            return ((b"access-control-allow-origin", b"*"), *self._granted)
        if origin is None or not self._admits(origin):
            return (_VARY,)
        return ((b"access-control-allow-origin", origin), *self._granted, _VARY)

    def _admits(self, origin: bytes) -> bool:
        if self._any:
            return origin != b"null"  # any page can make itself an origin of no name
        return origin in self._exact or (self._wildcard is not None and self._wildcard(origin) is not None)

    def _allowed(self, asked: dict[bytes, bytes]) -> RawHeaderList:
        """Methods and headers; `*` is what was asked for, as browsers take a `*` for a name where credentials are."""
        allowed: RawHeaderList = []
        methods = asked[b"access-control-request-method"] if self._methods is None else self._methods
        headers = asked.get(b"access-control-request-headers", b"") if self._headers is None else self._headers
        for name, value in ((b"access-control-allow-methods", methods), (b"access-control-allow-headers", headers)):
            if value and not value.translate(None, _ASKED):
                allowed.append((name, value))
        return allowed

    def before(self, app: ASGIApp) -> ASGIApp:
        """The app, with CORS before it."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            record = record_of(scope)
            assert record is not None  # a gateway's entry Gate has seen to it
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            answer = self.preflight(record.view)
            if answer is not None:
                record.refuse(answer)
                await respond(answer, scope, send)
                return
            await app(scope, receive, self._answering(record, send))

        return guarded

    def _answering(self, record: Record, send: Send) -> Send:
        ours = self._admitted(record.view.by_name.get(b"origin"))

        async def answering(message: Message) -> None:
            if message["type"] == "http.response.start":
                theirs = [
                    pair for pair in message.get("headers", ()) if not pair[0].lower().startswith(b"access-control-")
                ]
                message = {**message, "headers": [*theirs, *ours]}
            await send(message)

        return answering

    def __repr__(self) -> str:
        return f"CORS({[*self.origins]}, credentials={self.credentials})"


def _is_origin(text: object) -> bool:
    return isinstance(text, str) and (text == _ANY or _ORIGIN(text) is not None)


def _is_name(text: object) -> bool:
    return isinstance(text, str) and _NAME(text) is not None
