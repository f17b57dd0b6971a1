"""Running apps with uvicorn: several in one event loop, on sockets that were opened before, until a signal ends them.

The end has an order: first nobody is to send more (`stopping`, and time for that to be noticed), then no connection is
accepted any more, then what is under way may end by itself, and what has not is cut off.

uvicorn's access log and its `server` and `date` headers are off: the gateway writes its own log, and the upstream's
headers are to go through. What `X-Forwarded-For` says is not believed.
"""

import asyncio
import contextlib
import errno
import ipaddress
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, Final

import uvicorn

from ..respond import ASGIApp

BACKLOG: Final = 2048
GRACE_SECONDS: Final = 5  # for requests under way when the end comes

ASIDE_GRACE_SECONDS: Final = 1

_NOT_HERE: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)  # `localhost` may mean an address the machine has not
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class CannotListen(Exception):
    """The address is taken, or is not ours to take."""


def addresses(host: str) -> list[str]:
    """The IP addresses that listening on `host` means. One that is none raises `CannotListen`."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise CannotListen(f"cannot listen on {host}: no such host") from None
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach what listens there."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def listen(hosts: Sequence[str], port: int, *, shared: bool = False) -> list[socket.socket]:
    """Sockets that listen on these IP addresses, all on one port: the one given, or with 0 any that is free. Others
    that are `shared` may listen there, too."""
    sockets: list[socket.socket] = []
    try:
        for host in hosts:
            try:
                sockets.append(_open(host, sockets[0].getsockname()[1] if sockets else port, shared))
            except OSError as exc:
                if exc.errno in _NOT_HERE and (sockets or host != hosts[-1]):
                    continue
                shown = f"[{host}]" if ":" in host else host
                reason = "the port is in use" if exc.errno == errno.EADDRINUSE else exc.strerror
                raise CannotListen(f"cannot listen on {shown}:{port}: {reason}") from None
    except BaseException:
        for opened in sockets:
            opened.close()
        raise
    return sockets


def listen_each(hosts: Sequence[str], port: int, count: int) -> list[list[socket.socket]]:
    """As many times what `listen` gives, all on the same port: each process accepts on its own. On Linux the kernel
    gives each of them its share of the connections; elsewhere whoever comes first has the next one."""
    sockets = listen(hosts, port)  # alone: a port that somebody has would be shared with them
    if count == 1:
        return [sockets]
    if sys.platform != "linux":
        return each(sockets, count)
    hosts = [opened.getsockname()[0] for opened in sockets]
    port = sockets[0].getsockname()[1]
    close([sockets])
    found: list[list[socket.socket]] = []
    try:
        for _ in range(count):
            found.append(listen(hosts, port, shared=True))
    except BaseException:
        close(found)
        raise
    return found


def each(sockets: list[socket.socket], count: int) -> list[list[socket.socket]]:
    """These sockets, for as many processes: whoever comes first has the next connection."""
    return [sockets, *([opened.dup() for opened in sockets] for _ in range(count - 1))]


def close(each: Sequence[Sequence[socket.socket]]) -> None:
    """Close all of them."""
    for sockets in each:
        for opened in sockets:
            opened.close()


def _open(host: str, port: int, shared: bool) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    opened = socket.socket(family, kind, protocol)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.bind(address)
        opened.listen(BACKLOG)
        opened.setblocking(False)
    except BaseException:
        opened.close()
        raise
    return opened


class _Server(uvicorn.Server):
    """Leaves signals to `run`, and says when it is up."""

    def __init__(self, app: ASGIApp, grace: int) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="on",
                log_level="warning",
                access_log=False,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=grace,
            )
        )
        self.up = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()


Served = tuple[ASGIApp, list[socket.socket]]
"""An app, and the sockets that it is served on."""


def run(
    apps: Sequence[Served],
    ready: Callable[[], None],
    *,
    aside: Sequence[Served] = (),
    stopping: Callable[[], None] | None = None,
    drain: float = 0,
    grace: int = GRACE_SECONDS,
    supervisor: socket.socket | None = None,
) -> None:
    """Serve each app on its sockets until SIGINT or SIGTERM; a second one does not wait for requests under way.

    `ready` is called when all of them are up, and `stopping` at the first signal; `drain` seconds later nothing more is
    accepted, and requests under way have `grace` seconds to end. What is served `aside` is there until that is over.

    A `supervisor` says it in place of the signals, by a byte for each, or by its own end: what is typed at a terminal
    comes to all processes. SIGTERM, for this process alone, is a first signal then, however often it comes.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_run(apps, ready, aside, stopping, drain, grace, supervisor))


async def _run(
    apps: Sequence[Served],
    ready: Callable[[], None],
    aside: Sequence[Served],
    stopping: Callable[[], None] | None,
    drain: float,
    grace: int,
    supervisor: socket.socket | None,
) -> None:
    loop = asyncio.get_running_loop()
    servers = [_Server(app, grace) for app, _ in apps]
    others = [_Server(app, ASIDE_GRACE_SECONDS) for app, _ in aside]
    ending = False
    times = 0

    def end() -> None:
        nonlocal ending
        if not ending:
            ending = True
            if stopping is not None:
                stopping()
            loop.call_later(drain, _exit, servers)

    def told() -> None:
        nonlocal times
        times += 1
        if times == 1:
            end()
        else:
            _exit([*servers, *others], force=True)

    def heard(supervisor: socket.socket) -> None:
        if not supervisor.recv(1):
            loop.remove_reader(supervisor)
        told()

    def on_signal(number: int, frame: FrameType | None) -> None:
        if supervisor is None:
            loop.call_soon_threadsafe(told)
        elif number == signal.SIGTERM:
            loop.call_soon_threadsafe(end)

    # Not loop.add_signal_handler, which Windows has not; uvicorn looks ten times a second whether it should exit.
    before = {number: signal.signal(number, on_signal) for number in _SIGNALS}
    if supervisor is not None:
        loop.add_reader(supervisor, heard, supervisor)
    try:
        async with asyncio.TaskGroup() as group:
            running = [
                group.create_task(server.serve(sockets)) for server, (_, sockets) in zip(servers, apps, strict=True)
            ]
            for server, (_, sockets) in zip(others, aside, strict=True):
                group.create_task(server.serve(sockets))
            for server in (*servers, *others):
                await server.up.wait()
            ready()
            await asyncio.wait(running)
            _exit(others)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit(servers: Sequence[_Server], *, force: bool = False) -> None:
    for server in servers:
        server.should_exit = True
        server.force_exit = server.force_exit or force


def _loop_factory() -> Callable[[], Any] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
