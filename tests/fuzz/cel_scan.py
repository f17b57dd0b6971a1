"""Fuzz the guard in front of cel-python's parser: what it lets through keeps its length and holds no literal.

Run as `python tests/fuzz/cel_scan.py -max_total_time=60`; the options are libFuzzer's.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["agentgate.cel"]):
    from agentgate.cel import ParseError
    from agentgate.cel.scan import scan


def one(data: bytes) -> None:
    """Try one text."""
    text = atheris.FuzzedDataProvider(data).ConsumeUnicode(20_000)
    try:
        scanned = scan(text)
    except ParseError:
        return
    assert len(scanned.text) == len(text)  # offsets stay true
    assert not set(scanned.text) & set("\"'`\\"), "a literal got through to the grammar"
    for at, (start, end, _) in scanned.literals.items():
        assert start <= at < end
        assert scanned.text[at] == "_"


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
