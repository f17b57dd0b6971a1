"""YAML, read strictly: plain data, nothing given twice, and no fault quotes the text."""

from datetime import UTC, datetime
from typing import Any

import pytest

from agentgate import ConfigurationError
from agentgate.documents import load_yaml, load_yaml_documents


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 1", {"a": 1}),
        ("[a, b]", ["a", "b"]),
        ("a: {b: [c, {d: null}]}", {"a": {"b": ["c", {"d": None}]}}),
        ("a: 2030-01-01T00:00:00Z", {"a": datetime(2030, 1, 1, tzinfo=UTC)}),
        ("x: &x {a: 1}\ny: *x", {"x": {"a": 1}, "y": {"a": 1}}),
        ('"a": 1\n"b": 2', {"a": 1, "b": 2}),
        ("---\na: 1\n---\n", {"a": 1}),
    ],
)
def test_plain_data(text: str, value: Any) -> None:
    """Scalars, lists, mappings and anchors are data."""
    assert load_yaml(text) == value


def test_documents_know_their_lines() -> None:
    """Each document comes with the line it starts at; empty ones are left out."""
    assert list(load_yaml_documents("a: 1\n---\n# nothing\n---\n\nb: 2\n--- null\n--- c\n")) == [
        (1, {"a": 1}),
        (6, {"b": 2}),
        (8, "c"),
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "one YAML document is expected, not 0"),
        ("# nothing", "one YAML document is expected, not 0"),
        ("a\n---\nb", "one YAML document is expected, not 2"),
        ("hunter2: [", r"line 1, column 11: not valid YAML"),
        ("a: hunter2\n b: c", r"line 2, column 3: not valid YAML"),
        ("\thunter2", r"line 1, column 1: not valid YAML"),
        ("a: 1\na: 2", "line 2: a key given twice"),
        ("- x:\n    hunter2: 1\n    'hunter2': 2", "line 3: a key given twice"),
        ("x: &x {a: 1}\ny:\n  <<: *x", "line 3: a merge key"),
        ("a: !!python/object/apply:os.system [hunter2]", "line 1, column 4: not valid YAML"),
        ("a: !hunter2 b", "line 1, column 4: not valid YAML"),
        ("? [a]\n: hunter2", "not valid YAML"),
        ("? {a: b}\n: hunter2", "not valid YAML"),
        ("a: *hunter2", "line 1, column 4: not valid YAML"),
        ("a: 2030-99-99", "not valid YAML"),
        ("\x00hunter2", "not valid YAML"),
        ("[" * 5000, "not valid YAML"),
    ],
)
def test_faults_are_told_without_the_text(text: str, fault: str) -> None:
    """A fault says where it is, and repeats nothing: the text may hold secrets."""
    with pytest.raises(ConfigurationError, match=fault) as caught:
        load_yaml(text)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
