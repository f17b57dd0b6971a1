"""Which operands made an expression what it is, and where one failed."""

from typing import Any

import pytest

from agentgate import cel

DATA: dict[str, Any] = {"jwt": {"sub": "alice", "roles": ["dev"]}, "args": cel.UNKNOWN}


@pytest.mark.parametrize(
    ("source", "steps"),
    [
        ("jwt.sub == 'alice'", ["1:1 true: jwt.sub == 'alice'"]),
        ("jwt.sub", ["1:1 value: jwt.sub"]),
        ("[1].exists(i, i == 1 && true)", ["1:1 true: [1].exists(i, i == 1 && true)"]),
        # of `&&` and `||`: the operand that decided for all, or all of them
        ("true && jwt.sub == 'bob' && false", ["1:9 false: jwt.sub == 'bob'"]),
        ("true && jwt.sub == 'alice'", ["1:1 true: true", "1:9 true: jwt.sub == 'alice'"]),
        ("jwt.nope || 'dev' in jwt.roles", ["1:13 true: 'dev' in jwt.roles"]),
        (
            "(jwt.sub == 'bob' && true) ||\n'ops' in jwt.roles",
            ["1:2 false: jwt.sub == 'bob'", "2:1 false: 'ops' in jwt.roles"],
        ),
        # of what failed: the operand that did, and the place in it
        ("jwt.sub == 'bob' &&\n  ('dev' in jwt.roles || jwt.nope)", ["1:1 false: jwt.sub == 'bob'"]),
        ("true && jwt.nope == 1", ["1:13 no_such_key: jwt.nope == 1"]),
        ("false || jwt.sub < 1", ["1:18 no_overload: jwt.sub < 1"]),
        ("true && jwt.sub", ["1:9 value: jwt.sub"]),
        ("jwt.sub || jwt.nope", ["1:1 value: jwt.sub"]),
        ("jwt.nope.x || jwt.sub", ["1:5 no_such_key: jwt.nope.x"]),
        ("true && args.y", ["1:9 unknown: args.y"]),
        ("jwt.nope == 1 || args.y", ["1:18 unknown: args.y"]),
        # of `!` and `?:`: what they were given
        ("!(jwt.sub == 'alice')", ["1:3 true: jwt.sub == 'alice'"]),
        ("!jwt.nope", ["1:6 no_such_key: jwt.nope"]),
        ("!has(jwt.x) ? jwt.sub == 'a' : true", ["1:15 false: jwt.sub == 'a'"]),
        ("has(jwt.x) ? true : args.y", ["1:21 unknown: args.y"]),
        ("jwt.nope ? true : false", ["1:5 no_such_key: jwt.nope"]),
        ("jwt.sub ? true : false", ["1:1 value: jwt.sub"]),
    ],
)
def test_what_decided_is_listed_with_its_outcome(source: str, steps: list[str]) -> None:
    found = cel.compile(source).explain(DATA)
    assert [f"{s.line}:{s.column} {s.outcome}: {s.text}" for s in found] == steps
