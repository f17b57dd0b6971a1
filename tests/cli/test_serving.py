"""`agentgate demo` and `agentgate serve` as processes, asked over HTTP."""

import base64
import json
import re
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from agentgate.auth.keys import new_key
from agentgate.cli.demo import KEY

from .processes import SECONDS, Process, finished, port_of, running, serving

TUTORIAL = sorted(str(path) for path in (Path(__file__).parents[2] / "docs" / "tutorial").glob("*.yaml"))
MISSING = "api key authentication failure: no API Key found"


@contextmanager
def demo(*arguments: str) -> Iterator[tuple[Process, list[str]]]:
    """The demo on any free port, and its three hints."""
    with running("demo", "--port", "0", *arguments) as process:
        yield process, [process.error_line() for _ in range(3)]


def get(port: int, key: str | None = None, path: str = "/headers") -> httpx.Response:
    headers = {"host": "www.example.com"} | ({} if key is None else {"authorization": f"Bearer {key}"})
    return httpx.get(f"http://127.0.0.1:{port}{path}", headers=headers, timeout=SECONDS)


def test_the_demo_tells_the_story_of_the_tutorial() -> None:
    with demo() as (process, hints):
        port = port_of(hints[0])
        refused, passed = get(port), get(port, KEY)
        code, log, rest = process.end()
    assert hints[:2] == [
        f'curl -i localhost:{port}/headers -H "host: www.example.com"',
        f'curl -i localhost:{port}/headers -H "host: www.example.com" -H "Authorization: Bearer {KEY}"',
    ]
    assert (refused.status_code, refused.text) == (401, MISSING)
    assert passed.status_code == 200
    assert "Authorization" not in passed.json()["headers"]
    assert passed.json()["headers"]["Host"] == "www.example.com"
    assert "server" not in passed.headers
    assert (code, rest) == (0, "")
    assert len(log) == 2
    story = "http.method=GET http.host=www.example.com http.path=/headers http.version=HTTP/1.1"
    assert re.search(
        rf"\trequest route=httpbin/httpbin src.addr=127.0.0.1:\d+ {story} http.status=401 protocol=http"
        rf' error="{MISSING}" reason=APIKeyAuth duration=\d+ms$',
        log[0],
    )
    assert re.search(
        rf"\trequest route=httpbin/httpbin endpoint=127.0.0.1:\d+ src.addr=127.0.0.1:\d+ {story} http.status=200"
        r" protocol=http duration=\d+ms principal=api-key$",
        log[1],
    )
    assert KEY not in "".join(log)


def test_the_demo_has_a_route_for_tokens() -> None:
    with demo() as (process, hints), demo() as (_, others):
        port, token, foreign = port_of(hints[2]), token_of(hints[2]), token_of(others[2])

        def ask(credential: str | None) -> httpx.Response:
            headers = {"host": "jwt.example.com", "x-agent-subject": "root"}
            headers |= {} if credential is None else {"authorization": f"Bearer {credential}"}
            return httpx.get(f"http://127.0.0.1:{port}/headers", headers=headers, timeout=SECONDS)

        refused, passed, keyed, strange = ask(None), ask(token), ask(KEY), ask(foreign)
        tokens_elsewhere = get(port, token)
        _, log, rest = process.end()
    assert (refused.status_code, refused.text) == (401, "authentication failure: no bearer token found")
    assert passed.status_code == 200
    assert passed.json()["headers"]["X-Agent-Subject"] == "demo"
    assert "Authorization" not in passed.json()["headers"]
    assert (keyed.status_code, strange.status_code, tokens_elsewhere.status_code) == (401, 401, 401)
    assert re.search(
        r" route=httpbin/jwt endpoint=\S+ .* http.status=200 jwt.sub=demo protocol=http duration=\d+ms principal=demo$",
        log[1],
    )
    assert rest == ""
    assert token not in "".join(log)
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    assert claims["exp"] - claims["iat"] == 3600


def token_of(hint: str) -> str:
    return hint.rpartition("Bearer ")[2].rstrip('"')


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_hints_of_the_demo_can_be_typed() -> None:
    with demo() as (_, hints):
        answers = [
            subprocess.run(shlex.split(hint), capture_output=True, text=True, timeout=SECONDS, check=True).stdout
            for hint in hints
        ]
    assert answers[0].startswith("HTTP/1.1 401 ")
    assert answers[0].endswith(MISSING)
    assert answers[1].startswith("HTTP/1.1 200 ")
    assert answers[2].startswith("HTTP/1.1 200 ")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_demo_has_tools_a_model_and_an_agent() -> None:
    """Typed line by line into one shell: what the reader and the admin are answered, and what the log says of it."""
    with demo() as (process, _):
        lines = [process.error_line() for _ in range(12)]
        script = "\n".join(line.replace("curl -i", "curl -s") + ("; echo" if "curl" in line else "") for line in lines)
        shell = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=SECONDS, check=True)
        _, log, rest = process.end()
    tools, hidden, called, small, large, card, said = map(json.loads, shell.stdout.split("\n")[:-1])
    assert [tool["name"] for tool in tools["result"]["tools"]] == ["get_weather", "get_user"]
    assert hidden["error"]["message"] == "Unknown tool: drop_table"
    assert called["result"]["content"][0]["text"] == "drop_table was called"
    assert small["choices"][0]["message"]["content"] == "You said: hello"
    assert large["error"]["message"] == "authorization failed"
    assert card["supportedInterfaces"][0]["url"].endswith("/echo")
    assert said["result"]["message"]["parts"] == [{"text": "hello"}]
    assert [re.findall(r"(?:protocol|http.status|reason|principal)=(\S+)", line) for line in log] == [
        ["200", "mcp", "reader"],
        ["200", "mcp", "MCP", "reader"],
        ["200", "mcp", "admin"],
        ["200", "llm", "reader"],
        ["403", "llm", "Authorization", "reader"],
        ["200", "a2a", "reader"],
        ["200", "a2a", "admin"],
    ]
    assert "gen_ai.tool.name=drop_table" in log[1]
    assert rest == ""
    keys = [line.partition("=")[2] for line in lines if line.startswith(("READER=", "ADMIN="))]
    assert len(keys) == 2
    assert not any(key in "".join(log) for key in keys)


def test_the_log_of_the_demo_as_json() -> None:
    with demo("--log-format", "json") as (process, hints):
        get(port_of(hints[0]))
        _, log, _ = process.end(signal.SIGTERM)
    line = json.loads(log[0])
    assert (line["http.status"], line["error"], line["reason"]) == (401, MISSING, "APIKeyAuth")


def test_a_second_signal_does_not_wait_for_requests_under_way() -> None:
    with demo() as (process, hints), socket.create_connection(("127.0.0.1", port_of(hints[0])), SECONDS) as client:
        client.sendall(
            f"GET /delay/10 HTTP/1.1\r\nhost: www.example.com\r\nauthorization: Bearer {KEY}\r\n\r\n".encode()
        )
        get(port_of(hints[0]))  # so that the first request has been read
        process.popen.send_signal(signal.SIGINT)
        process.popen.send_signal(signal.SIGINT)
        code, log, _ = process.end()
    assert code == 0
    assert "http.status=401" in log[0]


def test_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        expected = f"agentgate: cannot listen on 127.0.0.1:{port}: the port is in use\n"
        assert finished("demo", "--port", port) == (1, [], expected)
        code, _, err = finished(
            "serve", *TUTORIAL, "--port", port, "--backend", "httpbin/httpbin:8000=http://127.0.0.1:1"
        )
    assert code == 1
    assert err.endswith(expected)


def test_serve_runs_the_documents_of_the_tutorial() -> None:
    with (
        demo() as (_, hints),
        # The demo's gateway has a route for the same host: it makes a good upstream.
        serving(TUTORIAL, "--backend", f"httpbin/httpbin:8000=http://127.0.0.1:{port_of(hints[0])}") as started,
    ):
        process, port, said = started
        answers = [get(port), get(port, new_key()), get(port, KEY)]
        stranger = httpx.get(f"http://127.0.0.1:{port}/headers", timeout=SECONDS)
        code, log, rest = process.end()
    assert [answer.status_code for answer in answers[:2]] == [401, 401]
    assert answers[1].text == "api key authentication failure: invalid credentials"
    assert (answers[2].status_code, answers[2].text) == (401, MISSING)  # the upstream's: the key stopped here
    assert (stranger.status_code, stranger.text) == (404, "route not found")
    assert (code, rest) == (0, "")
    assert ["http.status=401" in line for line in log] == [True, True, True, False]
    assert "principal=api-key" in log[2]
    assert said == [
        f"agentgate: WARNING: {TUTORIAL[2]}: document 1 (Secret agentgateway-system/apikey): stringData.api-key:"
        " this key is published in documentation"
    ]


BACKEND = ("--backend", "httpbin/httpbin:8000=http://127.0.0.1:1")


def test_metrics_are_on_a_port_of_their_own() -> None:
    with running("serve", *TUTORIAL, "--port", "0", "--metrics-port", "0", *BACKEND) as process:
        while not (line := process.error_line()).startswith("listening on "):
            pass
        found = re.fullmatch(
            r"listening on http://127\.0\.0\.1:(\d+); metrics on (http://127\.0\.0\.1:(\d+)/metrics)", line
        )
        assert found is not None, line
        assert found[1] != found[3]
        assert get(int(found[1])).status_code == 401
        assert get(int(found[1]), path="/metrics").status_code == 401  # on the gateway's port, it is the upstream's
        read = httpx.get(found[2], timeout=SECONDS)
        assert (read.status_code, read.headers["content-type"].partition(";")[0]) == (200, "text/plain")
        assert httpx.get(f"http://127.0.0.1:{found[3]}/", timeout=SECONDS).status_code == 404
        assert process.end()[0] == 0
    counted = [line for line in read.text.splitlines() if line.startswith("http_server_request_duration_seconds_count")]
    assert len(counted) == 1
    assert 'http_route="httpbin/httpbin"' in counted[0]
    assert 'http_response_status_code="401"' in counted[0]
    assert counted[0].endswith(" 2.0")


def test_a_metrics_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, _, err = finished("serve", *TUTORIAL, "--port", "0", "--metrics-port", port, *BACKEND)
    assert code == 1
    assert err.endswith(f"agentgate: cannot listen on 127.0.0.1:{port}: the port is in use\n")


def test_weak_keys_are_for_this_machine_alone() -> None:
    code, out, err = finished("serve", *TUTORIAL, *BACKEND, "--host", "0.0.0.0", "--port", "0")
    assert (code, out) == (2, [])
    assert err.endswith("make one with `agentgate keys new`, or let it in with --allow-weak-keys\n")
    assert len(err.splitlines()) == 1
    with running("serve", *TUTORIAL, *BACKEND, "--host", "0.0.0.0", "--port", "0", "--allow-weak-keys") as process:
        assert process.error_line().startswith("agentgate: WARNING: ")
        assert process.error_line().startswith("listening on http://0.0.0.0:")
        assert process.end()[0] == 0


def test_the_log_may_be_a_file_that_is_rotated(tmp_path: Path) -> None:
    """No line is lost when it is moved away; with --log-replay, each says what a policy needs to decide again."""
    path = tmp_path / "access.log"
    options = ("--log-file", str(path), "--log-format", "json", "--log-replay")
    with serving(TUTORIAL, *BACKEND, *options) as (process, port, _):
        get(port)
        for _ in range(2):  # the line is written soon after the answer
            wait_for(lambda: path.exists() and path.read_text().endswith("}\n"))
            path.rename(tmp_path / "access.log.1")
            get(port)
        code, log, rest = process.end()
    assert (code, log, rest) == (0, [], "")
    (line,) = path.read_text().splitlines()
    assert json.loads(line)["replay"]["decision"]["reason"] == "APIKeyAuth"


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["--log-replay"], "--log-replay: it needs --log-format json\n"),
        (["--log-file", "/none/access.log"], "access log: cannot write /none/access.log (FileNotFoundError)\n"),
    ],
)
def test_a_log_that_cannot_be_is_a_fault(options: list[str], fault: str) -> None:
    assert finished("serve", *TUTORIAL, *BACKEND, "--port", "0", *options) == (2, [], fault)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_name_may_mean_several_addresses() -> None:
    with serving(TUTORIAL, *BACKEND, "--host", "localhost") as (process, port, _):
        assert httpx.get(f"http://localhost:{port}", timeout=SECONDS).status_code == 404
        assert process.end()[0] == 0


def test_with_a_fault_nothing_is_started(tmp_path: Path) -> None:
    broken = tmp_path / "policy.yaml"
    broken.write_text(Path(TUTORIAL[1]).read_text().replace("mode: Strict", "mode: strict"))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with running("serve", TUTORIAL[0], str(broken), TUTORIAL[2], *BACKEND, "--port", str(port)) as process:
        code, out, err = process.wait()
    assert (code, out) == (2, [])
    assert err.splitlines()[1:] == [
        f"{broken}: document 1 (AgentgatewayPolicy agentgateway-system/apikey-auth):"
        " spec.traffic.apiKeyAuthentication.mode: Input should be 'Strict', 'Optional' or 'Permissive'"
    ]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_a_service_that_is_not_known_here() -> None:
    code, out, err = finished("serve", *TUTORIAL, "--port", "0")
    assert (code, out) == (2, [])
    assert err.splitlines()[1:] == [
        f"{TUTORIAL[0]}: document 1 (HTTPRoute httpbin/httpbin): spec.rules[0].backendRefs[0]: Service"
        " httpbin/httpbin:8000 does not resolve here; say where it lives:"
        " --backend httpbin/httpbin:8000=http://HOST:PORT"
    ]
