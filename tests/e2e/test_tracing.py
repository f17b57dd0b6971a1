"""Traces from clients through a gateway to what is behind it, as an OTLP receiver gets them from all processes."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from opentelemetry import propagate
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from agentgate import ConfigurationError
from agentgate.cli.otlp import exporting

from .fake_providers import Fake, serving
from .otlp import Receiver, chains, receiving
from .servers import PATIENCE, ROOT, Running, free_port, running

pytest.importorskip("mcp", reason="the extra `e2e` is not installed")
openai = pytest.importorskip("openai", reason="the extra `e2e` is not installed")

TOOLS = """
from tests.e2e.traced.otel import set_up

set_up("tools", "{receiver}")
from tests.e2e.traced.tools import app
"""
GATEWAY = """
from agentgate import LLMBackend, MCPBackend, Route, Tracing, create_gateway
from tests.e2e.traced.otel import set_up

set_up("gateway", "{receiver}")
app = create_gateway(
    Route("/one", MCPBackend("http://127.0.0.1:{tools}/mcp"), name="one"),
    Route(
        "/many",
        MCPBackend({{"tools": "http://127.0.0.1:{tools}/mcp", "gone": "http://127.0.0.1:{gone}/mcp"}}),
        name="many",
    ),
    Route("/v1", LLMBackend("{model}/v1"), name="llm"),
    observe=[Tracing()],
)
"""


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as started:
        yield started


@pytest.fixture(scope="module")
def model() -> Iterator[tuple[Fake, str]]:
    fake = Fake()
    with serving(fake.app) as url:
        yield fake, url


@pytest.fixture(scope="module")
def gateway(receiver: Receiver, model: tuple[Fake, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    tools = TOOLS.format(receiver=receiver.url)
    with running("uvicorn-httptools", tools, tmp_path_factory.mktemp("tools")) as server:
        source = GATEWAY.format(receiver=receiver.url, tools=server.port, gone=free_port(), model=model[1])
        with running("uvicorn-httptools", source, tmp_path_factory.mktemp("gateway")) as started:
            yield started
            assert "Traceback" not in started.output + server.output


ASKED = "agent: MCP send tools/call {}"


@pytest.fixture(scope="module")
def visited(receiver: Receiver, gateway: Running) -> None:
    command = [sys.executable, "-m", "tests.e2e.traced.mcp_client", receiver.url, f"http://127.0.0.1:{gateway.port}"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert said.returncode == 0, said.stderr
    assert said.stdout.count("text='5'") == 4, said.stdout


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
@pytest.mark.parametrize(("path", "tool"), [("one", "add"), ("many", "tools_add")])
@pytest.mark.usefixtures("visited")
def test_a_trace_goes_from_the_agent_to_the_tool(receiver: Receiver, path: str, tool: str, mode: str) -> None:
    """Over HTTP and in the messages; no parent is missing."""
    http = "tools: POST /mcp"
    trace = receiver.trace_of(f"{path}, {mode}", "tools: adding", http, f"gateway: POST {path}")
    client = [ASKED.format(tool), f"agent: {path}, {mode}"]
    server = [f"gateway: POST {path}", *client]
    found = chains(trace)
    assert server in found
    if path == "one":  # whose messages go on as they came
        assert [http, "gateway: tools/call add", *server] in found
        assert ["tools: adding", "tools: tools/call add", *client] in found
    else:
        sent = ["gateway: MCP send tools/call add", *server]
        assert [http, *sent] in found
        assert ["tools: adding", "tools: tools/call add", *sent] in found
    assert any(
        span.service == "gateway" and span.kind == "SERVER" and span.attributes.get("gen_ai.tool.name") == "add"
        for span in trace.values()
    )


def test_a_trace_goes_from_the_agent_to_the_model(
    receiver: Receiver, gateway: Running, model: tuple[Fake, str]
) -> None:
    provider = TracerProvider(resource=Resource.create({"service.name": "agent"}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=f"{receiver.url}/v1/traces")))
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{gateway.port}/v1", api_key="sk-none")
    with provider.get_tracer("agent").start_as_current_span("asking"):
        headers: dict[str, str] = {}
        propagate.inject(headers)
        stream = client.chat.completions.create(
            model="gpt-4o-mini",
            messages=[{"role": "user", "content": "Hello"}],
            stream=True,
            stream_options={"include_usage": True},
            extra_headers=headers,
        )
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices) == "Hello there"
    client.close()
    trace = receiver.trace_of("asking", "gateway: POST llm")
    assert ["gateway: chat gpt-4o-mini", "gateway: POST llm", "agent: asking"] in chains(trace)
    (span,) = (span for span in trace.values() if span.kind == "CLIENT")
    assert model[0].last.headers["traceparent"].split("-")[1:3] == [span.trace, span.id]
    assert span.attributes["gen_ai.usage.output_tokens"] == 5
    provider.shutdown()


DOCUMENTS = ROOT / "docs" / "tutorial"


@pytest.mark.parametrize("told_by", ["option", "variable", "option, with workers"])
def test_the_command_sends_spans_where_it_is_told(receiver: Receiver, told_by: str, tmp_path: Path) -> None:
    """As `agentgate` unless told otherwise; what waits is sent when the command ends."""
    receiver.spans.clear()
    files = [str(DOCUMENTS / name) for name in ("httproute.yaml", "secret.yaml", "policy.yaml")]
    backend = f"httpbin/httpbin:8000=http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-c", "import sys; from agentgate.cli import main; sys.exit(main())", "serve", *files]
    command += ["--port", "0", "--allow-weak-keys", "--backend", backend]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if told_by != "variable":
        command += ["--otlp", f"{receiver.url}/", "--workers", "2" if "workers" in told_by else "1"]
    else:
        environment |= {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_SERVICE_NAME": "edge"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stderr is not None
        line = next(line for line in process.stderr if line.startswith("listening"))
        port = line.rpartition(":")[2].strip()
        refused = httpx.get(f"http://127.0.0.1:{port}/headers", headers={"host": "www.example.com"})
        assert refused.status_code == 401
        process.terminate()
        output, errors = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert (process.returncode, errors) == (0, "")
    trace = receiver.trace_of("GET httpbin/httpbin")
    (span,) = trace.values()
    assert span.service == ("edge" if told_by == "variable" else "agentgate")
    assert span.attributes["agentgate.decision"] == "deny"
    assert f"trace.id={span.trace} span.id={span.id}" in output
    assert receiver.paths == {"/v1/traces"}


@pytest.mark.parametrize(
    ("url", "variables", "fault"),
    [
        ("collector:4318", {}, "the OTLP endpoint is an http or https URL, such as http://localhost:4318"),
        ("http://[::1", {}, "the OTLP endpoint is an http or https URL, such as http://localhost:4318"),
        (
            "http://localhost:4318",
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL=grpc: spans are sent as http/protobuf alone",
        ),
    ],
)
def test_a_receiver_that_cannot_be_sent_to_is_a_fault(
    url: str, variables: dict[str, str], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        exporting(url)
    assert caught.value.faults == (fault,)


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", "OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", "OTEL_SDK_DISABLED": "true"},
    ],
)
def test_nothing_is_sent_unless_it_is_said_where(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert exporting(None)[0] == []
