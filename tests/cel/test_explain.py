"""Which part of a rule was false or failed."""

from typing import Any

import pytest

from agentgate import cel

DATA: dict[str, Any] = {"jwt": {"sub": "alice", "roles": ["dev"]}, "args": cel.UNKNOWN}


@pytest.mark.parametrize(
    ("source", "steps"),
    [
        ("jwt.sub == 'alice'", ["0 1:1 true: jwt.sub == 'alice'"]),
        (
            'jwt.sub == "bob" &&\n  ("dev" in jwt.roles || jwt.nope)',
            [
                '0 1:1 false: jwt.sub == "bob" &&\n  ("dev" in jwt.roles || jwt.nope)',
                '1 1:1 false: jwt.sub == "bob"',
                '1 2:4 true: "dev" in jwt.roles || jwt.nope',
                '2 2:4 true: "dev" in jwt.roles',
                "2 2:26 no_such_key: jwt.nope",
            ],
        ),
        (
            "!has(jwt.x) ? args.y : jwt.sub",
            [
                "0 1:1 unknown: !has(jwt.x) ? args.y : jwt.sub",
                "1 1:1 true: !has(jwt.x)",
                "2 1:2 false: has(jwt.x)",
                "1 1:15 unknown: args.y",
                "1 1:24 value: jwt.sub",
            ],
        ),
        ("[1].exists(i, i == 1 && true)", ["0 1:1 true: [1].exists(i, i == 1 && true)"]),
    ],
)
def test_each_operand_is_listed_with_its_outcome(source: str, steps: list[str]) -> None:
    found = cel.compile(source).explain(DATA)
    assert [f"{s.depth} {s.line}:{s.column} {s.outcome}: {s.text}" for s in found] == steps
