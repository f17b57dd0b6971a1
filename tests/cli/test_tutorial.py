"""The tutorial's documents: in the docs for readers, and in the package for `agentgate demo`."""

from importlib.resources import files
from pathlib import Path

import pytest

from agentgate.cli.demo import DOCUMENTS, KEY

DOCS = Path(__file__).parents[2] / "docs" / "tutorial"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_package_has_the_documents_of_the_docs(name: str) -> None:
    assert (files("agentgate.cli") / "tutorial" / name).read_bytes() == (DOCS / name).read_bytes()


def test_the_docs_have_no_others() -> None:
    assert {path.name for path in DOCS.glob("*.yaml")} == set(DOCUMENTS)


def test_the_demo_shows_the_key_of_the_secret() -> None:
    assert f"api-key: {KEY}\n" in (DOCS / "secret.yaml").read_text()
