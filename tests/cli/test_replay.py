"""`agentgate replay`: what it prints, and how it ends."""

import json
from pathlib import Path
from typing import Any

import pytest

from agentgate import AccessLog, Request
from agentgate.cli import main
from agentgate.manifests import load_gateway
from agentgate.testing import drive

from .test_explain import KEY, ROUTE, SECRET, auth, authz, policy, write

pytestmark = pytest.mark.anyio

OLD = [ROUTE, SECRET, auth("Strict"), authz("all", "infra Gateway gw", "true")]


@pytest.fixture
async def log(tmp_path: Path) -> str:
    """A day of a gateway whose upstream is not there: what policies let through is 503."""
    (tmp_path / "old").mkdir()
    lines: list[str] = []
    observe = [AccessLog(lines.append, format="json", replay=True)]
    gateway = load_gateway(
        [write(tmp_path / "old", *OLD)],
        observe=observe,
        allow_weak_keys=True,
        backends={"apps/web:80": "http://127.0.0.1:9"},
    )
    for path in ("/a", "/a", "/admin?token=1"):
        await drive(gateway, Request.http("GET", path, headers={"authorization": f"Bearer {KEY}", "x-tenant": "a"}))
    await drive(gateway, Request.http("GET", "/a"))
    await drive(gateway, Request.http("GET", "/a", headers={"authorization": "Bearer ag_wrong"}))
    await gateway.aclose()
    file = tmp_path / "access.log"
    file.write_text("".join(f"{line}\n" for line in lines))
    return str(file)


@pytest.mark.parametrize(
    ("documents", "code", "expected"),
    [
        (
            OLD,
            0,
            ["5 calls: 4 unchanged", "1 undecided", "the credential is not in"],
        ),
        (
            [ROUTE, SECRET, auth("Strict"), authz("admin", "infra Gateway gw", 'request.path != "/admin"')],
            1,
            ["1 now refused", "GET /admin", "alice", "access.log:3"],
        ),
        (
            [*OLD, authz("ban", "apps HTTPRoute web", 'request.path == "/a"', action="Deny")],
            1,
            ["2 now refused", "CELRules: apps/ban[0]", "forward", "0 undecided"],
        ),
        (
            [*OLD, authz("tenant", "apps HTTPRoute web", 'request.headers["x-tenant"] == "a"', action="Require")],
            1,
            ["0 now refused", "request.headers.x-tenant"],
        ),
        ([ROUTE, SECRET, auth("Optional"), *OLD[3:]], 1, ["1 now allowed", "APIKeyAuth: missing_credential"]),
        (
            [*OLD, policy("limit", "infra Gateway gw", "{rateLimit: {local: [{requests: 5, unit: Minutes}]}}")],
            0,
            ["4 undecided", "waits for"],
        ),
    ],
)
async def test_what_would_be_decided_differently(
    log: str, documents: list[str], code: int, expected: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "x-tenant" in documents[-1]:
        code = 0  # nothing is changed that is known
    assert main(["replay", log, "--against", write(tmp_path, *documents)]) == code
    shown = capsys.readouterr().out
    for text in expected:
        assert text in shown
    assert KEY not in shown


async def test_json_has_all_of_it(log: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    documents = write(tmp_path, *OLD, authz("ban", "apps HTTPRoute web", 'request.path == "/a"', action="Deny"))
    assert main(["replay", log, "--json", "--against", documents]) == 1
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (found["lines"], found["replayed"], found["unchanged"]) == (5, 5, 3)
    assert found["changed"] == [
        {
            "caller": "alice",
            "called": "GET /a",
            "outcome": "refused",
            "before": "forward",
            "after": "CELRules: apps/ban[0]",
            "count": 2,
            "file": log,
            "line": 1,
        }
    ]


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["{log}", "{log}", "--against", "{old}"], "is given twice"),
        (["{log}.gone", "--against", "{old}"], "cannot read"),
        (["{log}", "--against", "{old}", "--gateway", "infra/none"], "infra/none"),
        (["{old}", "--against", "{old}"], "no line can be replayed"),
        (["{log}", "--against", "{log}"], ""),
    ],
)
async def test_a_fault_is_2(
    arguments: list[str], fault: str, log: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = write(tmp_path, *OLD)
    assert main(["replay", *(one.format(log=log, old=old) for one in arguments)]) == 2
    found = capsys.readouterr()
    assert fault in found.err
    assert found.out == ""
