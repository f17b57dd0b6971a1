"""`agentgate serve --workers`: several processes that are one gateway, whatever becomes of one of them."""

import http.client
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from agentgate import AccessLog, ConfigurationError, HTTPBackend, MCPBackend, RateLimit, Route, create_gateway
from agentgate.auth.keys import new_key
from agentgate.cli.listen import CannotListen, close, listen, listen_each
from agentgate.cli.serve import _check_workers
from agentgate.proxy.gateway import Gateway

from .processes import SECONDS, Process, finished, running
from .test_serving import BACKEND, TUTORIAL, wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

KEY = new_key()
DOCUMENTS = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: tools}
spec:
  parentRefs: [{name: gateway}]
  rules:
  - matches: [{path: {value: /mcp}}]
    backendRefs: [{group: agentgateway.dev, kind: AgentgatewayBackend, name: tools}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web}
spec:
  parentRefs: [{name: gateway}]
  rules:
  - backendRefs: [{name: web, port: 8000}]
---
apiVersion: agentgateway.dev/v1alpha1
kind: AgentgatewayBackend
metadata: {name: tools}
spec:
  mcp: {targets: [{name: tools, static: {host: 127.0.0.1, port: PORT}}]}
---
apiVersion: agentgateway.dev/v1alpha1
kind: AgentgatewayPolicy
metadata: {name: keys}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: gateway}]
  traffic:
    apiKeyAuthentication: {secretRef: {name: keys}}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {alice: KEY}
"""


class Upstream(BaseHTTPRequestHandler):
    """An MCP server of 2025-11-25 with one session, and a web server with a page that takes its time."""

    protocol_version = "HTTP/1.1"
    slow = threading.Event()

    def do_GET(self) -> None:
        if self.path == "/slow":
            self.slow.set()
            threading.Event().wait(0.5)
        try:
            self.answer(200, {})
        except OSError:
            pass  # the worker was killed

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if message["method"] == "initialize":
            result: dict[str, Any] = {
                "protocolVersion": "2025-11-25",
                "capabilities": {},
                "serverInfo": {"name": "u", "version": "1"},
            }
        else:
            result = {"tools": []}
        known = message["method"] == "initialize" or self.headers["mcp-session-id"] == "the-only-one"
        self.answer(200 if known else 404, {"jsonrpc": "2.0", "id": message["id"], "result": result})

    def answer(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.send_header("mcp-session-id", "the-only-one")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def upstream() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Ports:
    def __init__(self, line: str) -> None:
        self.gateway, *others = map(int, re.findall(r"http://127\.0\.0\.1:(\d+)", line))
        self.metrics, self.probes = others if others else (0, 0)


@contextmanager
def serving(*arguments: str) -> Iterator[tuple[Process, Ports]]:
    with running("serve", "--port", "0", "--workers", "2", *arguments) as process:
        while not (line := process.error_line()).startswith("listening on "):
            pass
        yield process, Ports(line)


@pytest.fixture
def documents(tmp_path: Path) -> Iterator[tuple[str, ...]]:
    """What to serve: an MCP server and a web server for alice."""
    with upstream() as port:
        path = tmp_path / "gateway.yaml"
        path.write_text(DOCUMENTS.replace("PORT", str(port)).replace("KEY", KEY))
        yield str(path), "--backend", f"default/web:8000=http://127.0.0.1:{port}"


def workers(process: Process) -> list[int]:
    pid = process.popen.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def get(port: int, path: str = "/", key: str = KEY) -> tuple[int, str]:
    """Over a connection of its own."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    client.request("GET", path, headers={"authorization": f"Bearer {key}", "connection": "close"})
    answer = client.getresponse()
    body = answer.read().decode()
    client.close()
    return answer.status, body


def rpc(method: str, session: str | None = None) -> bytes:
    """A request of MCP 2025-11-25."""
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params if session is None else {}})
    headers = [
        *("POST /mcp HTTP/1.1", "host: localhost", f"authorization: Bearer {KEY}", f"content-length: {len(body)}"),
        *("content-type: application/json", "accept: application/json, text/event-stream"),
        *([] if session is None else [f"mcp-session-id: {session}", "mcp-protocol-version: 2025-11-25"]),
    ]
    return "\r\n".join([*headers, "", body]).encode()


def answer_of(pid: int, others: Sequence[int], port: int, request: bytes) -> str:
    """What one worker answers: the others stand still meanwhile, and which connections are whose, nobody knows."""
    for other in others:
        os.kill(other, signal.SIGSTOP)
    clients = [socket.create_connection(("127.0.0.1", port), SECONDS) for _ in range(20)]
    try:
        for client in clients:
            client.sendall(request)
        ready, _, _ = select.select(clients, [], [], SECONDS)
        assert ready, f"worker {pid} does not answer"
        answer: bytes = ready[0].recv(65536)
        return answer.decode()
    finally:
        for client in clients:
            client.close()
        for other in others:
            os.kill(other, signal.SIGCONT)


def test_a_session_that_one_worker_has_opened_is_known_to_all(documents: tuple[str, ...]) -> None:
    """Each worker answers by itself, and none of them keeps anything of a session."""
    with serving(*documents) as (process, ports):
        first, second = workers(process)
        opened = answer_of(first, [second], ports.gateway, rpc("initialize"))
        found = re.search(r"mcp-session-id: (\S+)", opened)
        assert found is not None, opened
        assert found[1] != "the-only-one"
        for pid, other in ((first, second), (second, first)):
            assert " 200 " in answer_of(pid, [other], ports.gateway, rpc("tools/list", found[1])).splitlines()[0]
            assert " 404 " in answer_of(pid, [other], ports.gateway, rpc("tools/list", "x" + found[1])).splitlines()[0]
        assert process.end(signal.SIGTERM)[0] == 0


def test_replicas_with_one_key_share_sessions(documents: tuple[str, ...], tmp_path: Path) -> None:
    """Each replica is a process of its own, with its own start."""
    secret = tmp_path / "session-key"
    secret.write_text(new_key() + "\n")

    def status(ports: Ports, session: str) -> str:
        with socket.create_connection(("127.0.0.1", ports.gateway), SECONDS) as client:
            client.sendall(rpc("tools/list", session))
            return client.recv(65536).decode().splitlines()[0]

    with (
        running("serve", "--port", "0", *documents, "--session-key-file", str(secret)) as one,
        running("serve", "--port", "0", *documents, "--session-key-file", str(secret)) as other,
        running("serve", "--port", "0", *documents) as stranger,
    ):
        ports = [Ports(process.error_line()) for process in (one, other, stranger)]
        with socket.create_connection(("127.0.0.1", ports[0].gateway), SECONDS) as client:
            client.sendall(rpc("initialize"))
            found = re.search(r"mcp-session-id: (\S+)", client.recv(65536).decode())
        assert found is not None
        assert [status(each, found[1]).split()[1] for each in ports] == ["200", "200", "404"]
        for process in (one, other, stranger):
            assert process.end()[0] == 0


def test_one_gateway_whatever_becomes_of_a_worker(documents: tuple[str, ...]) -> None:
    """One is killed: no connection is refused or lost, another one takes its place, metrics go on as one sum, lines of
    the log are whole, and the end waits for what is under way."""
    arguments = (*documents, "--metrics-port", "0", "--probe-port", "0", "--grace", "5")
    with serving(*arguments) as (process, ports):
        first, second = workers(process)
        assert get(ports.probes, "/readyz") == (200, "ok")
        long = "/" + "x" * 900
        for _ in range(40):
            assert get(ports.gateway, long)[0] == 200
        # Killed with a request under way, which the gauge must not have for ever.
        with socket.create_connection(("127.0.0.1", ports.gateway), SECONDS) as client:
            client.sendall(f"GET /slow HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\n\r\n".encode())
            assert Upstream.slow.wait(SECONDS)
            os.kill(first, signal.SIGKILL)
            os.kill(second, signal.SIGKILL)
        for _ in range(40):
            assert get(ports.gateway, f"{long}y")[0] == 200
        assert {process.error_line() for _ in range(2)} == {
            f"agentgate: WARNING: worker {number} was ended by SIGKILL; another one takes its place"
            for number in (1, 2)
        }
        assert not {first, second} & {*workers(process)}
        assert get(ports.gateway, key="wrong" * 8)[0] == 401

        def metrics() -> str:
            return get(ports.metrics, "/metrics")[1]

        total = r'http_server_request_duration_seconds_count\{.*status_code="200",http_route="default/web".*\} 80\.0\n'
        wait_for(lambda: re.search(total, metrics()) is not None)
        assert re.search(r"http_server_active_requests\{.*\} 0\.0\n", metrics())

        Upstream.slow.clear()
        with socket.create_connection(("127.0.0.1", ports.gateway), SECONDS) as client:
            client.sendall(f"GET /slow HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\n\r\n".encode())
            assert Upstream.slow.wait(SECONDS)
            # As systemd does it: to every process, and so to the workers twice.
            for pid in [*workers(process), process.popen.pid]:
                os.kill(pid, signal.SIGTERM)
            assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        code, log, rest = process.wait()
    assert (code, rest) == (0, "")
    rest_of = r'(?: principal=alice| detail="unknown key")?'
    whole = re.compile(rf"\S+Z\tinfo\trequest route=\S+ [^\t]* duration=\d+ms{rest_of}").fullmatch
    assert [line for line in log if not whole(line)] == []
    assert len([line for line in log if f"{long}y " in line and "http.status=200" in line]) == 40
    with pytest.raises(ConnectionRefusedError):
        get(ports.gateway)


def test_workers_do_not_outlive_who_looks_after_them() -> None:
    with serving(*TUTORIAL, *BACKEND) as (process, ports):
        pids = workers(process)
        assert len(pids) == 2
        process.popen.kill()
        wait_for(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() for pid in pids))
        with pytest.raises(ConnectionRefusedError):
            get(ports.gateway)


# -- the supervisor by itself ------------------------------------------------------------------------------------------

SUPERVISED = """
import os, signal, sys, time
from agentgate.cli.workers import Supervisor

def work(number, line):
{work}

supervisor = Supervisor(
    [[], []], work, up=lambda: print("up", flush=True), died=lambda number: None,
    warn=lambda text: print(text, flush=True), drain=0, grace=0,
)
sys.exit(supervisor.run())
"""


def supervised(work: str) -> "subprocess.Popen[str]":
    code = SUPERVISED.format(work="\n".join(f"    {line}" for line in work.splitlines()))
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_worker_that_cannot_start_ends_all() -> None:
    process = supervised("""
if number == 2:
    raise RuntimeError("no")
line.setblocking(True)
line.recv(1)
""")
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert out == "worker 2 could not start: it ended with exit code 1\n"
    assert "RuntimeError: no" in err


def test_a_worker_that_always_ends_is_started_again_later_and_later() -> None:
    """And one that does not end is killed, when it has had its time."""
    process = supervised("""
line.send(b".")
if number == 2:
    time.sleep(0.05)
    os._exit(3)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(60)
""")
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(4)]
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=SECONDS)
    again = "worker 2 ended with exit code 3; another one takes its place\n"
    assert sorted(lines) == ["up\n", again, again, again]
    assert (process.returncode, err) == (1, "")


def test_lines_of_several_processes_stay_whole() -> None:
    """Longer than a pipe takes at once, and read slowly."""
    code = """
import os, sys
from agentgate.cli.shared import WholeLines

lines = WholeLines(sys.stdout)
letter = "b" if os.fork() else "a"
for _ in range(30):
    lines.write((letter * 30_000 + "\\n") * 3)
if letter == "b":
    os.wait()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=SECONDS, check=True)
    assert sorted(done.stdout.splitlines()) == ["a" * 30_000] * 90 + ["b" * 30_000] * 90


# -- what does not go with several -------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", ["0", "-1", "x", "257", ""])
def test_how_many(number: str) -> None:
    code, _, err = finished("serve", *TUTORIAL, "--workers", number)
    assert code == 2
    assert f"{number!r} is no number between 1 and 256" in err


def test_a_session_key_is_long_enough(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("short")
    options = (*TUTORIAL, *BACKEND, "--session-key-file")
    code, _, err = finished("serve", *options, str(path))
    assert (code, err) == (2, f"--session-key-file: {path}: at least 32 random characters\n")
    code, _, err = finished("serve", *options, "/none")
    assert (code, err) == (2, "/none: cannot read the secret (FileNotFoundError)\n")


def gateway(**route: Any) -> Gateway:
    return create_gateway(Route("/", HTTPBackend("http://127.0.0.1:1"), **route))


def test_a_limit_that_each_worker_would_count_for_itself_is_a_fault(capsys: pytest.CaptureFixture[str]) -> None:
    limited = gateway(authorize=[RateLimit(requests=5, per="minute", name="infra/limits[0]")])
    with pytest.raises(ConfigurationError) as caught:
        _check_workers(limited, 2)
    assert list(caught.value.faults) == [
        "--workers: infra/limits[0]: each of the 2 workers would let as many through: one worker, or a limit counted in"
        " Redis"
    ]
    assert capsys.readouterr().err == ""


def test_sessions_that_one_worker_alone_knows_are_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    backend = MCPBackend({"a": "http://127.0.0.1:1/mcp", "b": "http://127.0.0.1:2/mcp"})
    alone = MCPBackend("http://127.0.0.1:1/mcp")
    app = create_gateway(
        Route("/mcp", backend, name="tools"), Route("/one", alone, name="one"), observe=[AccessLog(lambda line: None)]
    )
    _check_workers(app, 2)
    assert capsys.readouterr().err == (
        "agentgate: WARNING: --workers: route tools: several MCP servers as one: a session of a client of up to"
        " 2025-11-25 is known to one worker alone, and not found by the others\n"
    )


def test_a_port_that_somebody_has_is_not_shared_with_them() -> None:
    """Not even with another gateway of several workers."""
    groups = listen_each(["127.0.0.1"], 0, 2)
    port = groups[0][0].getsockname()[1]
    try:
        assert {opened.getsockname()[1] for group in groups for opened in group} == {port}
        for count in (1, 2):
            with pytest.raises(CannotListen, match="the port is in use"):
                listen_each(["127.0.0.1"], port, count)
    finally:
        close(groups)
    close([listen(["127.0.0.1"], port)])


def test_elsewhere_than_on_linux_they_share_one_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    groups = listen_each(["127.0.0.1"], 0, 2)
    monkeypatch.undo()
    (first,), (second,) = groups
    try:
        assert first.getsockname() == second.getsockname()
        with socket.create_connection(first.getsockname(), SECONDS):
            first.close()
            second.setblocking(True)
            second.accept()[0].close()
    finally:
        close(groups)
