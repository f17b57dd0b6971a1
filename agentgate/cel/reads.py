"""Which variables an expression reads, so that a caller fetches no more, and which reads are not guarded."""

from __future__ import annotations

from typing import Final, NamedTuple

from agentgate.cel.tree import Call, ListNode, Literal, MapNode, Name, Node, Select, children, path_of, walk
from agentgate.cel.types import Struct


class Reads(NamedTuple):
    """Dotted paths. `unguarded`: fields that may be absent (`body?`) and are read without a has()."""

    paths: frozenset[str]
    unguarded: frozenset[str]


def reads(root: Node) -> Reads:
    """The paths that a checked expression reads, as long as they are written: `request.body`, `jwt.sub`, also
    `request["body"]`.
    """
    paths: set[str] = set()
    asked: set[str] = set()
    absent: set[str] = set()
    pending = [root]
    while pending:
        node = pending.pop()
        chain: list[Select] = []
        while isinstance(node, Select) and node.ref is None:
            chain.append(node)
            node = node.operand
        pending.extend(children(node))
        if not isinstance(node, Name | Select) or not isinstance(node.ref, str):
            continue
        path = node.ref
        for select in reversed(chain):
            if not select.field.isidentifier():
                break  # a path is words: `jwt["a.b"]` is reported as `jwt`
            path = f"{path}.{select.field}"
            if select.test or select.optional:
                asked.add(path)
            elif isinstance(select.operand.type, Struct) and select.field in select.operand.type.absent:
                absent.add(path)
        paths.add(path)
    return Reads(frozenset(paths), frozenset(absent - asked))


_COMPARISONS: Final = ("_==_", "_!=_", "@in")


def compared(root: Node, path: str) -> frozenset[str]:
    """The texts that a checked expression compares `path` with, alone, in a list or as keys of a map."""
    found: list[Node] = []
    for node in walk(root):
        if isinstance(node, Call) and node.function in _COMPARISONS:
            left, right = node.args
            if path_of(left) == path:
                found.append(right)
            elif path_of(right) == path:
                found.append(left)
    texts: set[str] = set()
    for node in found:
        match node:
            case ListNode(items=items):
                several = items
            case MapNode(entries=entries):
                several = [key for key, _ in entries]
            case _:
                several = [node]
        texts.update(one.value for one in several if isinstance(one, Literal) and isinstance(one.value, str))
    return frozenset(texts)
