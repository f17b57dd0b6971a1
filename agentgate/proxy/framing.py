"""HTTP/1.1 messages as bytes: what may be written to a server, and what may be believed from one.

No sockets, no event loop, no clock: bytes go in, facts or a `FramingError` come out.

It refuses to *write* anything that two parsers could read in two ways: control characters, names that are no token,
two lengths, a length beside a transfer coding. It refuses to *believe* the same from a server. Nothing is repaired:
there is no lenient mode, no obs-fold, no bare LF, no guess at where a body ends.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import httptools

Headers = Sequence[tuple[bytes, bytes]]

MAX_HEAD_BYTES: Final = (
    64 * 1024
)  # status line, header fields and every 1xx before them; proxies commonly stop at 8-64 KiB
MAX_FIELDS: Final = 256  # header and trailer fields of one response
MAX_INTERIM: Final = 16  # 1xx responses before the real one; a server has no reason for more than two
MAX_SILENCE: Final = 64 * 1024  # bytes of chunk extensions or trailers in a row that carry no byte of the body
MAX_LENGTH_DIGITS: Final = 18  # a content-length that fits a signed 64-bit integer whatever the digits

# `bytes.translate(None, allowed)` leaves what is not allowed: one C loop, no regular expression.
TOKEN: Final = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"  # RFC 9110 §5.6.2
TEXT: Final = b"\t" + bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100))  # RFC 9110 §5.5, obs-text included
TARGET: Final = bytes(range(0x21, 0x7F)).replace(b"#", b"")  # a fragment never belongs in a request target

_FRAMING_LENGTHS: Final = frozenset(map(len, (b"content-length", b"transfer-encoding", b"connection")))

FINAL_CHUNK: Final = b"0\r\n\r\n"
VERSIONS: Final = {"1.0": b"HTTP/1.0", "1.1": b"HTTP/1.1"}  # what llhttp calls them, and the only ones there are here


class FramingError(ValueError):
    """A message breaks the rules of HTTP/1.1. The text names the rule and never quotes the message."""


class BodyWriter:
    """Frames a request body as its head announced it: `length` bytes, or chunks when `length` is None."""

    __slots__ = ("_chunked", "_remaining", "complete")

    def __init__(self, length: int | None) -> None:
        self._chunked = length is None
        self._remaining = length or 0
        self.complete = length == 0

    def encode(self, data: bytes) -> bytes:
        """Some bytes of the body, as they go on the wire."""
        if not data:
            return b""  # an empty chunk would end the body
        if self._chunked:
            return b"%x\r\n%b\r\n" % (len(data), data)
        if len(data) > self._remaining:
            raise FramingError("the request body is longer than its headers say")
        self._remaining -= len(data)
        self.complete = self._remaining == 0
        return data

    def end(self) -> bytes:
        """What closes the body on the wire."""
        if self._remaining:
            raise FramingError("the request body is shorter than its content-length")
        self.complete = True
        return FINAL_CHUNK if self._chunked else b""


class RequestHead:
    """A request line and its header fields, checked, as the bytes to write. Fields keep their order and spelling."""

    __slots__ = ("closes", "data", "is_head", "length")

    def __init__(self, method: bytes, target: bytes, headers: Headers) -> None:
        if not method or method.translate(None, TOKEN):
            raise FramingError("the request method is not a token")
        if method == b"CONNECT":
            raise FramingError("CONNECT asks for a tunnel, and there are none here")
        if target.translate(None, TARGET) or (target[:1] != b"/" and target != b"*"):
            raise FramingError("the request target is neither a path of visible ASCII characters nor *")

        self.is_head = method == b"HEAD"
        self.length: int | None = 0  # None: chunked
        self.closes = False
        names, values = zip(*headers, strict=True) if headers else ((), ())
        if b"" in names or b"".join(names).translate(None, TOKEN):
            raise FramingError("a request header name is not a token")
        if b"".join(values).translate(None, TEXT):
            raise FramingError("a request header value holds a control character")
        parts = [method, b" ", target, b" HTTP/1.1\r\n"]
        lengths = codings = 0
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
            if len(name) not in _FRAMING_LENGTHS:
                continue
            match name.lower():
                case b"content-length":
                    lengths += 1
                    self.length = content_length(value)
                case b"transfer-encoding":
                    codings += 1
                    if value.lower() != b"chunked":
                        raise FramingError("the request has a transfer coding other than chunked")
                case b"connection":
                    self.closes = self.closes or b"close" in members(value)
        if lengths + codings > 1:
            raise FramingError("the request says more than once how long its body is")
        if codings:
            self.length = None
        parts.append(b"\r\n")
        self.data = b"".join(parts)


def content_length(value: bytes) -> int:
    """The number in a content-length: digits only, no sign, no list, no blank."""
    if not value.isdigit() or len(value) > MAX_LENGTH_DIGITS:
        raise FramingError("the content-length is not a number")
    return int(value)


def members(value: bytes) -> set[bytes]:
    """The members of a comma-separated list such as `Connection`, in lower case."""
    return {member.strip() for member in value.lower().split(b",")}


class ResponseHead(NamedTuple):
    """What a response says before its body, names in lower case."""

    status: int
    version: bytes
    reason: bytes
    headers: list[tuple[bytes, bytes]]


class ResponseReader:
    """Reads the responses of one connection, one after the other; llhttp does the parsing, strictly.

    After each `feed`, look at `head` (None until it is there), take the body's new bytes out of `body`, and see whether
    the response is `complete`. Only then do `keep_alive` and `surplus` (bytes that nobody asked for) mean anything.
    """

    __slots__ = (
        "_fault",
        "_fields",
        "_head_only",
        "_headers",
        "_interim",
        "_parser",
        "_reason",
        "_room",
        "_silence",
        "_until_close",
        "body",
        "complete",
        "head",
        "keep_alive",
        "surplus",
    )

    def __init__(self) -> None:
        self._parser: httptools.HttpResponseParser | None = None

    def begin(self, *, head_only: bool) -> None:
        """Expect the response to one request; `head_only` when that was a HEAD."""
        if self._parser is None:
            self._parser = httptools.HttpResponseParser(self)
        self._head_only = head_only
        self._fault = ""
        self._fields = 0
        self._interim = 0
        self._room = MAX_HEAD_BYTES
        self._silence = 0
        self._until_close = False
        self.head: ResponseHead | None = None
        self.body: list[bytes] = []
        self.complete = False
        self.keep_alive = False
        self.surplus = False

    def close(self) -> None:
        """Let go of the parser, which holds on to this object in turn."""
        self._parser = None

    @property
    def started(self) -> bool:
        """Whether the server has said anything yet."""
        return self._room != MAX_HEAD_BYTES

    def feed(self, data: bytes) -> None:
        """Read some bytes. What came before a fault stays readable in `head` and `body`."""
        parser = self._parser
        assert parser is not None
        try:
            if self.head is None:
                data = self._feed_head(parser, data)
            if data:
                parser.feed_data(data)
        except httptools.HttpParserError as error:
            if not self.complete:
                raise FramingError(self._fault or str(error)) from None
            self.surplus = True

        if self.complete:
            if self._head_only:
                # llhttp cannot be told of HEAD, and now waits for a body that will not come: the next response gets a
                # new parser. What it may have taken for the start of that body is seen here, at the latest.
                self._parser = None
                self.surplus = self.surplus or not b"\r\n\r\n".endswith(data[-4:])
        elif self.head is None:
            if self._room == 0:
                raise FramingError("the response head is too large")
        elif self.body:
            self._silence = 0
        else:
            self._silence += len(data)
            if self._silence > MAX_SILENCE:
                raise FramingError("the response body holds too much that is not body")

    def _feed_head(self, parser: httptools.HttpResponseParser, data: bytes) -> bytes:
        """Feed what fits into the room left for heads when there is more than that; return what remains to be fed."""
        if not self.started and not b"HTTP/".startswith(data[:5]):
            raise FramingError("the response does not start with a status line")
        room = self._room
        self._room = max(0, room - len(data))
        if len(data) <= room:
            return data
        parser.feed_data(data[:room])
        return b"" if self.head is None else data[room:]

    def eof(self) -> None:
        """The server has said all it will say: that ends a body which only the end of the connection delimits."""
        if self.head is None:
            raise FramingError(
                "the server closed the connection in the middle of a response head"
                if self.started
                else "the server closed the connection without an answer"
            )
        if not self._until_close:
            raise FramingError("the server closed the connection in the middle of a response body")
        self.complete = True

    def _refuse(self, fault: str) -> FramingError:
        self._fault = fault  # httptools raises an error of its own in place of ours
        return FramingError(fault)

    # What httptools calls.

    def on_message_begin(self) -> None:
        if self.complete:
            raise self._refuse("the server sent more than was asked for")
        self._headers: list[tuple[bytes, bytes]] = []
        self._reason = b""

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields += 1
        if self._fields > MAX_FIELDS:
            raise self._refuse("the response has too many header fields")
        if self.head is None:
            self._headers.append((name.lower(), value.rstrip(b" \t")))
        else:
            # A trailer: dropped. It may have changed what the parser thinks of the connection, so that ends here too.
            self.keep_alive = False

    def on_headers_complete(self) -> None:
        parser = self._parser
        assert parser is not None
        status = parser.get_status_code()
        version = VERSIONS.get(parser.get_http_version())
        if status < 100:
            raise self._refuse("the response has no valid status")
        if version is None:
            raise self._refuse("the response is not HTTP/1.1 or HTTP/1.0")
        if self._reason.translate(None, TEXT):
            raise self._refuse("the reason phrase holds a control character")

        sized = chunked = False
        options: set[bytes] = set()
        for name, value in self._headers:
            if name == b"content-length":  # llhttp has seen to it that there is one, and digits only
                sized = True
            elif name == b"transfer-encoding":
                if chunked or value.lower() != b"chunked":
                    raise self._refuse("the response has a transfer coding other than chunked")
                chunked = True
            elif name == b"connection":
                options |= members(value)
        if chunked and version == b"HTTP/1.0":
            raise self._refuse("the response is HTTP/1.0 and has a transfer coding")

        if status < 200:
            self._interim += 1
            if status == 101:
                raise self._refuse("the server switched protocols unasked")
            if sized or chunked:
                raise self._refuse("an interim response announces a body")
            if self._interim > MAX_INTERIM:
                raise self._refuse("the server sent too many interim responses")
            return

        self.head = ResponseHead(status, version, self._reason, self._headers)
        bodyless = self._head_only or status == 204 or status == 304
        self._until_close = not (bodyless or sized or chunked)
        persistent = b"close" not in options if version == b"HTTP/1.1" else b"keep-alive" in options
        self.keep_alive = persistent and not self._until_close
        self.complete = bodyless

    def on_body(self, data: bytes) -> None:
        if self.complete or self.head is None:
            raise self._refuse("the response has a body that it must not have")
        self.body.append(data)

    def on_message_complete(self) -> None:
        # Also called for a 1xx, which completes nothing.
        self.complete = self.head is not None
