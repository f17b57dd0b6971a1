"""The conformance suite of the Model Context Protocol finds nothing else through the gateway than it finds directly."""

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("mcp.server.subscriptions", reason="the fixture is a server of the mcp SDK (the extra `e2e`)")

from .conformance.legs import FEDERATION, GATEWAYS, federation, fixture, gateway, otherwise, runs
from .conformance.suite import PASSED, Outcome, Suite, Unavailable, install


@pytest.fixture(scope="module")
def suite() -> Suite:
    try:
        return install()
    except Unavailable as exc:
        pytest.skip(f"the conformance suite cannot be had here: {exc}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("conformance")


@pytest.fixture(scope="module")
def server(suite: Suite, folder: Path) -> Iterator[int]:
    with fixture(folder / "fixture") as port:
        yield port


@pytest.fixture(scope="module")
def direct(suite: Suite, server: int, folder: Path) -> dict[str, Outcome]:
    return runs(suite, server, folder / "direct")


@pytest.mark.parametrize("revision", PASSED)
def test_the_fixture_does_everything_that_the_suite_asks_for(direct: dict[str, Outcome], revision: str) -> None:
    assert (direct[revision].failed(), direct[revision].passed) == ([], PASSED[revision])


@pytest.mark.parametrize("leg", GATEWAYS)
def test_every_check_comes_out_as_it_does_directly(
    leg: str, suite: Suite, server: int, direct: dict[str, Outcome], folder: Path
) -> None:
    with gateway(leg, server, folder / leg) as port:
        found = runs(suite, port, folder / leg)
    assert [line for revision, outcome in found.items() for line in outcome.differences(direct[revision])] == []


def test_two_targets_are_one_server_but_for_what_cannot_be(
    suite: Suite, direct: dict[str, Outcome], folder: Path
) -> None:
    with federation(folder / FEDERATION) as port:
        found = runs(suite, port, folder / FEDERATION)
    for revision, outcome in found.items():
        assert {id for _, id, _ in outcome.other(direct[revision])} == otherwise(revision), revision
