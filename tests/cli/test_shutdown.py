"""The end of `agentgate serve`: nobody is to send more, what is under way may end by itself, and then it is over."""

import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from .processes import SECONDS, Process, finished, port_of, running

ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: events, namespace: default}
spec:
  parentRefs: [{name: gateway}]
  hostnames: [localhost]
  rules:
  - backendRefs: [{name: events, port: 80}]
"""
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVENT = b"b\r\ndata: tick\n\r\n"


class Streaming:
    """A gateway with one stream under way: both ends of it."""

    def __init__(
        self, process: Process, port: int, probes: int, client: socket.socket, upstream: socket.socket
    ) -> None:
        self.process = process
        self.port = port
        self.probes = probes
        self.client = client
        self.upstream = upstream

    def ready(self) -> int:
        return httpx.get(f"http://127.0.0.1:{self.probes}/readyz", timeout=SECONDS).status_code

    def accepts(self) -> bool:
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == 0

    def event(self) -> bytes:
        """One event from end to end."""
        self.upstream.sendall(EVENT)
        return self.client.recv(65536)

    def rest(self) -> bytes:
        return b"".join(iter(lambda: self.client.recv(65536), b""))


@contextmanager
def streaming(folder: Path, *options: str) -> Iterator[Streaming]:
    route = folder / "route.yaml"
    route.write_text(ROUTE)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        backend = f"default/events:80=http://127.0.0.1:{listener.getsockname()[1]}"
        arguments = (str(route), "--backend", backend, "--port", "0", "--probe-port", "0", *options)
        with running("serve", *arguments) as process:
            line = process.error_line()
            front, probes = line.removeprefix("listening on ").split("; probes on ")
            port = port_of(front)
            with socket.create_connection(("127.0.0.1", port), SECONDS) as client:
                client.sendall(b"GET /events HTTP/1.1\r\nhost: localhost\r\n\r\n")
                listener.settimeout(SECONDS)
                upstream, _ = listener.accept()
                with upstream:
                    upstream.recv(65536)
                    upstream.sendall(HEAD)
                    found = Streaming(process, port, port_of(probes), client, upstream)
                    assert found.event().startswith(b"HTTP/1.1 200 OK")
                    assert found.ready() == 200
                    yield found


def until_unready(found: Streaming) -> None:
    deadline = time.monotonic() + SECONDS
    while found.ready() != 503:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def until_closed(found: Streaming) -> None:
    deadline = time.monotonic() + SECONDS
    while found.accepts():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_stream_ends_by_itself(tmp_path: Path) -> None:
    """It is not ready first, then it accepts nobody, and the stream goes on all the while."""
    with streaming(tmp_path, "--drain", "1") as found:
        found.process.popen.send_signal(signal.SIGTERM)
        until_unready(found)
        assert found.accepts()
        assert (
            httpx.get(f"http://127.0.0.1:{found.port}/x", headers={"host": "other"}, timeout=SECONDS).status_code == 404
        )
        assert b"data: tick" in found.event()
        until_closed(found)
        assert b"data: tick" in found.event()
        assert found.ready() == 503  # the probes are there to the last
        found.upstream.sendall(b"0\r\n\r\n")
        assert found.rest().endswith(b"0\r\n\r\n")
        code, log, rest = found.process.wait()
    assert (code, rest) == (0, "")
    assert "http.path=/events" in log[-1]
    assert "error=" not in log[-1]


def test_a_stream_that_does_not_end_is_cut_off(tmp_path: Path) -> None:
    """After the grace; the client sees that something is missing, and the log says what became of it."""
    with streaming(tmp_path, "--grace", "1") as found:
        found.process.popen.send_signal(signal.SIGTERM)
        until_closed(found)
        assert b"data: tick" in found.event()
        assert not found.rest().endswith(b"0\r\n\r\n")
        code, log, rest = found.process.wait()
    assert code == 0
    assert 'error="request failed: CancelledError' in log[-1]
    assert "timeout graceful shutdown exceeded" in rest


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with streaming(tmp_path, "--drain", "1000", "--grace", "1000") as found:
        found.process.popen.send_signal(signal.SIGTERM)
        until_unready(found)
        found.process.popen.send_signal(signal.SIGTERM)
        code, _, _ = found.process.wait()
    assert code == 0


def test_a_port_for_probes_that_is_in_use(tmp_path: Path) -> None:
    route = tmp_path / "route.yaml"
    route.write_text(ROUTE)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        backend = "default/events:80=http://127.0.0.1:1"
        code, _, err = finished("serve", str(route), "--backend", backend, "--port", "0", "--probe-port", port)
    assert (code, err) == (1, f"agentgate: cannot listen on 127.0.0.1:{port}: the port is in use\n")


@pytest.mark.parametrize("seconds", ["-1", "1.5", "soon", "\u0661", "999999"])
def test_what_is_no_time(seconds: str) -> None:
    with running("serve", "x.yaml", "--grace", seconds) as process:
        code, _, err = process.wait()
    assert code == 2
    assert "is no number of seconds" in err
