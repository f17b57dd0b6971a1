"""Denials without effect, end to end: in the trail, in the log, in an explanation; never in what the client gets."""

import json
from typing import Any

import pytest

from agentgate import (
    AccessLog,
    APIKeyAuth,
    Authorizer,
    CELRules,
    Decision,
    Gate,
    Key,
    Request,
    allow,
    authorizer,
    deny,
    new_key,
    shadow,
)
from agentgate.observe.fields import MAX_SHADOW, MAX_VALUE
from agentgate.testing import Recorder, drive, http_scope

pytestmark = pytest.mark.anyio

KEY = new_key()
RULES = CELRules(deny={"nobody drops": 'request.path == "/drop"'})
ALLOWED = CELRules(allow=['request.path == "/other"'])


@authorizer
def closed(request: Request) -> Decision:
    return deny("closed")


@authorizer
def broken(request: Request) -> Decision:
    raise ValueError("hunter2")


@authorizer
def opened(request: Request) -> Decision:
    return allow()


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


async def logged(*authorize: Authorizer, expect: int = 200, **options: Any) -> dict[str, Any]:
    lines: list[str] = []
    gate = Gate(hello, authorize=authorize, observe=[AccessLog(lines.append, format="json", **options)])
    assert (await drive(gate, http_scope("GET", "/drop"))).status == expect
    found = json.loads(lines[0])
    return {name: value for name, value in found.items() if name.startswith("shadow.") or name in ("rule", "error")}


@pytest.mark.parametrize(
    ("policies", "found"),
    [
        ([RULES], {"shadow.policy": "CELRules", "shadow.rule": "nobody drops"}),
        ([ALLOWED], {"shadow.policy": "CELRules", "shadow.detail": "none of 1 allow rules matched"}),
        ([closed], {"shadow.policy": "closed", "shadow.detail": "closed"}),
        ([opened], {}),
        (
            [RULES, closed],
            {
                "shadow.policy": ["CELRules", "closed"],
                "shadow.rule": ["nobody drops", None],
                "shadow.detail": [None, "closed"],
            },
        ),
        ([RULES, RULES, opened], {"shadow.policy": "CELRules", "shadow.rule": "nobody drops"}),
    ],
)
async def test_what_a_shadow_would_have_refused_is_in_the_log(
    policies: list[Authorizer], found: dict[str, Any]
) -> None:
    """Policy, rule and why; lists in one order where there are several. The client gets the app's answer."""
    assert await logged(*map(shadow, policies)) == found


async def test_a_shadow_that_fails_is_told_without_its_message() -> None:
    found = await logged(shadow(broken))
    assert found["shadow.policy"] == "broken"
    assert "ValueError at test_shadows.py" in found["shadow.detail"]
    assert "hunter2" not in str(found)


async def test_what_refuses_is_told_beside_it() -> None:
    """The enforced rule under its own name, the shadow's under another."""
    enforced = CELRules(deny={"closed": "true"})
    found = await logged(shadow(RULES), enforced, expect=403)
    assert found == {
        "error": "authorization failed",
        "rule": "closed",
        "shadow.policy": "CELRules",
        "shadow.rule": "nobody drops",
    }


async def test_it_is_never_filtered_away() -> None:
    """The reason to watch a rule is to count what it would refuse."""
    assert await logged(shadow(RULES), filter="false") == {"shadow.policy": "CELRules", "shadow.rule": "nobody drops"}


async def test_many_are_bounded() -> None:
    rules = [CELRules(deny={f"{n} {'x' * 200}": "true"}) for n in range(MAX_SHADOW * 2)]
    found = await logged(*map(shadow, rules))
    assert len(found["shadow.policy"]) == MAX_SHADOW
    assert found["shadow.rule"][-1] == "..."
    assert len("".join(found["shadow.rule"])) <= MAX_VALUE + 8


async def test_a_bad_key_that_permissive_mode_lets_pass_is_told_as_well() -> None:
    lines: list[str] = []
    recorder = Recorder()
    auth = APIKeyAuth([Key("alice", KEY)])
    gate = Gate(hello, authenticate=[auth], mode="permissive", observe=[AccessLog(lines.append), recorder])
    exchange = await drive(gate, http_scope(headers={"authorization": f"Bearer {new_key()}"}))
    assert exchange.status == 200
    assert lines[0].endswith('shadow.policy=APIKeyAuth shadow.detail="unknown key"')
    assert [(d.effect, d.enforced) for d in recorder.last.trail] == [("deny", False)]


async def test_as_text_it_is_a_field_like_any_other() -> None:
    lines: list[str] = []
    gate = Gate(hello, authorize=[shadow(RULES), shadow(closed)], observe=[AccessLog(lines.append)])
    await drive(gate, http_scope("GET", "/drop"))
    assert lines[0].endswith(
        r'shadow.policy="[\"CELRules\",\"closed\"]" shadow.rule="[\"nobody drops\",null]"'
        r' shadow.detail="[null,\"closed\"]"'
    )


@pytest.mark.parametrize("every", [False, True])
def test_explain_shows_it(every: bool) -> None:
    """As a denial that is not enforced, before what stands; with `every`, rule by rule."""
    gate = Gate(hello, authorize=[shadow(RULES), opened])
    told = gate.explain(Request.http("GET", "/drop"), every=every)
    assert [(d.effect, d.rule, d.enforced) for d in told[:1]] == [("deny", "nobody drops", False)]
    assert told[-1].effect == "allow"
    assert [v.rule for v in told[0].verdicts] == (["nobody drops"] if every else [])
