"""An upstream for event streams: every request gets 50 events of 60 bytes, one chunk each, as fast as they go."""

import asyncio
import sys
from typing import cast

import uvloop

EVENTS = 50
_EVENT = b"data: " + b"x" * 52 + b"\n\n"
_CHUNK = b"%x\r\n%b\r\n" % (len(_EVENT), _EVENT)
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Events(asyncio.Protocol):
    """HTTP/1.1 as far as a load generator needs it: a request is over with its empty line."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by class
        self.seen = b""

    def data_received(self, data: bytes) -> None:
        self.seen += data
        while b"\r\n\r\n" in self.seen:
            self.seen = self.seen.partition(b"\r\n\r\n")[2]
            self.transport.write(_HEAD)
            for _ in range(EVENTS):
                self.transport.write(_CHUNK)
            self.transport.write(b"0\r\n\r\n")


async def main(port: int) -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(Events, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
