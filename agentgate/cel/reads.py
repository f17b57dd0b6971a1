"""Which variables an expression reads, so that a caller fetches no more, and which reads are not guarded."""

from __future__ import annotations

from typing import NamedTuple

from agentgate.cel.tree import Name, Node, Select, children
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
