"""Regular expressions: RE2 only, so that time is linear in the text whatever the pattern.

google-re2 is imported when the first pattern is compiled. Its compiled object is asked directly, since its `search`
translates offsets that nobody reads.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from agentgate.cel.cost import search_cost
from agentgate.cel.functions import Library
from agentgate.cel.library.core import bounded
from agentgate.cel.limits import MAX_PATTERN
from agentgate.cel.values import Fault


@lru_cache(maxsize=128)  # patterns that are not literals; those that are, are compiled with the expression
def compile_pattern(pattern: str) -> Any:
    """A compiled RE2 pattern. Raises Fault for one that RE2 refuses or that is longer than MAX_PATTERN."""
    import re2  # type: ignore[import-untyped]

    if len(pattern) > MAX_PATTERN:
        raise Fault("pattern", f"pattern longer than {MAX_PATTERN}")
    options = re2.Options()
    options.log_errors = False  # it would write the pattern to stderr
    try:
        return re2.compile(pattern, options)
    except re2.error:
        raise Fault("pattern", "not a regular expression of RE2") from None


class Searcher(NamedTuple):
    """What `matches` asks: whether the pattern is found anywhere in a text. `size` counts RE2's instructions."""

    search: Callable[[str], bool]
    size: int


def searcher(pattern: str) -> Searcher:
    """The Searcher of a pattern. Raises Fault as compile_pattern."""
    import re2

    compiled = compile_pattern(pattern)
    try:
        match, anywhere = compiled._regexp.Match, re2._Anchor.UNANCHORED
    except AttributeError:  # a later google-re2 may name its parts differently
        return Searcher(lambda text: compiled.search(text) is not None, compiled.programsize)

    def search(text: str) -> bool:
        data = text.encode()
        return bool(match(anywhere, data, 0, len(data))[0][0] >= 0)

    return Searcher(search, compiled.programsize)


def pattern_cost(literal: bool, text: Any, pattern: Any, *_: Any) -> int:
    """The steps of a search that was not compiled with the expression. A pattern that is no literal may be new."""
    if text.__class__ is not str or pattern.__class__ is not str:
        return 0
    return (0 if literal else 200) + search_cost(text, compile_pattern(pattern).programsize)


def _matches(text: str, pattern: str) -> bool:
    return searcher(pattern).search(text)


def _replace_first(text: str, pattern: str, replacement: str) -> str:
    # `$1`, `${1}` and `$name` name groups, `$$` is a dollar, as in the Rust and Go engines.
    found = compile_pattern(pattern).search(text)
    if found is None:
        return text
    return str(bounded(text[: found.start()] + _expand(found, replacement) + text[found.end() :]))


def _expand(found: Any, replacement: str) -> str:
    import re

    groups = found.groupdict()

    def group(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name is None:
            return "$"
        if name.isdigit():
            return (found.group(int(name)) or "") if len(name) < 4 and int(name) <= found.re.groups else ""
        return groups.get(name) or ""

    return re.sub(r"\$(?:\{([0-9A-Za-z_]+)\}|([0-9A-Za-z_]+)|\$)", group, replacement)


LIBRARY: Library = [
    ("<string>.matches(string) -> bool", _matches),
    ("matches(string, string) -> bool", _matches),
    ("<string>.regexReplace(string, string) -> string", _replace_first),
]
