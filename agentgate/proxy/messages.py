"""Requests to an upstream and its responses as httpx knows them, at a fraction of the cost.

httpx's transport interface speaks in `httpx.Request` and `httpx.Response`. Their URL and headers are objects that take
longer to make than a response takes to arrive, and a transport of ours never looks at them. So they are made when
somebody does: a transport of the user's, an observer, a test.
"""

from collections.abc import Iterable
from functools import cached_property
from typing import Any, Final

import httpx

PORTS: Final = {"http": 80, "https": 443}

Origin = tuple[str, bytes, int]
"""Scheme, host and port."""

RawHeaders = list[tuple[bytes, bytes]]


def origin_of(url: httpx.URL) -> Origin:
    """The origin of a URL; port 0 for a scheme without one."""
    return url.scheme, url.raw_host, PORTS.get(url.scheme, 0) if url.port is None else url.port


class UpstreamRequest(httpx.Request):
    """A request for `target`, path and query byte for byte, at the server of `base`, whose origin is told beside it.
    `extensions` are its own from then on."""

    def __init__(
        self,
        method: str,
        base: httpx.URL,
        origin: Origin,
        target: bytes,
        headers: RawHeaders,
        stream: httpx.AsyncByteStream | httpx.SyncByteStream,
        extensions: dict[str, Any],
    ) -> None:  # not httpx's own: it makes what is made below when it is wanted
        self.method = method
        self.origin = origin
        self.target = target
        self.stream = stream
        # httpx's URL would re-encode some characters; transports send the target instead.
        extensions["target"] = target
        self.extensions = extensions
        self._base = base
        self._raw = headers

    @cached_property
    def url(self) -> httpx.URL:  # type: ignore[override]
        return self._base.copy_with(raw_path=self.target)

    @cached_property
    def headers(self) -> httpx.Headers:  # type: ignore[override]
        return httpx.Headers(self._raw)

    def change_headers(self, without: frozenset[bytes], added: Iterable[tuple[bytes, bytes]]) -> None:
        """Send it without those of these names, in lower case, and with what is added."""
        self._raw = [pair for pair in raw_headers(self) if pair[0].lower() not in without]
        self._raw += added
        self.__dict__.pop("headers", None)


class UpstreamResponse(httpx.Response):
    """A response as it arrives."""

    _request = None
    next_request = None
    is_closed = False
    is_stream_consumed = False
    default_encoding = "utf-8"
    _num_bytes_downloaded = 0

    def __init__(
        self, status: int, headers: RawHeaders, stream: httpx.AsyncByteStream, extensions: dict[str, Any]
    ) -> None:
        self.status_code = status
        self.stream = stream
        self.extensions = extensions
        self.history = []
        self._raw = headers

    @cached_property
    def headers(self) -> httpx.Headers:  # type: ignore[override]
        return httpx.Headers(self._raw)

    async def aclose(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            await self.stream.aclose()  # type: ignore[union-attr]  # it is an asynchronous one


def is_as_read(response: httpx.Response) -> bool:
    """Whether its headers are those that were read from the upstream: nobody on the way has as much as looked at them,
    as who looks may change them."""
    return type(response) is UpstreamResponse and "headers" not in response.__dict__


def raw_headers(message: httpx.Request | httpx.Response) -> RawHeaders:
    """Its headers as they are on the wire."""
    if isinstance(message, UpstreamRequest | UpstreamResponse) and "headers" not in message.__dict__:
        return message._raw
    return message.headers.raw
