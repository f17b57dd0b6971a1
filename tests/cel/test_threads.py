"""Programs may be shared: evaluation keeps everything in local variables."""

import sys
import threading
from typing import Any

from agentgate import cel

EVALUATIONS = 1_000_000
THREADS = 8


def test_eight_threads_over_two_programs_get_no_wrong_answer() -> None:
    programs = [
        cel.compile('jwt.roles.exists(r, r == "admin") && jwt.sub != "mallory" || jwt.gone == 1 && false'),
        cel.compile('jwt.roles.filter(r, r.startsWith("ad")).map(r, jwt.sub + r)'),
    ]
    users: list[tuple[Any, list[Any]]] = [
        ({"jwt": {"sub": "alice", "roles": ["dev", "admin"]}}, [True, ["aliceadmin"]]),
        ({"jwt": {"sub": "mallory", "roles": ["dev", "admin"]}}, [False, ["malloryadmin"]]),
        ({"jwt": {"sub": "bob", "roles": []}}, [False, []]),
    ]
    wrong: list[Any] = []
    done = [0] * THREADS

    def run(thread: int) -> None:
        for i in range(EVALUATIONS // THREADS):
            data, expected = users[(i + thread) % 3]
            program = (i + thread) % 2
            found = programs[program].evaluate(data)
            if found != expected[program]:
                wrong.append((data, found))
            done[thread] += 1

    _in_threads(run)
    assert sum(done) == EVALUATIONS
    assert wrong == []


def test_threads_may_compile_at_the_same_time() -> None:
    wrong: list[Any] = []

    def run(thread: int) -> None:
        for i in range(20):
            found = cel.compile(f"[{thread}, {i}].map(x, x + {thread})").evaluate({})
            if found != [2 * thread, i + thread]:
                wrong.append(found)

    _in_threads(run)
    assert wrong == []


def _in_threads(run: Any) -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=run, args=(thread,)) for thread in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)


def test_a_function_may_evaluate_another_program() -> None:
    inner = cel.compile("[1, 2].map(x, x * y)")
    outer = cel.compile("[1, 2].map(x, f(x))", functions={"f(int) -> list(int)": lambda y: inner.evaluate({"y": y})})
    assert outer.evaluate({}) == [[1, 2], [2, 4]]
