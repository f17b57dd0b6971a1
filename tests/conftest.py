"""What all tests share: anyio's plugin, on asyncio, and a Redis of their own."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("agentgate", deadline=None)  # a machine that is busy with something else is no failure
settings.load_profile("agentgate")

PATIENCE = 20.0  # seconds: a Redis is there at once; this bounds a test that fails


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class RedisServer:
    """A redis-server behind a socket file, which keeps nothing on disk. It can be stopped, frozen and started again."""

    def __init__(self, command: str, folder: Path) -> None:
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        self._command = [command, "--port", "0", "--unixsocket", str(self.socket), "--dir", str(folder)]
        self._command += ["--save", "", "--appendonly", "no", "--logfile", str(folder / "log")]

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        until = time.monotonic() + PATIENCE
        while not self._answers():
            assert self.process.poll() is None, "redis-server has ended"
            assert time.monotonic() < until, "redis-server does not answer"
            time.sleep(0.01)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.socket.unlink(missing_ok=True)

    def ask(self, *words: str) -> bytes:
        """What it answers to one command."""
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.socket))
            client.sendall(f"*{len(words)}\r\n".encode() + b"".join(f"${len(w)}\r\n{w}\r\n".encode() for w in words))
            return client.recv(1 << 20)

    def keys(self) -> list[str]:
        return [line for line in self.ask("KEYS", "*").decode().split("\r\n")[2::2] if line]

    def _answers(self) -> bool:
        try:
            return self.ask("PING") == b"+PONG\r\n"
        except OSError:
            return False


@pytest.fixture(scope="session")
def _redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    command = shutil.which("redis-server")
    if command is None:
        pytest.skip("redis-server is not installed: it comes with Debian's package of that name")
    server = RedisServer(command, tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def redis_server(_redis: RedisServer) -> RedisServer:
    """A Redis with nothing in it."""
    _redis.ask("FLUSHALL")
    return _redis
