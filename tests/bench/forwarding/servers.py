"""Starting what is measured: processes on loopback, each on a core of its own where there are two."""

import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[3]
CORES = sorted(os.sched_getaffinity(0))
GATEWAY_CORE, OTHER_CORE = CORES[0], CORES[-1]
TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Server:
    """A process that listens on a port."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _pids(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [self.process.pid, *map(int, children)]

    def cpu(self) -> float:
        """Seconds of CPU that it and its children have used."""
        used = 0
        for pid in self._pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            used += int(fields[11]) + int(fields[12])
        return used / TICK

    def memory(self) -> float:
        """Mebibytes that it and its children hold."""
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self._pids())
        return pages * resource.getpagesize() / 2**20


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        port: int = opened.getsockname()[1]
        return port


@contextmanager
def started(command: Sequence[str], port: int, *cores: int, env: Mapping[str, str] | None = None) -> Iterator[Server]:
    """The server that this command starts, on these cores, until the block ends."""
    with tempfile.TemporaryFile() as said:  # a pipe that nobody reads would stop the server when it is full
        process = subprocess.Popen(
            ["taskset", "-c", ",".join(map(str, cores)), *command],
            env={**os.environ, **(env or {})},
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=said,
        )
        try:
            _await(process, port, said)
            yield Server(process, port)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _await(process: subprocess.Popen[bytes], port: int, said: IO[bytes]) -> None:
    for _ in range(600):
        if process.poll() is not None:
            said.seek(0)
            raise RuntimeError(f"{process.args!r} did not start: {said.read().decode()[-2000:]}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError(f"{process.args!r} does not listen")


@contextmanager
def uvicorn(app: str, env: Mapping[str, str], core: int = GATEWAY_CORE) -> Iterator[Server]:
    """An app of this package under uvicorn with httptools and uvloop, one worker."""
    port = free_port()
    command = [
        *(sys.executable, "-m", "uvicorn", "--factory", app, "--port", str(port)),
        *("--http", "httptools", "--loop", "uvloop", "--no-access-log", "--log-level", "warning"),
    ]
    with started(command, port, core, env=env) as server:
        yield server


@contextmanager
def nginx(folder: Path, servers: str, port: int, core: int) -> Iterator[Server]:
    """One nginx worker with these `server` blocks."""
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder / "nginx.conf"
    configuration.write_text(
        f"daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr crit; user root;\n"
        "events { worker_connections 4096; }\n"
        "http { access_log off; keepalive_requests 1000000000; keepalive_timeout 1h; sendfile on; tcp_nodelay on;\n"
        f"client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n{servers}\n}}\n"
    )
    with started([_nginx(), "-c", str(configuration), "-e", "stderr"], port, core) as server:
        yield server


def _nginx() -> str:
    return shutil.which("nginx") or "/usr/sbin/nginx"


def missing_programs() -> list[str]:
    """What must be there and is not."""
    found = {"nginx": Path(_nginx()).exists(), "wrk": shutil.which("wrk"), "taskset": shutil.which("taskset")}
    return [name for name, there in found.items() if not there]
