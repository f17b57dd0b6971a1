"""Fuzz the expression language: whatever the text, it is refused or compiled, and gives a value or an error of the
language, soon.

Run as `python tests/fuzz/cel_source.py -max_total_time=60`; the options are libFuzzer's.
"""

from __future__ import annotations

import sys
from time import perf_counter

import atheris

with atheris.instrument_imports(include=["agentgate.cel"]):
    from agentgate import Request, cel
    from agentgate.context import READERS, VARIABLES, env_readers
    from agentgate.elsewhere import REASONS
    from agentgate.headers_view import FUNCTIONS

_TOKENS = r"""
    true false null 0 1 -1 2u 1.5 'a' "b" b'c' r'\d' '''d''' `x-y` x y jwt request mcp source apiKey llm a2a
    env backend
    .sub .path .headers .tool .name .arguments .x .?x [?0] [0] ['a'] . ( ) [ ] { } , : ? && || ! == != < <= > >= + - *
    / % in has( size( type( dyn( default( coalesce( json( toJson( matches( cidr( ip( duration( timestamp( string( int(
    .exists(x, .all(x, .map(x, .filter(x, .exists_one(x, .transformMap(k,v, .with(x, cel.bind(x, .split( .join(
    .replace( .contains( .startsWith( .matches( .regexReplace( .format( .containsIP( optional.of( .orValue(
    .optMap(x, .merge(
    .filterKeys(x, .mapValues(x, .flatten( base64.encode( url.decode( form.decode( sha256.encode( math.greatest(
    .cookie( .redacted( .raw( .query( ' " \ // 9223372036854775807 1e308
"""
TOKENS = [*_TOKENS.split(), "\n", "\t", "\x00", "\ud83d", "\U0001f431"]
REQUEST = Request.tool(
    "add", {"x": [1, {"a": "b"}]}, jwt={"sub": "a", "x": [1]}, api_key={"x": True}, headers=[("x", "a"), ("x", "b")]
)
DATA = {"x": [1, "a", {"b": 2.5}], "y": "aaa", "jwt": {"sub": "a", "x": None}, "request": {"path": "/a"}}
READ = {**READERS, **env_readers({})}
SECONDS = 2.0  # one text, compiled and evaluated twice; instrumented code is several times as slow


def one(data: bytes) -> None:
    """Try one text."""
    provider = atheris.FuzzedDataProvider(data)
    if provider.ConsumeBool():
        text = provider.ConsumeUnicode(4096)
    else:
        count = provider.ConsumeIntInRange(1, 60)
        text = " ".join(provider.PickValueInList(TOKENS) for _ in range(count))
    started = perf_counter()
    try:
        cel.compile(text, check=False).evaluate(DATA)
    except cel.CELError:
        pass
    try:
        cel.compile(text, variables=VARIABLES, functions=FUNCTIONS, reasons=REASONS, readers=READ).evaluate(REQUEST)
    except cel.CELError:
        pass
    if perf_counter() - started > SECONDS:
        raise TimeoutError(f"slow: {text!r}")


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
