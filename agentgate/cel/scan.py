r"""Source text -> the same text with every literal blanked out, plus the literals.

cel-python's grammar then sees structure only: names, operators and brackets. Each literal is one `_`, padded with
blanks to its length, so that all offsets stay true. This keeps out of its lexer what that lexer cannot do: an
unterminated string costs it 2^n, `true` loses its position, `5.abs()` and the reserved words are misread, and
optional syntax (`a.?b`, `a[?b]`, `[?b]`) and quoted fields (`` a.`x-y` ``) are unknown to it. The marks are noted
here by offset and put back when the tree is built.

Every regular expression below is a union of disjoint alternatives: scanning is linear in the source.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import NoReturn

from agentgate.cel.errors import ParseError, problem
from agentgate.cel.limits import MAX_DEPTH, MAX_SOURCE
from agentgate.cel.values import INT_MAX, UINT_MAX, UInt

Constant = None | bool | int | UInt | float | str | bytes

_RESERVED = """
    as break const continue else false for function if import in let loop
    package namespace null return true var void while
"""
RESERVED = frozenset(_RESERVED.split())
"""Words that the language keeps for itself: never a variable, but allowed as a field (`a.if`)."""

_CONSTANT_WORDS: dict[str, Constant] = {"true": True, "false": False, "null": None}

_TOKEN = re.compile(
    r"""
    (?P<space> [\t\n\f\r\ ]+ | //[^\n]* )
  | (?P<raw>   [bB]?[rR] (?: \"{3}(?:[^"]|"(?!""))*\"{3} | '{3}(?:[^']|'(?!''))*'{3}
                           | "(?!"")[^"\r\n]*" | '(?!'')[^'\r\n]*' ) )
  | (?P<text>  [bB]?     (?: \"{3}(?:[^"\\]|\\.|"(?!""))*\"{3} | '{3}(?:[^'\\]|\\.|'(?!''))*'{3}
                           | "(?!"")(?:[^"\\\r\n]|\\[^\r\n])*" | '(?!'')(?:[^'\\\r\n]|\\[^\r\n])*' ) )
  | (?P<open_string> [bB]?[rR]?["'] )
  | (?P<float> (?: [0-9]+\.[0-9]+ (?:[eE][+-]?[0-9]+)? | [0-9]+[eE][+-]?[0-9]+ | \.[0-9]+(?:[eE][+-]?[0-9]+)? ) )
  | (?P<int>   (?: 0x[0-9a-fA-F]+ | [0-9]+ ) [uU]? )
  | (?P<word>  [_a-zA-Z][_a-zA-Z0-9]* )
  | (?P<quoted> `[-_a-zA-Z0-9./\ ]+` )
  | (?P<sign>  \|\| | && | [<>=!]= | [-+*/%<>!?:.,()\[\]{}] )
    """,
    re.VERBOSE | re.DOTALL,
)

_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\?\"'`])|[xX]([0-9a-fA-F]{2})|([0-3][0-7]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL
)
_CONTROL = dict(zip("abfnrtv", "\a\b\f\n\r\t\v", strict=True))


@dataclass(slots=True)
class Scanned:
    """What the grammar is given, and what was taken out of it. All keys are offsets into `text`."""

    text: str
    literals: dict[int, tuple[int, int, Constant]] = field(default_factory=dict)  # `_` -> start, end, value
    quoted: dict[int, str] = field(default_factory=dict)  # `_` -> the name inside backticks
    optional: dict[int, int] = field(default_factory=dict)  # token after a `?` mark -> where the mark was
    words: dict[int, int] = field(default_factory=dict)  # start of a word -> its end
    faults: list[tuple[str, int, int]] = field(default_factory=list)  # literals that cannot be: message, start, end


def scan(source: str) -> Scanned:
    """Blank out the literals of `source`. Raises ParseError for text that is no token, and past the limits."""
    if len(source) > MAX_SOURCE:
        raise ParseError([problem(f"expression longer than {MAX_SOURCE} characters", source[:80], 0, 1)])
    if (lone := re.search("[\ud800-\udfff]", source)) is not None:
        _refuse("unexpected surrogate", source.replace(lone[0], "\ufffd"), lone.start(), lone.end())
    result = Scanned(source)
    out = list(source)
    before, last, last_at = "", "", 0  # the signs before this token; "x" stands for any operand
    depth = 0
    mark: int | None = None
    position = 0
    while position < len(source):
        match = _TOKEN.match(source, position)
        if match is None:
            _refuse(f"unexpected character {source[position]!r}", source, position, position + 1)
        start, position = match.span()
        kind = match.lastgroup
        if kind == "space":
            out[start:position] = [c if c in "\r\n" else " " for c in match[0]]
            continue
        token = match[0]
        key = start
        if kind == "sign":
            if token == "?" and last in (".", "[", "{", ","):
                out[start], mark = " ", start
                continue
            if token in "([{":
                depth += 1
                if depth > MAX_DEPTH:
                    _refuse(f"brackets nested deeper than {MAX_DEPTH}", source, start, position)
            elif token in ")]}":
                depth -= 1
                if token != ")" and last == "," and before in ("x", ")", "]", "}"):
                    out[last_at] = " "  # `[1, 2,]`: a trailing comma is CEL, but not in the grammar
            before, last, last_at = last, token, start
        else:
            if kind == "open_string":
                _refuse("unterminated string", source, start, position)
            before, last, last_at = last, "x", start
            key = _blank(result, out, kind or "", token, start, position, source)
        if mark is not None:
            result.optional[key] = mark
            mark = None
    result.text = "".join(out)
    return result


def _blank(result: Scanned, out: list[str], kind: str, token: str, start: int, end: int, source: str) -> int:
    """Put `_` and blanks in place of a literal; the offset at which the grammar will see the token."""
    if kind == "word" and token not in _CONSTANT_WORDS:
        result.words[start] = end
        return start
    # A blank before the `_` keeps `in"a"` two tokens; the one after it, `"a"in`. A number cannot follow a letter.
    key = start if kind in ("int", "word") else start + 1
    out[start:end] = " " * (end - start)
    out[key] = "_"
    if end < len(source) and kind in ("int", "float") and (source[end].isalnum() or source[end] == "_"):
        _refuse("a number runs into a name", source, start, end + 1)
    if kind == "quoted":
        result.quoted[key] = token[1:-1]
    else:
        try:
            value = _CONSTANT_WORDS[token] if kind == "word" else _DECODE[kind](token)
        except ValueError as error:
            result.faults.append((str(error), start, end))
            value = None
        result.literals[key] = (start, end, value)
    return key


def _refuse(message: str, source: str, start: int, end: int) -> NoReturn:
    raise ParseError([problem(message, source, start, end)])


def _int(token: str) -> int:
    unsigned = token[-1] in "uU"
    digits = token[:-1] if unsigned else token
    # Checked by length before int(), which is quadratic. The sign is not here: 2^63 is allowed, for -2^63.
    if len(digits.lstrip("0x")) > 20:
        raise ValueError("integer out of range")
    value = int(digits, 16 if digits.startswith("0x") else 10)
    if value > (UINT_MAX if unsigned else INT_MAX + 1):
        raise ValueError("integer out of range")
    return UInt(value) if unsigned else value


def _raw(token: str) -> str | bytes:
    is_bytes = token[0] in "bB"
    body = _unquote(token[2:] if is_bytes else token[1:])
    return body.encode() if is_bytes else body


def _text(token: str) -> str | bytes:
    if token[0] in "bB":
        # Bytes: \x and octal are octets, every other character is its UTF-8.
        body = _unquote(token[1:])
        parts: list[bytes] = []
        end = 0
        for match in _ESCAPE.finditer(body):
            parts.append(body[end : match.start()].encode())
            parts.append(_escape(match, in_bytes=True).encode("latin-1"))
            end = match.end()
        return b"".join([*parts, body[end:].encode()])
    return _ESCAPE.sub(_escape, _unquote(token))


def _escape(match: re.Match[str], in_bytes: bool = False) -> str:
    simple, hexa, octal, short, long, other = match.groups()
    if simple:
        return _CONTROL.get(simple, simple)
    if other or (in_bytes and (short or long)):
        raise ValueError("unknown escape sequence")
    code = int(octal, 8) if octal else int(hexa or short or long, 16)
    if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
        raise ValueError("no such code point")
    return chr(code)


def _unquote(token: str) -> str:
    width = 3 if len(token) >= 6 and token[:3] == token[0] * 3 else 1
    # The lexer of the specification reads \r\n and \r inside a literal as written; so do we.
    return token[width:-width]


def _float(token: str) -> float:
    value = float(token)
    if value == math.inf:
        raise ValueError("double out of range")
    return value


_DECODE = {"int": _int, "float": _float, "raw": _raw, "text": _text}
