"""The command line itself: keys, usage, faults. What serves is tested in processes of its own."""

import io
import os
import sys
from pathlib import Path

import pytest

from agentgate import __version__
from agentgate.auth.key_files import FileKeys
from agentgate.auth.keys import hash_key, new_key
from agentgate.cli import main


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"agentgate {__version__}\n"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "dance",
        "serve",
        "keys",
        "demo --port x",
        "demo --port 65536",
        "demo --port -1",
        "demo --log-format xml",
        "demo --host 0.0.0.0",
        "keys hash secret",
        "serve a.yaml --log json",
    ],
)
def test_usage(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(line.split())
    assert caught.value.code == 2
    assert "usage: agentgate" in capsys.readouterr().err


@pytest.mark.parametrize("id", [None, "alice", "a: b", "no", "42", 'say "hi"', "zoë"])
def test_a_new_key_is_shown_once_and_its_entry_lets_it_in(
    id: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["keys", "new", *([] if id is None else ["--id", id])]) == 0
    out, err = capsys.readouterr()
    key = err.splitlines()[1]
    assert key.startswith("agk_")
    assert (out + err).count(key) == 1
    assert key not in out
    path = tmp_path / "keys.yaml"
    path.write_text("keys:\n" + out, "utf-8")
    found = FileKeys(path).find(bytes.fromhex(hash_key(key).removeprefix("sha256:")))
    assert found is not None
    assert id is None or found.id == id


@pytest.mark.parametrize("id", ["", "a\nb"])
def test_an_id_that_is_none(id: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "new", "--id", id]) == 2
    assert capsys.readouterr() == ("", "an id is printable text\n")


class Typed(io.TextIOWrapper):
    """Standard input from a pipe."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_hash(end: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    key = new_key()
    monkeypatch.setattr(sys, "stdin", Typed((key + end).encode()))
    assert main(["keys", "hash"]) == 0
    assert capsys.readouterr() == (hash_key(key) + "\n", "")


def test_the_hash_of_a_weak_key_comes_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Typed(b"hunter2\n"))
    assert main(["keys", "hash"]) == 0
    out, err = capsys.readouterr()
    assert out == hash_key("hunter2") + "\n"
    assert err.startswith("agentgate: WARNING: 7 characters of this kind are too easy to guess;")
    assert "hunter2" not in err


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "empty value"),
        (b"two words", "a key is visible ASCII characters without blanks"),
        (b"one\ntwo\n", "a key is visible ASCII characters without blanks"),
        (b"\xff", "a key is visible ASCII characters without blanks"),
        (b"x" * 5000, "a key has at most 4096 characters"),
        (hash_key(new_key()).encode(), "this is a hash already"),
    ],
)
def test_what_is_no_key_has_no_hash(
    data: bytes, fault: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Typed(data))
    assert main(["keys", "hash"]) == 2
    assert capsys.readouterr() == ("", fault + "\n")


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no pseudo-terminals here")
def test_a_terminal_does_not_show_the_key() -> None:
    import pty
    import subprocess

    key = new_key()
    master, slave = pty.openpty()
    command = [sys.executable, "-c", "import sys; from agentgate.cli import main; sys.exit(main())", "keys", "hash"]
    # A session of its own, so that there is no other terminal to read from.
    with subprocess.Popen(
        command, stdin=slave, stdout=subprocess.PIPE, stderr=slave, start_new_session=True
    ) as process:
        shown = b""
        while b"key: " not in shown:
            shown += os.read(master, 1024)
        os.write(master, f"{key}\n".encode())
        out, _ = process.communicate(timeout=30)
        shown += os.read(master, 1024)
    os.close(slave)
    os.close(master)
    assert out.decode() == hash_key(key) + "\n"
    assert key.encode() not in shown


@pytest.mark.parametrize("command", [["demo"], ["serve", "x.yaml"]])
@pytest.mark.parametrize("module", ["pydantic", "uvicorn", "yaml"])
def test_without_the_extra_it_says_what_to_install(
    command: list[str], module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert main(command) == 2
    assert capsys.readouterr() == ("", f"agentgate: {module} not installed: pip install 'agentgate-asgi[cli]'\n")


def test_faults_are_told_without_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("kind: Deployment\n")
    assert main(["serve", str(path), str(tmp_path / "b.yaml")]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"{path}: document 1: kind: Deployment is not supported by this version:"
        " HTTPRoute, Secret, ConfigMap, AgentgatewayPolicy,"
        " AgentgatewayBackend, Gateway, ReferenceGrant, Namespace, Service",
        f"{tmp_path}/b.yaml: cannot read (FileNotFoundError)",
    ]


def test_backend_options(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--backend", "a/b:1", "--backend", "c/d:2=http://x", "--backend", "c/d:2=http://y"]
    assert main(["serve", "x.yaml", *options]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "--backend a/b:1: it is NAMESPACE/NAME:PORT=URL",
        "--backend c/d:2: given twice",
    ]


def test_a_host_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "x.yaml", "--host", "no such host"]) == 1
    assert capsys.readouterr().err == "agentgate: cannot listen on no such host: no such host\n"


def test_the_listeners_of_one_port_are_meant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    documents = """\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec: {gatewayClassName: a, listeners: [{name: a, port: 80, protocol: HTTP}, {name: b, port: 81, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web}
spec: {parentRefs: [{name: gw}], rules: [{backendRefs: [{kind: Door, name: web}]}]}
"""
    path = tmp_path / "a.yaml"
    path.write_text(documents)
    assert main(["check", str(path)]) == 2
    assert "say which one this is with --listener-port PORT" in capsys.readouterr().err
    assert main(["check", str(path), "--listener-port", "81"]) == 0
    out, err = capsys.readouterr()
    assert out == "ok\n"
    assert "nobody knows the kind Door: its requests get 500" in err
    assert main(["explain", str(path), "--listener-port", "81"]) == 1
    assert "denied: 500 backend does not exist" in capsys.readouterr().out
