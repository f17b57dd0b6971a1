"""PoolTransport: the connections to the servers behind the gateway, HTTP/1.1 only, behind httpx's transport interface.

    transport = PoolTransport(max_connections=100)
    response = await transport.handle_async_request(httpx.Request("GET", "http://tools:9000/health"))

Two promises beyond speaking HTTP strictly: no slot is lost, whenever a task is cancelled; and a request costs the same
however many others are open. Both hold because every change of state is a plain function call that cannot be
interrupted: a task only ever waits for a future, and whoever gives up takes one entry out of one dictionary.

It refuses to do what a client library does for its user: it follows no redirect, keeps no cookie, reads no environment
variable, decodes nothing, invents no header, and repeats a request only where RFC 9110 §9.2.2 calls that safe.
"""

import asyncio
import ssl
from collections import OrderedDict
from functools import partial
from typing import Any, Final, NamedTuple

import httpx

from ..deadlines import NEVER, Deadlines
from ..errors import ConfigurationError
from .connection import Connection, address
from .dial import dial
from .exchange import Exchange, ResponseStream, Seconds
from .framing import BodyWriter, FramingError, RequestHead
from .messages import PORTS, UpstreamRequest, UpstreamResponse, origin_of, raw_headers
from .messages import Origin as OriginKey

DEFAULT_KEEPALIVE: Final = 4.0  # seconds; uvicorn and Node.js close an idle connection after 5, and must not be first
COALESCE: Final = 64 * 1024  # a body up to this size is copied behind its head, to leave in the same write
IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})  # RFC 9110 §9.2.2, TRACE left out
ALPN: Final = (None, "http/1.1")  # what a server may choose; it need not choose at all


class Stats(NamedTuple):
    """Connections open (being opened and idle ones included), idle ones, and requests waiting for one."""

    open: int
    idle: int
    waiting: int


class Ticket:
    """A request's place in the queue and, once there is a slot for it, the connection being opened in its name."""

    __slots__ = ("deadline", "fresh", "origin", "request", "result", "task", "timeouts")

    def __init__(self, origin: "Origin", request: httpx.Request, timeouts: Seconds, fresh: bool) -> None:
        self.origin = origin
        self.request = request
        self.timeouts = timeouts
        self.fresh = fresh  # a connection that has been used will not do
        self.deadline = NEVER
        self.task: asyncio.Task[Connection] | None = None
        # An error is a result too: an exception in a future that nobody looks at any more would be logged.
        self.result: asyncio.Future[Connection | httpx.TransportError] = origin.pool.loop.create_future()

    def settle(self, result: Connection | httpx.TransportError) -> bool:
        """Answer the request, unless it has an answer or has gone."""
        if self.result.done():
            return False
        self.result.set_result(result)
        return True

    def withdraw(self) -> None:
        """Leave the queue, or stop connecting; the slot comes back when the task that connects has ended."""
        self.origin.waiting.pop(self, None)
        self.origin.deadlines.forget(self)
        if self.task is not None:
            self.task.cancel()

    def expire(self) -> None:
        if self.task is None:
            self.settle(httpx.PoolTimeout("no connection became free in time", request=self.request))
        else:
            self.settle(httpx.ConnectTimeout(f"{self.origin} did not accept in time", request=self.request))
        self.withdraw()

    def shut(self) -> None:
        self.settle(httpx.ConnectError("the pool was closed", request=self.request))
        self.withdraw()


class Origin:
    """The connections to one scheme, host and port, and the requests that wait for one of them.

    While anybody waits, every slot is taken: a slot or a connection that becomes free goes to the head of the queue.
    """

    __slots__ = ("connecting", "connections", "deadlines", "idle", "key", "pool", "tls", "tls_name", "waiting")

    def __init__(self, pool: "Pool", key: OriginKey, tls: ssl.SSLContext | None, tls_name: str | None) -> None:
        self.pool = pool
        self.key = key
        self.tls = tls
        self.tls_name = tls_name or key[1].decode("ascii")  # whose certificate it is to be
        self.deadlines = pool.deadlines
        self.connecting = 0
        self.connections = 0
        self.idle: dict[Connection, None] = {}  # the one used last comes last, and is taken first
        self.waiting: OrderedDict[Ticket, None] = OrderedDict()  # a queue that can be left from the middle, in O(1)

    def __str__(self) -> str:
        _, host, port = self.key
        return address((host.decode("ascii"), port))

    @property
    def open(self) -> int:
        return self.connecting + self.connections

    async def obtain(self, request: httpx.Request, timeouts: Seconds, *, fresh: bool) -> Connection:
        """A connection of one's own, where no idle one will do: a new one if there is room, or what comes free."""
        ticket = Ticket(self, request, timeouts, fresh)
        if self.open < self.pool.limits.max_connections:
            self._connect(ticket)
        elif self.idle:
            self._connect(ticket)
            next(iter(self.idle)).close()  # only now: an origin without a connection is forgotten
        elif len(self.waiting) < self.pool.limits.max_waiting:
            self.deadlines.set(ticket, timeouts.get("pool"))
            self.waiting[ticket] = None
        else:
            raise httpx.PoolTimeout("too many requests wait for a connection", request=request)
        self.deadlines.watch(ticket)
        try:
            result = await ticket.result
        except BaseException:
            ticket.withdraw()
            if ticket.result.done() and not ticket.result.cancelled():
                # Cancelled with the connection already in hand: pass it on.
                unwanted = ticket.result.result()
                if isinstance(unwanted, Connection) and not unwanted.closed:
                    self.release(unwanted)
            raise
        if isinstance(result, Connection):
            return result
        raise result

    def release(self, connection: Connection) -> None:
        """To the next in the queue, or to rest."""
        ticket = self._next()
        if self.pool.closed:
            connection.close()
        elif ticket is None:
            self.idle[connection] = None
            self.deadlines.set(connection, self.pool.limits.keepalive_expiry)
        elif ticket.fresh:
            self._connect(ticket)
            connection.close()
        else:
            self.deadlines.forget(ticket)
            ticket.settle(connection)

    def forget(self, connection: Connection) -> None:
        """A connection is closed: its slot is free."""
        self.connections -= 1
        self.idle.pop(connection, None)
        self.deadlines.forget(connection)
        self._vacate()

    def _next(self) -> Ticket | None:
        while self.waiting:
            ticket, _ = self.waiting.popitem(last=False)
            if not ticket.result.done():  # else: cancelled, and not yet run to say so itself
                return ticket
        return None

    def _vacate(self) -> None:
        """A slot has come free, unless the place of a connection was taken before it was closed."""
        if self.open >= self.pool.limits.max_connections:
            return
        ticket = self._next()
        if ticket is not None:
            self._connect(ticket)
        elif not self.open:
            self.pool.origins.pop(self.key, None)

    def _connect(self, ticket: Ticket) -> None:
        self.deadlines.set(ticket, ticket.timeouts.get("connect"))
        self.connecting += 1
        ticket.task = self.pool.loop.create_task(self._open())
        # Not in the task itself: one that is cancelled before its first step never gets to clean up.
        ticket.task.add_done_callback(partial(self._opened, ticket))

    async def _open(self) -> Connection:
        loop = self.pool.loop
        _, host, port = self.key
        transport, connection = await loop.create_connection(
            partial(Connection, loop),
            sock=await dial(loop, host.decode("ascii"), port),
            ssl=self.tls,
            server_hostname=None if self.tls is None else self.tls_name,
        )
        if self.tls is not None and transport.get_extra_info("ssl_object").selected_alpn_protocol() not in ALPN:
            transport.abort()
            raise OSError("the server wants a protocol other than http/1.1")
        return connection

    def _opened(self, ticket: Ticket, task: asyncio.Task[Connection]) -> None:
        ticket.task = None
        self.connecting -= 1
        self.deadlines.forget(ticket)
        error: httpx.TransportError
        try:
            connection = task.result()
        except asyncio.CancelledError:
            error = httpx.ConnectError(f"{self}: connecting was cancelled", request=ticket.request)
        except Exception as reason:
            error = httpx.ConnectError(f"{self}: {reason}", request=ticket.request)
            error.__cause__ = reason
        else:
            if not connection.closed:
                self.connections += 1
                connection.owner = self
                self.deadlines.watch(connection)
                if not ticket.settle(connection):
                    self.release(connection)
                return
            error = httpx.RemoteProtocolError(f"{self} did not wait to be asked", request=ticket.request)
        ticket.settle(error)
        self._vacate()


class Limits(NamedTuple):
    max_connections: int
    max_waiting: int
    keepalive_expiry: float | None


class Pool:
    """Everything that belongs to one event loop."""

    __slots__ = ("closed", "deadlines", "limits", "loop", "origins")

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: Limits) -> None:
        self.loop = loop
        self.limits = limits
        self.deadlines = Deadlines(loop)
        self.origins: dict[OriginKey, Origin] = {}  # those that have a connection
        self.closed = False

    def shut(self) -> list[asyncio.Future[Any]]:
        """Close everything, at once. What is returned is done when the sockets are closed too."""
        self.closed = True
        alive = list(self.deadlines.alive)
        ending: list[asyncio.Future[Any]] = [mortal.lost for mortal in alive if isinstance(mortal, Connection)]
        ending += [mortal.task for mortal in alive if isinstance(mortal, Ticket) and mortal.task is not None]
        for mortal in alive:
            mortal.shut()
        self.deadlines.stop()
        return ending


class PoolTransport(httpx.AsyncBaseTransport):
    """The connections to all upstream servers.

    At most `max_connections` to one origin (scheme, host, port), `max_waiting` requests in the queue for one of them,
    and `keepalive_expiry` seconds of rest for a connection nobody uses (None: until the server closes it). `verify`:
    True checks certificates against certifi's authorities, whatever the environment says; an `ssl.SSLContext` is used
    as it is, with the authorities and the client certificate that it has loaded; False checks nothing.
    `server_hostname`: the name that certificates are to be for (and SNI says), where it is not the URL's. The pool
    lives in the event loop that it is first used in, and starts afresh in another. Timeouts come with each request, in
    `request.extensions["timeout"]`, as httpx passes them.

    Errors are httpx's, each with its request. `response.extensions["peer"]` is the address of the server's socket.
    """

    def __init__(
        self,
        *,
        max_connections: int = 100,
        max_waiting: int = 1000,
        keepalive_expiry: float | None = DEFAULT_KEEPALIVE,
        verify: bool | ssl.SSLContext = True,
        server_hostname: str | None = None,
    ) -> None:
        faults = {
            "max_connections must be at least 1": max_connections < 1,
            "max_waiting must not be negative": max_waiting < 0,
            "keepalive_expiry must not be negative": keepalive_expiry is not None and keepalive_expiry < 0,
            "verify must be True, False or an ssl.SSLContext": not isinstance(verify, bool | ssl.SSLContext),
            "server_hostname must be a host name": not (server_hostname is None or _is_name(server_hostname)),
        }
        if any(faults.values()):
            raise ConfigurationError(fault for fault, present in faults.items() if present)
        self._limits = Limits(max_connections, max_waiting, keepalive_expiry)
        self._verify = verify
        self._server_hostname = server_hostname
        self._tls: ssl.SSLContext | None = None
        self._pool: Pool | None = None

    @property
    def stats(self) -> Stats:
        """Counted over all origins."""
        origins = self._pool.origins.values() if self._pool is not None else ()
        return Stats(
            sum(origin.open for origin in origins),
            sum(len(origin.idle) for origin in origins),
            sum(len(origin.waiting) for origin in origins),
        )

    def __repr__(self) -> str:
        return "PoolTransport({} open, {} idle, {} waiting)".format(*self.stats)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        head, body, wire = _prepare(request)
        timeouts: Seconds = request.extensions.get("timeout") or {}
        may_retry = wire is not None and request.method in IDEMPOTENT
        fresh = False
        while True:
            origin = self._origin(request)
            if origin.idle and not fresh:
                connection = origin.idle.popitem()[0]
            else:
                connection = await origin.obtain(request, timeouts, fresh=fresh)
            if connection.closed:  # on its way here, and nothing was sent
                if connection.reused:
                    continue
                raise httpx.RemoteProtocolError("the server did not wait to be asked", request=request)
            exchange = Exchange(connection, request, timeouts)
            exchange.start(head, body, wire)
            while exchange.head is None and exchange.error is None:
                await exchange.wait()
            if exchange.head is not None:
                status, version, reason, headers = exchange.head
                return UpstreamResponse(
                    status,
                    headers,
                    ResponseStream(exchange),
                    {"http_version": version, "reason_phrase": reason, "peer": connection.peer},
                )
            if not (may_retry and exchange.stale):
                assert exchange.error is not None
                raise exchange.error
            may_retry, fresh = False, True

    async def aclose(self) -> None:
        pool, self._pool = self._pool, None
        if pool is None or pool.loop.is_closed():
            return
        if pool.loop is not asyncio.get_running_loop():
            pool.loop.call_soon_threadsafe(pool.shut)
        elif ending := pool.shut():
            await asyncio.wait(ending)

    def _origin(self, request: httpx.Request) -> Origin:
        key = request.origin if type(request) is UpstreamRequest else origin_of(request.url)
        pool = self._pool
        if pool is None or pool.loop is not asyncio.get_running_loop():
            pool = self._start()
        origin = pool.origins.get(key)
        if origin is None:
            scheme, host, _ = key
            if scheme not in PORTS:
                raise httpx.UnsupportedProtocol("the upstream URL is neither http nor https", request=request)
            if not host:
                raise httpx.UnsupportedProtocol("the upstream URL has no host", request=request)
            origin = Origin(pool, key, self.context() if scheme == "https" else None, self._server_hostname)
            pool.origins[key] = origin
        return origin

    def _start(self) -> Pool:
        """A pool for the running loop. One that another loop has left behind can be closed only if that still runs."""
        if self._pool is not None and not self._pool.loop.is_closed():
            self._pool.loop.call_soon_threadsafe(self._pool.shut)
        self._pool = Pool(asyncio.get_running_loop(), self._limits)
        return self._pool

    def context(self) -> ssl.SSLContext:
        """What TLS is spoken with."""
        if isinstance(self._verify, ssl.SSLContext):
            return self._verify
        if self._tls is None:
            # Takes 10 ms and more, so not before the first https request. `SSL_CERT_FILE` and its like are not read.
            self._tls = httpx.create_ssl_context(verify=self._verify, trust_env=False)
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls


def _is_name(name: object) -> bool:
    return isinstance(name, str) and name.isascii() and name.isprintable() and 0 < len(name) < 254 and " " not in name


def _prepare(request: httpx.Request) -> tuple[RequestHead, BodyWriter, tuple[bytes, ...] | None]:
    """What to write: the head, and the whole request if its body is at hand."""
    target = request.extensions.get("target")
    try:
        head = RequestHead(
            request.method.encode("ascii", "replace"),  # a question mark is no token
            request.url.raw_path if target is None else target,
            raw_headers(request),
        )
        body = BodyWriter(head.length)
        stream = request.stream
        if type(stream) is not httpx.ByteStream:
            if not isinstance(stream, httpx.AsyncByteStream):
                raise FramingError("the request body is not an asynchronous stream")
            return head, body, None
        whole = b"".join(stream)
        payload = body.encode(whole) + body.end()
    except FramingError as error:
        raise httpx.LocalProtocolError(str(error), request=request) from None
    return head, body, (head.data + payload,) if len(payload) <= COALESCE else (head.data, payload)
