"""Lists of models, with those left out that the caller may not use."""

import json
from collections.abc import Callable
from typing import Any, Final

from ...strict_json import StrictJSONError, loads

MAX_LIST: Final = 4 * 1024 * 1024  # bytes of a list; it is the one answer that is held back

MayUse = Callable[[str], bool]


class NotAList(ValueError):
    """The answer is not a list of models in any shape that is known, so nothing can be left out of it."""


def filtered(body: bytes, may_use: MayUse) -> bytes:
    """The list without the models that the caller may not use, all other members of it kept. Raises `NotAList`."""
    try:
        document = loads(body)
    except StrictJSONError as exc:
        raise NotAList(str(exc)) from None
    if not isinstance(document, dict):
        raise NotAList("no JSON object")
    shapes = [(member, name) for member, name in _SHAPES if member in document]
    if len(shapes) != 1 or not isinstance(document[shapes[0][0]], list):
        raise NotAList("no list of models, or several")
    member, name = shapes[0]
    listed = document[member]
    left = [item for item in listed if _may(item, name, may_use)]
    if len(left) == len(listed):
        return body
    document[member] = left
    if left:
        # Anthropic's cursors are names of models. Those of models that are shown lead on just as well; where a page
        # has none, only the provider's own do.
        for cursor, item in (("first_id", left[0]), ("last_id", left[-1])):
            if cursor in document:
                document[cursor] = item[name]
    elif document.get("has_more") is not True:
        document.update({cursor: None for cursor in ("first_id", "last_id") if cursor in document})
    return json.dumps(document).encode()


_SHAPES: Final = (("data", "id"), ("models", "name"))  # of OpenAI and Anthropic; of Google


def _may(item: Any, name: str, may_use: MayUse) -> bool:
    model = item.get(name) if isinstance(item, dict) else None
    if not isinstance(model, str):
        return False
    return may_use(model.removeprefix("models/") if name == "name" else model)
