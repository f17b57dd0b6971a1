"""From a host name to a connected socket: the addresses race, slowly (RFC 8305, "happy eyeballs").

`loop.create_connection` can do this too, but drops a socket that it has connected when it is cancelled at the wrong
moment, and uvloop's tries one address after the other. Here, every socket has an owner at all times.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Any, Final

HEAD_START: Final = 0.25  # seconds an address has before the next one is tried as well, RFC 8305 §5

Address = tuple[socket.AddressFamily, Any]


async def dial(loop: asyncio.AbstractEventLoop, host: str, port: int) -> socket.socket:
    """A connected, non-blocking socket. OSError when there is no address, or none that accepts."""
    try:
        family = socket.AF_INET if ipaddress.ip_address(host).version == 4 else socket.AF_INET6
    except ValueError:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return await race(loop, alternate([(info[0], info[4]) for info in found]))
    return await _connect(loop, family, (host, port))


def alternate(addresses: Sequence[Address]) -> list[Address]:
    """IPv6 and IPv4 in turn, beginning with the first: a network that lacks one of them costs one head start."""
    first = [address for address in addresses if address[0] == addresses[0][0]]
    other = [address for address in addresses if address[0] != addresses[0][0]]
    return [address for address in chain.from_iterable(zip_longest(first, other)) if address is not None]


async def race(loop: asyncio.AbstractEventLoop, addresses: Sequence[Address]) -> socket.socket:
    """The first of the addresses that accepts; if none does, the error of the last to fail."""
    runners: set[asyncio.Task[socket.socket]] = set()
    failure: BaseException = OSError("the name has no address")
    waiting = list(reversed(addresses))
    try:
        while waiting or runners:
            if waiting:
                runners.add(loop.create_task(_connect(loop, *waiting.pop())))
            done, _ = await asyncio.wait(
                runners, timeout=HEAD_START if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for runner in done:
                error = runner.exception()
                if error is None:
                    runners.discard(runner)
                    return runner.result()
                runners.discard(runner)
                failure = error
        raise failure
    finally:
        for runner in runners:
            runner.cancel()
            runner.add_done_callback(_discard)


def _discard(loser: asyncio.Task[socket.socket]) -> None:
    if not loser.cancelled() and loser.exception() is None:
        loser.result().close()


async def _connect(loop: asyncio.AbstractEventLoop, family: socket.AddressFamily, address: Any) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock
