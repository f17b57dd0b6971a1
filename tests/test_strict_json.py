"""Strict JSON: one reading, or none."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgate.strict_json import MAX_DEPTH, StrictJSONError, loads


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'{"a": [1, -2, 3.5, true, false, null, "x"]}', {"a": [1, -2, 3.5, True, False, None, "x"]}),
        (b' \t\r\n"text" ', "text"),
        (b"18446744073709551615", 2**64 - 1),
        (b"-9223372036854775808", -(2**63)),
        (b"-0", 0),
        (b"1e308", 1e308),
        ('"é😀"'.encode(), "é😀"),
        (rb'"\ud83d\ude00 \u0041 \\ud800"', "😀 A \\ud800"),
        (b'{"a": {"b": 1}, "c": {"b": 2}}', {"a": {"b": 1}, "c": {"b": 2}}),
        (b'"[[[[{{{{ \\" [[["', '[[[[{{{{ " [[['),
        (b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, None),
        (b"[" + b"[],{}," * 200 + b"[]]", None),
        (b'["' + b"[" * 500 + b'"]', None),
    ],
)
def test_what_has_one_reading_is_read(data: bytes, value: object) -> None:
    assert loads(data) == (json.loads(data) if value is None else value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"a": 1, "a": 2}', "a member is given twice"),
        (b'{"a": 1, "\\u0061": 2}', "a member is given twice"),
        (b'[{"x": {"b": 1, "b": 1}}]', "a member is given twice"),
        (b"\xef\xbb\xbf{}", "not valid JSON"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
        ('{"a": 1}'.encode("utf-16-le"), "not valid JSON"),
        ('{"a": 1}'.encode("utf-32-be"), "not valid JSON"),
        (b'"\xff"', "not UTF-8"),
        (b'"\xc0\xae"', "not UTF-8"),
        (b'"\xed\xa0\x80"', "not UTF-8"),
        (rb'"\ud800"', "a lone surrogate"),
        (rb'{"\uDFFFx": 1}', "a lone surrogate"),
        (rb'"\ude00\ud83d"', "a lone surrogate"),
        (b"NaN", "NaN is no JSON"),
        (b"-Infinity", "-Infinity is no JSON"),
        (b"[1e999]", "a number too large"),
        (b"18446744073709551616", "an integer outside of 64 bits"),
        (b"-9223372036854775809", "an integer outside of 64 bits"),
        (b"9" * 5000, "an integer outside of 64 bits"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "nested too deeply"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
        (b"[" * 100_000, "nested too deeply"),
        (b"", "not valid JSON"),
        (b" ", "not valid JSON"),
        (b"{} {}", "not valid JSON"),
        (b"{}x", "not valid JSON"),
        (b"{'a': 1}", "not valid JSON"),
        (b'{"a": 1,}', "not valid JSON"),
        (b"[1,]", "not valid JSON"),
        (b'{"a": 01}', "not valid JSON"),
        (b"// x\n{}", "not valid JSON"),
        (b'"a\nb"', "not valid JSON"),
        (b'"\\x"', "not valid JSON"),
        (b"\x0b{}", "not valid JSON"),
        (b"\xc2\xa0{}", "not valid JSON"),
        (b"{}\x00", "not valid JSON"),
    ],
)
def test_what_has_two_readings_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(StrictJSONError) as caught:
        loads(data)
    assert str(caught.value) == message


TEXT = st.text().filter(lambda text: not any("\ud800" <= character <= "\udfff" for character in text))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
)


@given(VALUES, st.booleans())
def test_all_that_json_can_say_can_be_read(value: object, escaped: bool) -> None:
    assert loads(json.dumps(value, ensure_ascii=escaped).encode()) == value


@given(st.binary(max_size=200) | st.text('[]{}",:0123456789.eE+-\\ufalsetrn NaIity', max_size=60).map(str.encode))
def test_no_bytes_raise_anything_else_or_are_read_otherwise_than_json_reads_them(data: bytes) -> None:
    try:
        value = loads(data)
    except StrictJSONError:
        return
    assert value == json.loads(data.decode())
