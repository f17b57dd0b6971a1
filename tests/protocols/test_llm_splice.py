"""One member is changed, and not a byte of the rest."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgate.protocols.llm.apis import recognise
from agentgate.protocols.llm.body import renamed
from agentgate.protocols.llm.splice import with_member


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"model":"a"}', '{"model":"NEW"}'),
        (' {\n "x" : [1.50] ,\t"model" : "a" , "y": {"model": "a"} } ',
         ' {\n "x" : [1.50] ,\t"model" : "NEW" , "y": {"model": "a"} } '),
        ('{"\\u006dodel": "a"}', '{"\\u006dodel": "NEW"}'),
        ('{"x": "\\"model\\": 1", "model": {"a": [1, "}"]}}', '{"x": "\\"model\\": 1", "model": "NEW"}'),
        ('{"x": "\\ud83d\\ude00 \u00e9 \U0001f600", "model": null}',
         '{"x": "\\ud83d\\ude00 \u00e9 \U0001f600", "model": "NEW"}'),
        ("{}", '{"model":"NEW"}'),
        ("{ }", '{ "model":"NEW"}'),
        ('{"x": "}"}', '{"x": "}","model":"NEW"}'),
        ('{"x": 1}\n', '{"x": 1,"model":"NEW"}\n'),
    ],
)  # fmt: skip
def test_in_its_place_or_as_the_last_one(before: str, after: str) -> None:
    assert with_member(before.encode(), "model", "NEW") == after.encode()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
BLANKS = st.text(" \t\r\n", max_size=2)
NAMES = st.text().filter(lambda name: name != "model")


@given(st.data())
def test_any_document(data: st.DataObject) -> None:
    """Every byte outside of the one value stays."""

    def members() -> list[str]:
        pairs = data.draw(st.lists(st.tuples(NAMES, VALUES, st.booleans(), st.sampled_from([None, 1])), max_size=3))
        return [
            f"{blank()}{json.dumps(name, ensure_ascii=ascii_only)}{blank()}:{blank()}"
            f"{json.dumps(value, ensure_ascii=ascii_only, indent=indent)}{blank()}"
            for name, value, ascii_only, indent in pairs
        ]

    def blank() -> str:
        return data.draw(BLANKS)

    before, after, around = members(), members(), (blank(), blank())
    head = f'{blank()}"model"{blank()}:{blank()}'
    tail = blank()

    def document(value: str) -> bytes:
        return f"{around[0]}{{{','.join([*before, head + value + tail, *after])}}}{around[1]}".encode()

    old, new = data.draw(VALUES), data.draw(st.text(max_size=9))
    assert with_member(document(json.dumps(old)), "model", new) == document(json.dumps(new))


RENAMED: list[tuple[str, str, str]] = [
    ("/v1/chat/completions", '{"model": "m", "n": 1.50}', '{"model": "new", "n": 1.50}'),
    ("/openai/deployments/m/completions", '{"n": 1.50}', '{"n": 1.50}'),
    ("/openai/deployments/m/completions", '{"model": "m"}', '{"model": "new"}'),
    ("/v1beta/models/m:generateContent", '{"x": 1.50}', '{"x": 1.50}'),
    ("/v1beta/models/m:embedContent", '{"model": "models/m", "x": 1.50}', '{"model": "models/new", "x": 1.50}'),
    (
        "/v1beta/models/m:batchEmbedContents",
        '{"requests": [{"model": "models/m", "x": 1.5}, {"x": 2}]}',
        '{"requests": [{"model": "models/new", "x": 1.5}, {"x": 2}]}',
    ),
    (
        "/v1beta/models/m:countTokens",
        '{"generateContentRequest": {"model": "models/m"}}',
        '{"generateContentRequest": {"model": "models/new"}}',
    ),
]


@pytest.mark.parametrize(("path", "before", "after"), RENAMED)
def test_another_name_wherever_the_model_is_named(path: str, before: str, after: str) -> None:
    operation = recognise("POST", path)
    assert operation is not None
    assert renamed(before.encode(), operation, "new") == after.encode()
