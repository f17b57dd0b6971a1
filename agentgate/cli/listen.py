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


def listen(hosts: Sequence[str], port: int) -> list[socket.socket]:
    """Sockets that listen on these IP addresses, all on one port: the one given, or with 0 any that is free."""
    sockets: list[socket.socket] = []
    try:
        for host in hosts:
            try:
                sockets.append(_open(host, sockets[0].getsockname()[1] if sockets else port))
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


def _open(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    opened = socket.socket(family, kind, protocol)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
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
) -> None:
    """Serve each app on its sockets until SIGINT or SIGTERM; a second one does not wait for requests under way.

    `ready` is called when all of them are up, and `stopping` at the first signal; `drain` seconds later nothing more is
    accepted, and requests under way have `grace` seconds to end. What is served `aside` is there until that is over.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_run(apps, ready, aside, stopping, drain, grace))


async def _run(
    apps: Sequence[Served],
    ready: Callable[[], None],
    aside: Sequence[Served],
    stopping: Callable[[], None] | None,
    drain: float,
    grace: int,
) -> None:
    loop = asyncio.get_running_loop()
    servers = [_Server(app, grace) for app, _ in apps]
    others = [_Server(app, ASIDE_GRACE_SECONDS) for app, _ in aside]
    signals = 0

    def stop(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(stopped)

    def stopped() -> None:
        nonlocal signals
        signals += 1
        if signals > 1:
            _exit([*servers, *others], force=True)
            return
        if stopping is not None:
            stopping()
        loop.call_later(drain, _exit, servers)

    # Not loop.add_signal_handler, which Windows has not; uvicorn looks ten times a second whether it should exit.
    before = {number: signal.signal(number, stop) for number in _SIGNALS}
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
