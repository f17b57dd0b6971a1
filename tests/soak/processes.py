"""The processes of a run: gateways and the upstream, started on loopback and ended, and what may be known of one from
outside: its memory, its file descriptors, what its probe says.
"""

import asyncio
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
START_SECONDS: Final = 60.0
_PAGE: Final = resource.getpagesize()


def free_port() -> int:
    """A port that nobody listens on, and below those that connections are given."""
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        port: int = opened.getsockname()[1]
        return port


def open_files() -> int:
    """How many files a process may have open, once this has been raised as far as that goes."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


class Process:
    """A child that listens on `port`; what it says is in `output`."""

    def __init__(self, command: list[str], port: int, output: Path, env: dict[str, str] | None = None) -> None:
        self.port = port
        self.output = output
        with output.open("a") as said:
            self._child = subprocess.Popen(
                command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}, stdout=said, stderr=said
            )
        self.pid = self._child.pid

    def ready(self) -> None:
        """Wait until it listens."""
        give_up = time.monotonic() + START_SECONDS
        while time.monotonic() < give_up and self._child.poll() is None:
            with socket.socket() as opened:
                if opened.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise RuntimeError(f"it does not listen: {self.output.read_text()[-2000:]}")

    @property
    def alive(self) -> bool:
        return self._child.poll() is None

    def kill(self) -> None:
        """As a crash does."""
        self._child.kill()
        self._child.wait()

    def end(self) -> None:
        """As an operator does."""
        self._child.send_signal(signal.SIGTERM)
        try:
            self._child.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()

    def memory(self) -> int:
        """Bytes that it holds."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * _PAGE

    def files(self) -> int:
        """Its open file descriptors."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))


class Upstream:
    """The upstream, on one port however often it is started."""

    def __init__(self, folder: Path, size: int, *, event_seconds: float) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        arguments = [str(self.port), str(folder), str(size), str(event_seconds)]
        command = [sys.executable, "-m", "tests.soak.upstream", *arguments]
        self._command, self._folder = command, folder
        self.start()
        self.ready()

    def start(self) -> None:
        self._process = Process(self._command, self.port, self._folder / "upstream.out")

    def ready(self) -> None:
        self._process.ready()

    def kill(self) -> None:
        self._process.kill()


class Gateway(Process):
    """A gateway with its own access log, and the connection to its probe."""

    def __init__(self, folder: Path, name: str, upstream: str, jwks: str, *, connections: int) -> None:
        port, self._probe_port = free_port(), free_port()
        self.log = folder / f"{name}.log"
        env = {
            "SOAK_FOLDER": str(folder),
            "SOAK_LOG": str(self.log),
            "SOAK_UPSTREAM": upstream,
            "SOAK_JWKS": jwks,
            "SOAK_PROBE": str(self._probe_port),
            "SOAK_CONNECTIONS": str(connections),
        }
        command = [
            *(sys.executable, "-m", "uvicorn", "--factory", "tests.soak.gateway:app", "--port", str(port)),
            *("--http", "httptools", "--loop", "uvloop", "--no-access-log", "--log-level", "critical"),
            *("--backlog", "4096", "--timeout-graceful-shutdown", "5"),
        ]
        super().__init__(command, port, folder / f"{name}.out", env)
        self.ready()
        self._probe: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._asking = asyncio.Lock()

    async def ask(self, question: str = "now") -> dict[str, Any]:
        """What the probe says; `census`: of every object."""
        async with self._asking:
            if self._probe is None:
                self._probe = await asyncio.open_connection("127.0.0.1", self._probe_port)
            reader, writer = self._probe
            writer.write(question.encode() + b"\n")
            found: dict[str, Any] = json.loads(await reader.readline())
            return found

    def end(self) -> None:
        if self._probe is not None:
            self._probe[1].close()
        super().end()


@contextmanager
def ending(*processes: Gateway | Upstream) -> Iterator[None]:
    """Whatever happens, they do not outlive the block."""
    try:
        yield
    finally:
        for process in processes:
            if isinstance(process, Upstream):
                process.kill()
            else:
                process.end()
