"""The documents keep their word: every block of code and every example runs, every signature and list shown is the
code's own, every link leads somewhere.

How blocks are read:

- a `python` block is executed; the blocks of one page share a namespace. One that begins with `# name.py` is also
  written to that file, as a `yaml` block that begins with `# name.yaml` is;
- a `python signature` block is compared with `inspect.signature`;
- the `sh` blocks of a page are typed into a shell, one page one session; a `text` block behind one is its output, or
  its server's: each line must be there, apart from addresses, times and keys.
"""

import ast
import dataclasses
import inspect
import json
import os
import re
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, get_args

import pytest
import yaml

import agentgate
import agentgate.manifests
import agentgate.testing
from agentgate import Edge, Principal, Reason, Record, Request, deny
from agentgate.context import READERS
from agentgate.observe import semconv
from agentgate.observe.fields import DETAILS, fields
from agentgate.observe.redaction import HARMLESS_HEADERS
from agentgate.observe.replay_fields import replay_fields
from agentgate.observe.variables import OF_RECORDS
from agentgate.protocols.llm.apis import Dialect
from agentgate.protocols.llm.errors import said
from agentgate.proxy.endpoint import DEFAULT_HEALTH
from agentgate.proxy.mcp import MCP_TIMEOUTS
from agentgate.proxy.provider import PASSED
from agentgate.proxy.timeouts import DEFAULT_TIMEOUTS
from agentgate.request import routed

ROOT: Final = Path(__file__).parents[1]
DOCS: Final = ROOT / "docs"
REFERENCE: Final = sorted((DOCS / "reference").glob("*.md"))
PAGES: Final = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
EXAMPLES: Final = sorted((ROOT / "examples").glob("*.py"))
SECONDS: Final = 15.0  # for a command to end, or a server to listen; no test waits so long that passes

KEYS_YAML: Final = f"""\
keys:
- id: alice
  keyHash: {agentgate.hash_key(agentgate.new_key())}
  metadata: {{group: eng}}
"""


class Block(NamedTuple):
    """A fenced block: where it stands, its info string, its text."""

    page: Path
    line: int
    info: str
    text: str

    @property
    def file(self) -> str | None:
        """The name of the file that it is to be saved as."""
        found = re.match(r"# ([\w.-]+\.(?:py|ya?ml))\n", self.text)
        return found[1] if found else None


def blocks(page: Path) -> list[Block]:
    text = page.read_text("utf-8")
    return [
        Block(page, text.count("\n", 0, match.start()) + 1, match[1], match[2])
        for match in re.finditer(r"^```(.*)\n((?s:.*?))^```$", text, re.MULTILINE)
    ]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def pages_with(info: str) -> list[Path]:
    return [page for page in PAGES if any(block.info == info for block in blocks(page))]


every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to work in, but for the keys that pages speak of."""
    (tmp_path / "keys.yaml").write_text(KEYS_YAML)
    secret = tmp_path / "secrets" / "apikey"
    secret.mkdir(parents=True)
    (secret / "alice").write_text(agentgate.new_key() + "\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AGENT_KEY", agentgate.new_key())
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    monkeypatch.syspath_prepend(tmp_path)
    modules = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - modules:
        if (tmp_path / f"{name}.py").exists():
            del sys.modules[name]  # another page may have a file of this name


# -- what can be run -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", pages_with("python"), ids=name_of)
def test_python_blocks_run(page: Path, folder: Path) -> None:
    namespace: dict[str, Any] = {"__name__": "page"}
    for block in blocks(page):
        if block.file is not None:
            (folder / block.file).write_text(block.text)
        if block.info == "python":
            code = compile("\n" * block.line + block.text, str(page), "exec")
            exec(code, namespace)  # that is the point


@pytest.mark.parametrize("page", [page for page in pages_with("sh") if page.parent != ROOT], ids=name_of)
def test_shell_blocks_do_what_the_page_says(page: Path, folder: Path) -> None:
    files = [*(DOCS / "tutorial").glob("*.yaml"), *page.with_suffix("").glob("*.yaml")]
    found = blocks(page)
    commands = "".join(block.text for block in found if block.info == "sh")
    for tool in ("curl", "jq"):
        if re.search(rf"^{tool} ", commands, re.MULTILINE) and shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    if re.search(r"^agentgate audit ", commands, re.MULTILINE):
        a_day = runpy.run_path(str(ROOT / "tests" / "audit" / "day.py"))["day"]
        (folder / "access.log").write_text("".join(line + "\n" for line in a_day(20_000)))
    with Shell(folder) as shell:
        for file in files:
            (folder / file.name).write_text(shell.local(file.read_text("utf-8")))
        for block, following in zip(found, [*found[1:], None], strict=True):
            if block.file is not None:
                (folder / block.file).write_text(shell.local(block.text))
            if block.info == "sh":
                shell.type(block)
                if following is not None and following.info == "text":
                    shell.expect(following)


class Shell:
    """Types commands as a reader would: a server runs until another one wants its port."""

    SERVERS = re.compile(r"(?:agentgate (?:demo|serve)|uvicorn)\b")
    SKIPPED = re.compile(r"pip |export |python (?:tests/bench/|-m tests\.(?:bench|soak))")  # done, or too long

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {port: free_port() for port in ("8080", "9000", "9001", "9002")}
        self.servers: dict[int, subprocess.Popen[str]] = {}
        self.typed, self.served = folder / "typed.out", folder / "served.out"  # what commands and servers say
        # What runs here is the code beside this file, with the commands of the Python that runs this.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self.env = {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}

    def __enter__(self) -> "Shell":
        return self

    def __exit__(self, *_: object) -> None:
        for port in list(self.servers):
            self.stop(port)

    def local(self, text: str) -> str:
        for written, port in self.ports.items():
            text = text.replace(written, str(port))
        return text

    @property
    def output(self) -> str:
        return "\n".join(file.read_text("utf-8") for file in (self.typed, self.served))

    def type(self, block: Block) -> None:
        self.typed.write_text("")
        self.served.write_text("")
        script: list[str] = []
        for command in block.text.replace("\\\n", " ").splitlines():
            if self.SERVERS.match(command):
                self.serve(command.removesuffix(" &"))
            elif not self.SKIPPED.match(command):
                script.append(self.local(command))
        with self.typed.open("a") as output:
            done = subprocess.run(
                ["/bin/sh", "-e"], input="\n".join(script), cwd=self.folder, env=self.env, text=True, timeout=SECONDS,
                stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
        assert done.returncode == 0, f"{block.page}:{block.line}\n{self.output}"

    def serve(self, command: str) -> None:
        """Start a server and wait until it listens or has ended."""
        written = re.search(r"--port (\d+)", command)
        port = self.ports[written[1] if written else "8080"]
        command = self.local(command)
        if written is None:
            command += f" --port {port}"
        self.stop(port)
        with self.served.open("a") as output:
            server = self.servers[port] = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {command}"], cwd=self.folder, env=self.env, text=True,
                stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
        give_up = time.monotonic() + SECONDS
        while server.poll() is None and not listening(port):
            assert time.monotonic() < give_up, f"{command} does not listen\n{self.output}"
            time.sleep(0.02)
        if server.poll() is not None:
            with self.served.open("a") as output:
                output.write(f"exit {server.returncode}\n")

    def stop(self, port: int) -> None:
        server = self.servers.pop(port, None)
        if server is not None and server.poll() is None:
            server.send_signal(signal.SIGINT)
            try:
                server.wait(SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
                raise

    def expect(self, block: Block) -> None:
        """Every line of the block is in the output: of the commands, or of the servers that still run."""
        wanted = [settled(line) for line in self.local(block.text).splitlines()]
        give_up = time.monotonic() + 3.0  # log lines are written a moment after the response
        missing = wanted
        while missing and time.monotonic() < give_up:
            seen = {settled(line) for line in self.output.splitlines()}
            missing = [line for line in wanted if line not in seen]
            if missing:
                time.sleep(0.02)
        assert not missing, f"{block.page}:{block.line}: not in the output:\n{self.output}"


def settled(line: str) -> str:
    """A line without what differs from run to run."""
    for pattern, word in (
        (r"^(?:\S+Z\tinfo\trequest |\.\.\. )", "... "),
        (r'"time": "[^"]*"', '"time": "..."'),
        (r"(?:127\.0\.0\.1|localhost):\d+", "ADDRESS"),
        (r"duration(=|\": \")\d+ms", "duration"),
        (r"agk_[\w-]+(?:\.\.\.)?", "agk_"),
        (r"sha256:[0-9a-f]+(?:\.\.\.)?", "sha256:"),
    ):
        line = re.sub(pattern, word, line)
    return line.rstrip()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def listening(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


# -- examples --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", EXAMPLES, ids=name_of)
def test_examples_say_how_to_run_them_and_are_short(path: Path) -> None:
    text = path.read_text("utf-8")
    docstring = ast.get_docstring(ast.parse(text))
    assert docstring
    assert path.name in docstring or path.stem in docstring
    assert len(text.splitlines()) < 60


EXPECTED: Final = {
    # Lines that curl prints when a reader does what the docstring says.
    "wrap_fastapi.py": ["HTTP/1.1 401 Unauthorized", "HTTP/1.1 200 OK", '{"id":"agent"}'],
    "gateway.py": ["HTTP/1.1 401 Unauthorized", "HTTP/1.1 200 OK"],
    "llm_gateway.py": ["HTTP/1.1 200 OK", "HTTP/1.1 403 Forbidden"],
    "rate_limits.py": [
        "HTTP/1.1 200 OK",
        "x-ratelimit-remaining: 1",
        "HTTP/1.1 429 Too Many Requests",
        '{"error": {"message": "rate limit exceeded", "type": "requests", "param": null, "code": "rate_limit_exceeded"}'
        "}",
    ],
    "tracing.py": ["GET: 401, deny", "GET /items/{id}: 200, allow"],
    "stacked_middleware.py": ["HTTP/1.1 401 Unauthorized", "HTTP/1.1 200 OK", "hello"],
    "agent_gateway.py": [
        '"url": "http://localhost:8080/echo"',
        '"text":"hello"',
        "authorization failed",
        "HTTP/1.1 401 Unauthorized",
    ],
    "custom_authenticator.py": ["HTTP/1.1 200 OK", "hello billing"],
    "mcp_gateway.py": [
        "HTTP/1.1 401 Unauthorized",
        '{"jsonrpc": "2.0", "id": 1, "error": {"code": -32602, "message": "Unknown tool: drop_table"}}',
        '{"jsonrpc": "2.0", "id": 2, "error": {"code": -32602, "message": "uri is not a URI in its one spelling"}}',
    ],
    "mcp_login.py": [
        "HTTP/1.1 401 Unauthorized",
        'www-authenticate: Bearer resource_metadata="http://localhost:8080/.well-known/oauth-protected-resource/mcp",'
        ' scope="tools:call"',
        '{"resource": "http://localhost:8080/mcp", "authorization_servers": ["https://login.example.com/realms/agents"],'
        ' "scopes_supported": ["tools:call"], "bearer_methods_supported": ["header"]}',
    ],
    "federated.py": ["docs_search", "tickets_search"],
    "measured_gateway.py": [
        'agentgate_decisions_total{effect="allow",enforced="true",policy="CELRules",reason="",rule="reading"} 1.0',
        'agentgate_decisions_total{effect="deny",enforced="true",policy="CELRules",reason="Authorization",rule=""} 1.0',
        'agentgate_decisions_total{effect="deny",enforced="false",policy="CELRules",reason="Authorization",'
        'rule="no headers"} 1.0',
    ],
}


AGENT: Final = """\
from agentgate.cli.echo_agent import echo_agent

app = echo_agent("http://127.0.0.1:9000")
"""


@pytest.mark.parametrize("name", EXPECTED)
def test_examples_run_as_they_say(name: str, folder: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    path = Path(shutil.copy(ROOT / "examples" / name, folder))
    docstring = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    commands = [line.removeprefix("    ") for line in docstring.splitlines() if line.startswith("    ")]
    with Shell(folder) as shell:
        if name == "federated.py":
            shell.env["UPSTREAM"] = shell.local("http://127.0.0.1:9000")
        if name in ("gateway.py", "measured_gateway.py"):
            (folder / "upstream.py").write_text(next(b.text for b in blocks(TUTORIAL) if b.file == "upstream.py"))
            shell.type(Block(path, 0, "sh", "uvicorn upstream:app --port 9000"))
            shell.env["UPSTREAM"] = shell.local("http://127.0.0.1:9000")
        if name in ("llm_gateway.py", "rate_limits.py"):
            shell.type(Block(path, 0, "sh", "uvicorn --factory agentgate.cli.fake_llm:fake_llm --port 9000"))
            shell.env["UPSTREAM"] = shell.local("http://127.0.0.1:9000/v1")
        if name == "agent_gateway.py":
            (folder / "agent.py").write_text(shell.local(AGENT))
            shell.type(Block(path, 0, "sh", "uvicorn agent:app --port 9000"))
            shell.env["AGENT"] = shell.local("http://127.0.0.1:9000")
        shell.type(Block(path, 0, "sh", "\n".join(commands)))
        shell.expect(Block(path, 0, "text", "\n".join(EXPECTED[name])))


def test_every_example_is_run() -> None:
    assert {path.name for path in EXAMPLES} == {*EXPECTED, "policy_test.py"}


def test_policy_test(folder: Path) -> None:
    """It is a user's test file: pytest runs it, with the user's own, empty configuration."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    shutil.copy(ROOT / "examples" / "policy_test.py", folder)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "policy_test.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stdout


# -- the reference ---------------------------------------------------------------------------------------------------

_ALIASES: Final = (
    # What `inspect` spells out, by the names that the code has for it; the longest first.
    ("Union[Protocol, Literal['mcp', 'llm', 'a2a', 'auto'], NoneType]", "Protocol | ProtocolName | None"),
    (
        "Callable[[MutableMapping[str, Any], Callable[[], Awaitable[MutableMapping[str, Any]]],"
        " Callable[[MutableMapping[str, Any]], Awaitable[None]]], Awaitable[None]]",
        "ASGIApp",
    ),
    ("Optional[Literal['strict', 'optional', 'permissive']]", "Mode | None"),
    ("Literal['strict', 'optional', 'permissive']", "Mode"),
    ("Literal['text', 'json']", "Format"),
    ("Literal['allow', 'deny', 'abstain']", "Effect"),
    ("Literal['allow', 'deny', 'require']", "RuleSet"),
    ("Header | Query | Cookie | AnyLocation", "Location"),
    ("Header | Query | Cookie", "Place"),
    ("Callable[[str], object]", "Sink"),
    ("Secret | Callable[[Principal | None], Awaitable[Secret]]", "Credential"),
    ("Literal['openai', 'azure', 'anthropic', 'gemini', 'vertex']", "ProviderName"),
    ("Optional[ProviderName]", "ProviderName | None"),
    ("datetime.datetime", "datetime"),
    ("'Sink | Logger | PathLike[str] | None'", "Sink | Logger | PathLike[str] | None"),
    ("'CollectorRegistry | None'", "CollectorRegistry | None"),
    ("'tuple[Step, ...]'", "tuple[Step, ...]"),
    ("Mapping[str, str | Secret] | Iterable[str | Secret | Key]", "Keys"),
    ("Mapping[str, str] | Iterable[tuple[str, str]]", "HeadersInit"),
    ("tuple[tuple[bytes, bytes], ...]", "RawHeaders"),
    ("MutableMapping[str, Any]", "Scope"),
    ("str | Pattern[str]", "Pattern"),
    ("Header(name='authorization', prefix='Bearer ')", "BEARER"),
    ("<Reason.AUTHORIZATION: 'Authorization'>", "Reason.AUTHORIZATION"),
    ("Union[Literal['second', 'minute', 'hour', 'day'], int]", "Literal['second', 'minute', 'hour', 'day'] | int"),
    (str(DEFAULT_TIMEOUTS), "DEFAULT_TIMEOUTS"),
    (str(MCP_TIMEOUTS), "MCP_TIMEOUTS"),
    (str(DEFAULT_HEALTH), "DEFAULT_HEALTH"),
    ("<bound method Logger.warning of <Logger agentgate.manifests (WARNING)>>", "logger.warning"),
    ("<built-in function monotonic>", "time.monotonic"),
    ("'TracerProvider | None'", "TracerProvider | None"),
    ("'str | PathLike[str] | Iterable[str | PathLike[str]]'", "str | PathLike[str] | Iterable[str | PathLike[str]]"),
    ("'Gate | Gateway'", "Gate | Gateway"),
    ("'Replay'", "Replay"),
    ("<factory>", "{}"),
    ("mappingproxy({})", "{}"),
)


def resolved(name: str) -> Any:
    found: Any = agentgate
    for part in name.split("."):
        found = getattr(found, part)
    return found


def signature_of(name: str) -> str:
    """`inspect.signature`, without the modules of its types, one parameter a line where it is long."""
    signature = inspect.signature(resolved(name))
    parameters = list(signature.parameters.values())
    if parameters and parameters[0].name == "self":
        parameters = parameters[1:]
    text = str(signature.replace(parameters=parameters))
    text = re.sub(r"frozenset\((\{[^}]*\})\)", "METHODS", text)
    text = re.sub(r"\b(?:[a-z_]+\.)+(?=[A-Z])", "", text)
    text = re.sub(r"'([A-Z]\w+)'", lambda m: m[1] if hasattr(agentgate, m[1]) else m[0], text)  # "-> 'Request'"
    for long, short in _ALIASES:
        text = text.replace(long, short)
    if inspect.isclass(resolved(name)):
        text = text.removesuffix(" -> None")
    if len(name + text) <= 100:
        return name + text
    arguments, end = re.fullmatch(r"\((.*)\)( ->.*)?", text).groups()  # type: ignore[union-attr]
    parts = re.split(r", (?=\*|\w+:)(?![^\[(]*[\])])", arguments)
    return "\n".join([f"{name}(", *(f"    {part}," for part in parts), f"){end or ''}"])


SIGNATURES: Final = [block for page in REFERENCE for block in blocks(page) if block.info == "python signature"]


@pytest.mark.parametrize("block", SIGNATURES, ids=lambda block: block.text.partition("(")[0])
def test_signatures_shown_are_the_code_s_own(block: Block) -> None:
    assert block.text.rstrip("\n") == signature_of(block.text.partition("(")[0])


def test_every_public_name_has_a_heading_and_its_signature() -> None:
    text = "".join(page.read_text("utf-8") for page in REFERENCE)
    headings = set(re.findall(r"^###? `(\w+)`$", text, re.MULTILINE))
    assert headings >= set(agentgate.__all__)
    shown = {block.text.partition("(")[0] for block in SIGNATURES}
    without = {
        "Authenticator",
        "Authorizer",
        "Observer",
        "KeyStore",
        "Reason",
        "BEARER",
        "ANY_AUDIENCE",
        "SDK_LOCATIONS",
    }  # not made by calling them
    without |= {"AgentgateError", "UnknownScopeError"}
    assert shown >= set(agentgate.__all__) - without


def table(page: str, column: str, folder: str = "reference") -> list[list[str]]:
    """The cells of the table whose first column is headed `column`, code marks taken off."""
    text = (DOCS / folder / page).read_text("utf-8")
    found = re.search(rf"^\| {re.escape(column)} \|.*\n\|[-| ]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert found, f"{page} has no table of {column}"
    return [[cell.strip().strip("`") for cell in row.strip("|").split(" | ")] for row in found[1].splitlines()]


def test_the_access_log_s_fields_in_their_order() -> None:
    request = Request.http("GET", "/")
    record = Record(request)
    record.view = Request({"type": "http"}, principals=(Principal("alice", "jwt", {"sub": "alice"}),))
    record.route, record.endpoint, record.status, record.duration = "r", "e", 403, 0.001
    record.refuse(deny(rule="rule", detail="detail"))
    record.trace_id, record.span_id = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    record.trail.append(dataclasses.replace(deny(rule="r", detail="d", policy="p"), enforced=False))
    listed = [name for row in table("access-log.md", "Field") for name in row[0].replace("`", "").split(", ")]
    assert listed == [*fields(record)]


def test_the_access_log_s_variables_and_what_a_replay_holds() -> None:
    listed = {name for row in table("access-log.md", "Variable") for name in row[0].replace("`", "").split(", ")}
    assert listed == OF_RECORDS.keys() - READERS.keys() - {"response"}
    text = (DOCS / "reference" / "access-log.md").read_text("utf-8")
    shown = re.search(r"all headers but ((?s:.*?))\.\n", text)
    assert shown is not None
    assert {*re.findall(r"`([^`]+)`", shown[1])} == HARMLESS_HEADERS
    record = Record(Request.http("GET", "/?a=1", call=agentgate.Call("mcp", "tools/call", tool="t")))
    record.route, record.edge, record.duration = "r", object(), 0.001
    routed(record.view, {"name": "b", "type": "mcp", "protocol": "mcp"})
    members = {name for row in table("access-log.md", "Replay member") for name in row[0].replace("`", "").split(", ")}
    assert members == replay_fields(record).keys()


def test_every_option_of_the_edge_and_every_reason() -> None:
    assert [row[0] for row in table("gate.md", "Option")] == [field.name for field in dataclasses.fields(Edge)]
    assert [row[0] for row in table("policies.md", "Reason")] == [f"{reason.value}" for reason in Reason]


def test_every_metric_its_labels_and_its_buckets() -> None:
    metrics = agentgate.Metrics()
    for row in table("metrics.md", "Metric"):
        name, kind, labels = row[0], row[1], re.findall(r"\w+", row[2])
        metric = metrics.registry._names_to_collectors[name]
        assert (metric._type, list(metric._labelnames)) == (kind, labels), name  # type: ignore[attr-defined]
    assert {family.name for family in metrics.registry.collect()} == {
        row[0].removesuffix("_total") for row in table("metrics.md", "Metric")
    }
    series = {label for row in table("metrics.md", "Metric") for label in re.findall(r"\w+", row[2])}
    explained = {label for row in table("metrics.md", "Label") for label in re.findall(r"\w+", row[0])}
    assert series - {"observer", "version"} == explained
    for name, bounds in table("metrics.md", "Buckets of"):
        metric = metrics.registry._names_to_collectors[name.replace("*", "server")]
        assert [*metric._upper_bounds[:-1]] == [float(bound) for bound in bounds.split(", ")]  # type: ignore[attr-defined]


def test_queries_that_come_up_are_about_metrics() -> None:
    known = {row[0] for row in table("metrics.md", "Metric")}
    for _, query in table("prometheus-and-grafana.md", "To see", "how-to"):
        (name,) = re.findall(r"(\w+)[{\[]", query)
        assert re.sub("_(?:sum|bucket)$", "", name) in known


def test_rules_that_come_up_are_rules() -> None:
    rules = {row[0]: row[1].replace("\\|", "|") for row in table("write-rules.md", "To", "how-to")}
    assert len(rules) > 10
    agentgate.CELRules(allow=rules)


def test_what_is_said_of_llm_apis() -> None:
    """The headers that go on, the fields of the log, and a refusal in each provider's words."""
    text = (DOCS / "reference" / "gateway.md").read_text("utf-8")
    listed = re.search(r"Of the client's headers these go on: ((?s:.*?))\. The body", text)
    assert listed is not None
    assert [*re.findall(r"`([^`]+)`", listed[1])] == sorted(
        {name.decode() for name in PASSED} - {"content-length", "transfer-encoding"} | {"x-stainless-*"}
    )
    fields = [name for row in table("access-log.md", "LLM field") for name in row[0].replace("`", "").split(", ")]
    order = [name for name in DETAILS if name in fields]
    assert [name for name in fields if name in order[:10]] == order[:10]
    assert {*fields} - {*DETAILS} == {"retry.attempt"}
    for (_, body), dialect in zip(table("responses.md", "API"), get_args(Dialect), strict=True):
        shown = said(deny(), dialect).body
        assert shown is not None
        assert json.loads(body) == json.loads(shown)


def test_every_attribute_of_a_span() -> None:
    listed = [name for row in table("tracing.md", "Attribute") for name in row[0].replace("`", "").split(", ")]
    others = {semconv.SCHEMA_URL, semconv.OTHER, semconv.FIRST_BYTE}
    names = {value for name, value in vars(semconv).items() if name.isupper() and isinstance(value, str)} - others
    assert len(listed) == len(set(listed))
    assert set(listed) == names.union(semconv.DETAILS.values()) - {semconv._AS_THEY_ARE}


def refusals() -> Iterator[tuple[str, Request]]:
    """A request for each row of the table of what the edge refuses."""
    get = Request.http
    yield "a header name is not a lower-case token", get(headers={"a b": "x"})
    yield "a header name has an underscore", get(headers={"x_user": "x"})
    yield "a header name is empty", get(headers={"": "x"})
    yield "a header value has a control character", get(headers={"x": "a\x01"})
    yield "several host headers", get(headers=[("host", "a"), ("host", "b")])
    yield "content-length and transfer-encoding", get(headers={"content-length": "1", "transfer-encoding": "chunked"})
    yield "a transfer-encoding other than chunked", get(headers={"transfer-encoding": "gzip"})
    yield "content-length is not a number", get(headers={"content-length": "+1"})
    yield "no host header", Request({"type": "http", "method": "GET", "path": "/"})
    yield "the host header is not a host name with an optional port", get(host="a/b")
    yield "path and raw_path differ", Request({"path": "/a", "raw_path": b"/b", "headers": [(b"host", b"a")]})
    yield "the target does not start with a slash", get(target="x")
    yield "the path has a character that RFC 3986 does not allow there", get(target="/a b")
    yield "the path has a bad percent-encoding", get(target="/%zz")
    yield "the path is percent-encoded twice", get(target="/%252e")
    yield "the path has an encoded slash", get(target="/a%2fb")
    yield "the path has a semicolon", get(target="/a;b")
    yield "the path has an encoded control character", get(target="/a%00")
    yield "the path is not UTF-8", get(target="/%ff")
    yield "the path has a dot segment", get(target="/a/%2e%2e/b")
    yield "the path has an empty segment", get(target="/a//b")
    yield "the query has a character that RFC 3986 does not allow there", get(target="/?a=[")
    yield "the query has a bad percent-encoding", get(target="/?a=%")
    unknown = get(headers={"x-forwarded-for": "unknown"}, client=("127.0.0.1", 1))
    yield "x-forwarded-for names no address where one has to be believed", unknown


def test_what_the_edge_refuses() -> None:
    listed = [row[0] for row in table("responses.md", "After `invalid request: `")]
    assert listed == [text for text, _ in refusals()]
    for text, request in refusals():
        decision = Edge(trusted_proxies=["127.0.0.1"]).check(request)
        assert decision is not None
        assert (decision.status, decision.message) == (400, f"invalid request: {text}")


def test_every_option_of_the_command_line() -> None:
    text = (DOCS / "reference" / "cli.md").read_text("utf-8")
    for section in text.split("\n## ")[1:]:
        command = [word for word in section.split("`")[1].split() if word.islower()][1:]
        done = subprocess.run(
            [sys.executable, "-c", "import sys, agentgate.cli; sys.exit(agentgate.cli.main())", *command, "--help"],
            capture_output=True, text=True, cwd=ROOT, timeout=SECONDS,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        options = set(re.findall(r"^\| `(--[\w-]+)`", section, re.MULTILINE))
        assert options == set(re.findall(r"^  (--[\w-]+)", done.stdout, re.MULTILINE))


def test_serve_with_a_fault_ends_with_2(folder: Path) -> None:
    """The page shows the faults; that every one of them is listed, and nothing more, is checked here."""
    broken, _, faults, *_ = (block for block in blocks(DOCS / "reference" / "cli.md"))
    (folder / "broken.yaml").write_text(broken.text)
    with Shell(folder) as shell:
        shell.type(Block(broken.page, broken.line, "sh", "agentgate serve broken.yaml"))
        assert shell.output.strip() == f"{faults.text}exit 2"


# -- what holds on every page ----------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", re.sub(r"(?ms)^```.*?^```$", "", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"(?ms)^```.*?^```$", "", page.read_text("utf-8"))):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{target} in {page}"
        assert not anchor or anchor in anchors(file), f"{target} in {page}"


@every_page
def test_pages_speak_of_the_project_alone(page: Path) -> None:
    text = page.read_text("utf-8").lower()
    for word in ("pypi", "index-url", "/work/", "/opt/", "coming soon", "artifactory"):
        assert word not in text
    assert re.search(r"registry[-./]\w|[-/]registry", text) is None  # prometheus_client's has no address


@every_page
def test_yaml_can_be_read(page: Path) -> None:
    for block in blocks(page):
        if block.info == "yaml":
            assert [*yaml.safe_load_all(block.text)] != [None]


def test_every_page_and_every_example_is_in_the_index() -> None:
    index = (DOCS / "README.md").read_text("utf-8")
    for page in DOCS.rglob("*.md"):
        assert page == DOCS / "README.md" or f"]({page.relative_to(DOCS)})" in index
    for example in (ROOT / "examples").iterdir():
        assert example.name == "__pycache__" or f"](../examples/{example.name})" in index


def test_the_changelog_begins_with_what_is_not_released() -> None:
    headings = re.findall(r"^## \[(.*?)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert headings[0] == "Unreleased"


TUTORIAL: Final = DOCS / "tutorial" / "README.md"
