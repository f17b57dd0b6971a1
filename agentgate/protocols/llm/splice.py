"""Changing one member of a JSON document, and not a byte of the rest."""

import json
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any, Final

_BLANKS: Final = " \t\r\n"
_raw_decode: Final = json.JSONDecoder().raw_decode


def with_member(document: bytes, name: str, value: Any) -> bytes:
    """The document, which is a JSON object that has been read strictly, with this member set to `value`: in its place,
    or as the last one. Whatever else is in it stays as it was written."""
    text = document.decode()
    written = json.dumps(value)
    span = _span(text, name)
    if span is not None:
        return (text[: span[0]] + written + text[span[1] :]).encode()
    end = text.rindex("}")
    comma = "" if text[:end].rstrip(_BLANKS).endswith("{") else ","
    return (text[:end] + f"{comma}{json.dumps(name)}:{written}" + text[end:]).encode()


def _span(text: str, wanted: str) -> tuple[int, int] | None:
    """From where to where the value of an outermost member stands."""
    at = _skip(text, text.index("{") + 1)
    while text[at] == '"':
        name, at = scanstring(text, at + 1, True)
        start = _skip(text, _skip(text, at) + 1)  # behind the colon
        _, end = _raw_decode(text, start)
        if name == wanted:
            return start, end
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return None


def _skip(text: str, at: int) -> int:
    while text[at] in _BLANKS:
        at += 1
    return at
