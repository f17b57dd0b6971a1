"""A Secret can be used, and cannot be printed by accident."""

import copy
import json
import pickle
from pathlib import Path

import pytest

from agentgate import ConfigurationError, Secret

VALUE = "hunter2-hunter2"


@pytest.mark.parametrize(
    "shown",
    [
        repr(Secret(VALUE)),
        str(Secret(VALUE)),
        f"{Secret(VALUE)}",
        f"{Secret(VALUE):>40}",
        f"{Secret(VALUE)!r}",
        "%s" % Secret(VALUE),  # noqa: UP031
        "{}".format(Secret(VALUE)),  # noqa: UP032
        repr([Secret(VALUE)]),
        repr({"key": Secret(VALUE)}),
    ],
)
def test_no_way_of_printing_shows_it(shown: str) -> None:
    """However it is turned into text, a Secret shows `Secret(...)`."""
    assert "hunter2" not in shown
    assert "Secret(...)" in shown


def test_reveal_is_the_way_to_read_it() -> None:
    """`reveal` gives the value back, unchanged."""
    assert Secret(VALUE).reveal() == VALUE


@pytest.mark.parametrize("how", [pickle.dumps, copy.copy, copy.deepcopy, json.dumps])
def test_it_does_not_travel(how: object) -> None:
    """Pickling, copying and serialising a Secret are errors that do not name it."""
    assert callable(how)
    with pytest.raises(TypeError) as caught:
        how(Secret(VALUE))
    assert "hunter2" not in str(caught.value)


def test_equality_is_of_values() -> None:
    """Two Secrets are equal when their values are, and a Secret never equals its own text."""
    assert Secret(VALUE) == Secret(VALUE)
    assert Secret(VALUE) != Secret("other")
    assert Secret("schlüssel") == Secret("schlüssel")
    assert Secret(VALUE) != VALUE
    assert {Secret(VALUE), Secret(VALUE)} == {Secret(VALUE)}


@pytest.mark.parametrize("value", ["", "   "[:0]])
def test_an_empty_secret_is_a_fault(value: str) -> None:
    """An empty Secret is refused when it is made: it would protect nothing."""
    with pytest.raises(ConfigurationError, match="may not be empty"):
        Secret(value)


def test_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Secret.env` reads a variable."""
    monkeypatch.setenv("AGENT_KEY", VALUE)
    assert Secret.env("AGENT_KEY").reveal() == VALUE


@pytest.mark.parametrize("value", [None, ""])
def test_from_an_environment_without_it(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    """An unset or empty variable is a fault that names the variable."""
    monkeypatch.delenv("AGENT_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("AGENT_KEY", value)
    with pytest.raises(ConfigurationError, match="environment variable AGENT_KEY is not set"):
        Secret.env("AGENT_KEY")


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"hunter2", "hunter2"),
        (b"hunter2\n", "hunter2"),
        (b"hunter2\r\n", "hunter2"),
        (b" hunter2 \n", " hunter2 "),
        ("schlüssel".encode(), "schlüssel"),
    ],
)
def test_from_a_file(tmp_path: Path, content: bytes, value: str) -> None:
    """`Secret.file` reads a file without its last line end, and trims nothing else."""
    path = tmp_path / "secret"
    path.write_bytes(content)
    assert Secret.file(path).reveal() == value


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xffhunter2"])
def test_from_a_file_without_it(tmp_path: Path, content: bytes | None) -> None:
    """A missing, empty or undecodable file is a fault that quotes nothing of it."""
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        Secret.file(path)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
