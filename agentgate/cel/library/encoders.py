"""JSON, base64, URL and form encoding, digests: the encoders extension and what agentgateway adds to it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote_to_bytes

from agentgate import strict_json
from agentgate.cel.functions import Library
from agentgate.cel.library.core import bounded
from agentgate.cel.limits import MAX_LIST, MAX_WORK
from agentgate.cel.values import Fault, LimitFault, keys, kind, map_key, to_cel

_MAX_NESTING = 64


def _parse_json(text: str | bytes) -> Any:
    try:
        return to_cel(strict_json.loads(text.encode() if isinstance(text, str) else text), _MAX_NESTING, MAX_WORK * 8)
    except ValueError:
        raise Fault("conversion", "not JSON") from None


def _jsonable(value: Any, depth: int = _MAX_NESTING) -> Any:
    if depth < 0:
        raise LimitFault("limit", "value nested too deeply for JSON")
    name = kind(value)
    if name == "list":
        return [_jsonable(element, depth - 1) for element in value]
    if name == "map":
        return {_key(key): _jsonable(value[map_key(key)], depth - 1) for key in keys(value)}
    if name == "bytes":
        return base64.b64encode(value).decode()
    if name in ("google.protobuf.Timestamp", "google.protobuf.Duration"):
        return str(value)
    if name in ("bool", "int", "uint", "double", "string", "null_type"):
        return value
    raise Fault("conversion", "a value of this type has no JSON form")


def _key(key: Any) -> str:
    return key if key.__class__ is str else json.dumps(key)


def _to_json(value: Any) -> str:
    try:
        text = json.dumps(_jsonable(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError:
        raise Fault("conversion", "a double that is no number has no JSON form") from None
    return str(bounded(text))


def _base64_decode(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise Fault("conversion", "not base64") from None


def _decode(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Fault("conversion", "invalid UTF-8") from None


def _form_decode(text: str) -> dict[str, Any]:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MAX_LIST)
    except ValueError:
        raise Fault("conversion", "not a form") from None
    values: dict[str, list[str]] = {}
    for key, value in pairs:
        values.setdefault(key, []).append(value)
    return {key: found[0] if len(found) == 1 else found for key, found in values.items()}


def _form_encode(form: Any) -> str:
    parts = []
    for key in sorted(map(_key, keys(form))):
        value = form[key]
        for one in value if kind(value) == "list" else [value]:
            if one is not None:  # a null is left out
                parts.append(f"{quote_plus(key)}={quote_plus(one if one.__class__ is str else _to_json(one))}")
    return str(bounded("&".join(parts)))


def _digests() -> Library:
    def digest(name: str) -> Any:
        return lambda data: hashlib.new(
            name, data if data.__class__ is bytes else data.encode(), usedforsecurity=False
        ).hexdigest()

    return [
        (f"{name}.encode({t}) -> string", digest(name))
        for name in ("sha256", "sha1", "md5")
        for t in ("string", "bytes")
    ]


LIBRARY: Library = [
    ("json(string) -> dyn", _parse_json),
    ("json(bytes) -> dyn", _parse_json),
    ("toJson(dyn) -> string", _to_json),
    ("to_json(dyn) -> string", _to_json),
    ("base64.encode(bytes) -> string", lambda data: bounded(base64.b64encode(data).decode())),
    ("base64.encode(string) -> string", lambda text: bounded(base64.b64encode(text.encode()).decode())),
    ("base64.decode(string) -> bytes", _base64_decode),
    # agentgateway has these under both names, and in both forms.
    *(
        (form.format(name, t, result), call)
        for name, t, result, call in (
            ("base64Encode", "string", "string", lambda text: bounded(base64.b64encode(text.encode()).decode())),
            ("base64Encode", "bytes", "string", lambda data: bounded(base64.b64encode(data).decode())),
            ("base64Decode", "string", "bytes", _base64_decode),
        )
        for form in ("{0}({1}) -> {2}", "<{1}>.{0}() -> {2}")
    ),
    ("url.encode(string) -> string", lambda text: bounded(quote(text, safe=""))),
    ("url.decode(string) -> string", lambda text: _decode(unquote_to_bytes(text))),
    ("form.encode(map(string, dyn)) -> string", _form_encode),
    ("form.decode(string) -> map(string, dyn)", _form_decode),
    ("form.decode(bytes) -> map(string, dyn)", lambda data: _form_decode(_decode(data))),
    *_digests(),
]
