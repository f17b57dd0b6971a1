"""The ways in which the suite is run: against the fixture directly, and through gateways in front of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ..servers import running
from .suite import PASSED, Outcome, Suite

FIXTURE: Final = "from tests.e2e.conformance.fixture import app\n"

_PLAIN: Final = """
from agentgate import AccessLog, HTTPBackend, Route, create_gateway

log = open("access.log", "a", buffering=1)
app = create_gateway(
    Route("/mcp", HTTPBackend("http://localhost:{port}")),
    observe=[AccessLog(lambda line: log.write(line + "\\n"), format="json")],
)
"""

GATEWAYS: Final[dict[str, str]] = {"HTTPBackend": _PLAIN}
"""The source of each gateway, by the name of its leg; `{port}` is the fixture's."""


@contextmanager
def fixture(folder: Path) -> Iterator[int]:
    """The fixture's port while the block runs. h11 reads header values as RFC 9110 wants, without the blanks around."""
    with running("uvicorn-h11", FIXTURE, _made(folder)) as server:
        yield server.port


@contextmanager
def gateway(leg: str, port: int, folder: Path) -> Iterator[int]:
    """The port of one leg's gateway in front of the fixture."""
    with running("uvicorn-httptools", GATEWAYS[leg].replace("{port}", str(port)), _made(folder)) as server:
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
