"""The ways in which the suite is run: against the fixture directly, and through gateways in front of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from agentgate import new_key

from ..servers import running
from .suite import PASSED, Outcome, Suite

FIXTURE: Final = "from tests.e2e.conformance.fixture import make_app\n\napp = make_app({prefix!r})\n"

_GATEWAY: Final = """
from agentgate import AccessLog, APIKeyAuth, CELRules, HTTPBackend, MCPBackend, Route, create_gateway

log = open("access.log", "a", buffering=1)
app = create_gateway(
    Route("/mcp", {backend}),
    {policies}
    observe=[AccessLog(lambda line: log.write(line + "\\n"), format="json")],
)
"""

# The suite cannot send a key; this does, for it.
_WITH_A_KEY: Final = """
gateway = app

async def app(scope, receive, send):
    if scope["type"] == "http":
        scope = {**scope, "headers": [*scope["headers"], (b"authorization", b"Bearer " + KEY)]}
    await gateway(scope, receive, send)
"""

_KEY: Final = new_key()
_MCP: Final = 'MCPBackend("http://localhost:{port}/mcp")'


def _source(backend: str, policies: str = "", then: str = "") -> str:
    return _GATEWAY.replace("{backend}", backend).replace("{policies}", policies) + then


GATEWAYS: Final[dict[str, str]] = {
    "HTTPBackend": _source('HTTPBackend("http://localhost:{port}")'),
    "MCPBackend": _source(_MCP),
    "MCPBackend, key, all allowed": _source(
        _MCP,
        f'authenticate=[APIKeyAuth({{"suite": "{_KEY}"}})], authorize=[CELRules(allow=["true"])],',
        _WITH_A_KEY.replace("KEY", repr(_KEY.encode())),
    ),
    "MCPBackend, a tool hidden": _source(
        _MCP, """authorize=[CELRules(deny=['has(mcp.tool) && mcp.tool.name == "unrelated"'], allow=["true"])],"""
    ),
}
"""The source of each gateway, by the name of its leg; `{port}` is the fixture's."""

FEDERATION: Final = "two targets as one"
"""The leg of a gateway that federates: two fixtures, whose tools and prompts have the first word of the names that the
suite uses as the names of their targets. `{port}` and `{other}` are theirs."""

FEDERATING: Final = _source(
    'MCPBackend({"test": "http://localhost:{port}/mcp", "json": "http://localhost:{other}/mcp"})'
)

OTHERWISE: Final[dict[str, dict[str, frozenset[str]]]] = {
    "the suite reads resources without the target in front": {
        "2025-11-25": frozenset(
            {
                "resources-read-text",
                "resources-read-binary",
                "resources-templates-read",
                "resources-subscribe",
                "resources-unsubscribe",
            }
        ),
        "2026-07-28": frozenset(
            {"resources-read-text", "resources-read-binary", "resources-templates-read", "sep-2164-data-uri"}
        ),
    },
    "streams of a federation cannot be taken up again": {
        "2025-11-25": frozenset({"server-sse-disconnect-resume", "server-sse-priming-event", "server-sse-retry-field"}),
        "2026-07-28": frozenset(),
    },
}
"""The checks that come out otherwise when servers are federated, by the reason for it."""


def otherwise(revision: str) -> set[str]:
    """The ids of those checks."""
    return {id for found in OTHERWISE.values() for id in found[revision]}


@contextmanager
def fixture(folder: Path, prefix: str = "") -> Iterator[int]:
    """The fixture's port while the block runs. h11 reads header values as RFC 9110 wants, without the blanks around."""
    with running("uvicorn-h11", FIXTURE.format(prefix=prefix), _made(folder)) as server:
        yield server.port


@contextmanager
def gateway(leg: str, port: int, folder: Path) -> Iterator[int]:
    """The port of one leg's gateway in front of the fixture."""
    with _gateway(GATEWAYS[leg].replace("{port}", str(port)), folder) as front:
        yield front


@contextmanager
def federation(folder: Path) -> Iterator[int]:
    """The port of the gateway that federates two fixtures."""
    with (
        fixture(folder / "test", "test_") as one,
        fixture(folder / "json", "json_") as two,
        _gateway(FEDERATING.replace("{port}", str(one)).replace("{other}", str(two)), folder) as front,
    ):
        yield front


@contextmanager
def _gateway(source: str, folder: Path) -> Iterator[int]:
    with running("uvicorn-httptools", source, _made(folder)) as server:
        yield server.port
        assert "Traceback" not in server.output, server.output


def runs(suite: Suite, port: int, folder: Path) -> dict[str, Outcome]:
    """Every revision's outcome. `localhost`: the scenario of DNS rebinding wants that name."""
    return {
        revision: suite.run(f"http://localhost:{port}/mcp", revision, _made(folder / revision)) for revision in PASSED
    }


def row(leg: str, revision: str, outcome: Outcome, direct: Outcome) -> str:
    """One line of the table."""
    same = len(direct.checks) - len(outcome.differences(direct))
    return f"{leg:<34}{revision:<12}{outcome.passed:>7}{len(outcome.failed()):>8}{same:>7}/{len(direct.checks)}"


HEAD: Final = f"{'leg':<34}{'revision':<12}{'passed':>7}{'failed':>8}  as directly"


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
