"""The slowest evaluations that the limits let through, for an author who tries and a client who sends what hurts most.

Run as `python tests/bench/cel_worst.py`. Sources are within 16 KiB, texts within the 2 MiB of a body.
"""

from __future__ import annotations

import gc
import random
import statistics
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

from agentgate import cel

DATA: dict[str, Any] = {
    "s": "a" * 65_536,
    "ab": "".join(random.Random(1).choices("ab", k=65_536)),
    "body": "ab" * 2**20,
    "l": list(range(10_000)),
    "texts": ["a" * 60] * 10_000,
    "half": list(range(5_000)),
    "n": list(range(100)),
    "deep": [[[i] * 10 for i in range(30)] for _ in range(30)],
    "maps": [{"k": i} for i in range(2_000)],
    "m": {str(i): i for i in range(9_000)},
    "pairs": "a=b&" * 9_999,
    "v": {"a": list(range(9_000))},
    "doc": "[" + ",".join('{"a":[1,2]}' for _ in range(2_400)) + "]",
    "wide": "[" + ",".join(["1"] * 1_000_000) + "]",
}


def fill(part: str, joiner: str, end: str = "", size: int = 16_000) -> str:
    """As many copies of a part as a source may hold."""
    return joiner.join([part] * (size // (len(part) + len(joiner)))) + end


WORST: dict[str, str] = {
    "a long loop, a short body": "l.all(x, x >= 0)",
    "failing operands in a loop": "l.exists(x, x.a == 1 || x.b == 1)",
    "more failing operands in a shorter loop": "half.exists(x, x.a == 1 || x.b == 1 || x.c == 1)",
    "failing operands, as many as fit": fill("n.x == 1", " || "),
    "a long body": "l.all(x, x + x + x + x + x >= 0)",
    "a heavy body": "n.all(x, " + fill("x * x + 1 >= 0", " && ", size=1_400) + ")",
    "nested loops": "n.all(a, n.all(b, a + b >= 0))",
    "a map of a map": "l.map(x, {x: [x]}).size() > 0",
    "texts in a loop": "texts.all(t, t.contains('b') || t.startsWith('a'))",
    "splitting in a loop": "texts.all(t, t.split('').size() == 60)",
    "a small pattern in a loop": "texts.all(t, !t.matches('^(a|b)+c$'))",
    "a small pattern in a loop that may be": "n.all(x, !texts[x].matches('[ab]*c'))",
    "a greedy pattern, a long text": "ab.matches('[ab]*a[ab]{15}c')",
    "a huge pattern, a long text": "s.matches('((a|b|c|d|e){0,10}){0,80}x')",
    "a huge pattern, a text as long as may be": "s.substring(0, 740).matches('((a|b|c|d|e){0,10}){0,80}x')",
    "many patterns over a text": fill("ab.matches('[ab]*a[ab]{15}c')", " || "),
    "many patterns over short texts": fill("ab.substring(0, 100).matches('[ab]*a[ab]{9}c')", " || "),
    "patterns made on the way": "n.exists(x, s.substring(0, 300).matches('(a?){20}b' + string(x)))",
    "looking for a text in a body": fill("body.contains('abb')", " || "),
    "a body compared": fill("body + 'x' == body", " || "),
    "a deep list compared": fill("deep == deep", " && "),
    "a deep list compared in a loop": "n.all(x, deep == deep)",
    "a value that holds itself many times over": "[1, 1]"
    + "".join(f".with(a{i}, [a{i}, a{i}]" for i in range(20))
    + ".with(z, z == z)"
    + ")" * 20,
    "a list searched": fill("(-1 in l)", " || "),
    "a list searched in a loop": "n.exists(x, -1 in l)",
    "a map made": "m.transformMap(k, v, v + 1).size() == 9000",
    "JSON read": "json(doc).size() == 2400",
    "JSON of a million values": "json(wide).size() == 1",
    "JSON written": "toJson(maps).size() > 0",
    "JSON written many times": fill("toJson(maps) == ''", " || "),
    "replacing": fill("s.replace('a', 'b').size() == 0", " || "),
    "digests": fill("sha256.encode(s) == ''", " || "),
    "formatting": fill("'%s'.format([deep]) == ''", " || "),
    "decoding forms": fill("form.decode(pairs).size() == 0", " || "),
    "decoding short forms in a loop": "n.all(x, form.decode(pairs.substring(0, 250)).size() > 0)",
    "quoting": fill("strings.quote(s) == ''", " || "),
    "an argument read again and again": fill("v.a == 1", " || "),
    "joining": fill("texts.join('').size() == 1", " || "),
    "encoding": fill("url.encode(s) == ''", " || "),
    "durations": "duration(s) == duration('1s')",
}


def measure(rounds: int = 5) -> Iterator[tuple[str, float, str]]:
    """What each of them takes, in seconds, and how it ends."""
    for name, source in WORST.items():
        run: Callable[[Any], Any] = cel.compile(source).evaluate
        times = []
        outcome = ""
        for _ in range(rounds):
            gc.collect()
            start = perf_counter()
            try:
                outcome = str(run(DATA)).lower()
            except cel.EvaluationError as error:
                outcome = error.kind
            times.append(perf_counter() - start)
        yield name, statistics.median(times), outcome


def main() -> None:
    """Print the table."""
    print("| what | ms | outcome |\n|---|---|---|")
    for name, seconds, outcome in sorted(measure(), key=lambda row: -row[1]):
        print(f"| {name} | {seconds * 1000:.1f} | {outcome} |")


if __name__ == "__main__":
    main()
