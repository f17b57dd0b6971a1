"""What several MCP servers say, as one server's words: lists, cursors, capabilities, and names in results.

Messages are plain JSON objects here, and what nothing has to be done about stays as it came. Nothing is decided: what
a caller may see of a merged list is the Gate's to say, which reads it like any other.
"""

import json
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from ...auth.base64url import decode
from ...protocols.json_rpc import INVALID_PARAMS, RPCFault
from ...protocols.mcp.methods import Kind
from ...protocols.mcp.targets import Targets

Message = dict[str, Any]

UNAVAILABLE: Final = "agentgate/unavailable"
"""In `_meta` of what was merged: the targets that are missing in it."""

MAX_CURSOR: Final = 2048  # characters of one target's cursor
MAX_CURSORS: Final = 65536  # characters of ours, which holds one of each target

_CACHING: Final = ("ttlMs", "cacheScope")  # members of 2026-07-28, as is `resultType`
_REWRITTEN: Final = ("listChanged", "subscribe")


class Listed(NamedTuple):
    """What a list method lists: the member of its result, and the member of each item that names it."""

    member: str
    kind: Kind
    name: str
    capability: str


LISTS: Final[Mapping[str, Listed]] = {
    "tools/list": Listed("tools", "tool", "name", "tools"),
    "prompts/list": Listed("prompts", "prompt", "name", "prompts"),
    "resources/list": Listed("resources", "resource", "uri", "resources"),
    "resources/templates/list": Listed("resourceTemplates", "resource", "uriTemplate", "resources"),
}


def merged_list(
    method: str, pages: Mapping[str, Mapping[str, Any]], failed: Iterable[str], targets: Targets
) -> Message:
    """One page of a list: one page of each target that has (more) items, in their order, and a cursor for the rest."""
    listed = LISTS[method]
    items: list[Any] = []
    cursors: dict[str, str] = {}
    missing = set(failed)
    for target in targets.names:
        page = pages.get(target)
        if page is None:
            continue
        found = page.get(listed.member)
        if isinstance(found, list):
            items += [shown_item(item, listed, target, targets) for item in found if _is_named(item, listed)]
        cursor = page.get("nextCursor")
        if isinstance(cursor, str):
            if len(cursor) <= MAX_CURSOR:
                cursors[target] = cursor
            else:
                missing.add(target)
    result: Message = {listed.member: items}
    if cursors:
        result["nextCursor"] = written_cursor(cursors)
    return with_missing(result, missing)


def with_missing(result: Message, failed: Iterable[str]) -> Message:
    """A merged result that says which targets are missing in it."""
    names = sorted(failed)
    return {**result, "_meta": {**(result.get("_meta") or {}), UNAVAILABLE: names}} if names else result


def _is_named(item: Any, listed: Listed) -> bool:
    return isinstance(item, dict) and isinstance(item.get(listed.name), str)


def shown_item(item: Message, listed: Listed, target: str, targets: Targets) -> Message:
    """An item of a list by the name that clients see."""
    shown = {**item, listed.name: targets.shown(listed.kind, target, item[listed.name])}
    meta = item.get("_meta")
    ui = meta.get("ui") if isinstance(meta, dict) else None
    if isinstance(ui, dict) and isinstance(ui.get("resourceUri"), str):  # of MCP Apps: what shows the tool's result
        uri = targets.shown("resource", target, ui["resourceUri"])
        shown["_meta"] = {**item["_meta"], "ui": {**ui, "resourceUri": uri}}
    return shown


# -- cursors ---------------------------------------------------------------------------------------------------------


def written_cursor(cursors: Mapping[str, str]) -> str:
    """The cursors of those targets that have more, as one. It is no secret: each of them is the target's own word."""
    return urlsafe_b64encode(json.dumps(cursors).encode()).rstrip(b"=").decode()


def read_cursor(params: Mapping[str, Any], targets: Targets) -> Mapping[str, str | None]:
    """Which targets to ask for a page, and from which cursor on. Raises `RPCFault`."""
    cursor = params.get("cursor")
    if cursor is None:
        return dict.fromkeys(targets.names)
    try:
        if not isinstance(cursor, str) or len(cursor) > MAX_CURSORS:
            raise ValueError
        found = json.loads(decode(cursor.encode("ascii")))
    except (ValueError, RecursionError):
        raise RPCFault(INVALID_PARAMS, "Invalid cursor") from None
    if not isinstance(found, dict) or not found or not set(found) <= set(targets.names):
        raise RPCFault(INVALID_PARAMS, "Invalid cursor")
    if not all(isinstance(value, str) and len(value) <= MAX_CURSOR for value in found.values()):
        raise RPCFault(INVALID_PARAMS, "Invalid cursor")
    return found


# -- what the one server says of itself ------------------------------------------------------------------------------


def merged_capabilities(all_of_them: Iterable[Mapping[str, Any]]) -> Message:
    """What any of the targets can do, of what goes through here."""
    merged: dict[str, dict[str, bool]] = {}
    for capabilities in all_of_them:
        for name in ("tools", "prompts", "resources", "completions", "logging"):
            found = capabilities.get(name)
            if isinstance(found, dict):
                mine = merged.setdefault(name, {})
                mine.update({member: True for member in _REWRITTEN if found.get(member) is True})
    return dict(merged)


def merged_instructions(each: Mapping[str, str | None]) -> str | None:
    """The targets' instructions, each under its name."""
    blocks = [f"[{target}]\n{text}" for target, text in each.items() if text]
    return "\n\n".join(blocks) or None


# -- names in results ------------------------------------------------------------------------------------------------


def shown_result(method: str, result: Message, target: str, targets: Targets) -> Message:
    """A result with the URIs that clients see, so that they can read what it speaks of."""
    if len(targets.names) < 2:
        return result

    def block(content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        if content.get("type") == "resource_link":
            return with_uri(content)
        if content.get("type") == "resource" and "resource" in content:
            return {**content, "resource": with_uri(content["resource"])}
        return content

    def with_uri(holder: Any) -> Any:
        if not isinstance(holder, dict) or not isinstance(holder.get("uri"), str):
            return holder
        return {**holder, "uri": targets.shown("resource", target, holder["uri"])}

    def message(one: Any) -> Any:
        return {**one, "content": block(one["content"])} if isinstance(one, dict) and "content" in one else one

    each = {
        "tools/call": ("content", block),
        "prompts/get": ("messages", message),
        "resources/read": ("contents", with_uri),
    }
    member, change = each.get(method, ("", block))
    found = result.get(member)
    return {**result, member: [change(one) for one in found]} if isinstance(found, list) else result


def in_era(method: str, result: Message, *, modern: bool) -> Message:
    """A result with the members that its revision wants, and without those that it does not know."""
    if not modern:
        return {name: value for name, value in result.items() if name not in _CACHING and name != "resultType"}
    result = {**result}
    result.setdefault("resultType", "complete")
    if method in LISTS or method in ("resources/read", "server/discover"):
        result.setdefault("ttlMs", 0)
        result.setdefault("cacheScope", "private")
    return result
