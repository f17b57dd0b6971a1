"""Tests of a posture, as a user writes them: `pytest policy_test.py`. No server is started and nothing waits."""

import pytest

from agentgate import APIKeyAuth, Decision, Gate, Request, StaticKeys, allow, authorizer, deny, new_key

KEY = new_key()
ENGINEER, ANALYST = {"name": "alice", "group": "eng"}, {"name": "bob", "group": "ops"}


@authorizer
def engineers_write(request: Request) -> Decision:
    if request.method == "GET" or (request.api_key or {}).get("group") == "eng":
        return allow()
    return deny(rule="only engineers write")


@authorizer
def nobody_drops(request: Request) -> Decision:
    if request.call is not None and request.call.tool == "drop_table":
        return deny(rule="nobody drops")
    return allow()


GATE = Gate(authenticate=[APIKeyAuth(StaticKeys({"alice": KEY}))], authorize=[engineers_write, nobody_drops])


@pytest.mark.parametrize(
    ("request_", "refused_by"),
    [
        (Request.http("GET", "/reports", api_key=ANALYST), None),
        (Request.http("POST", "/reports", api_key=ANALYST), "only engineers write"),
        (Request.http("POST", "/reports", api_key=ENGINEER), None),
        (Request.tool("get_weather", api_key=ENGINEER), None),
        (Request.tool("drop_table", {"table": "users"}, api_key=ENGINEER), "nobody drops"),
    ],
)
def test_who_may_do_what(request_: Request, refused_by: str | None) -> None:
    last = GATE.explain(request_)[-1]
    assert last.rule == refused_by
    assert last.effect == ("allow" if refused_by is None else "deny")


@pytest.mark.parametrize(
    ("authorization", "status"), [("", 401), ("Bearer wrong", 401), (f"Bearer {KEY}", 200), (f"Basic {KEY}", 401)]
)
def test_who_is_let_in(authorization: str, status: int) -> None:
    assert GATE.explain(Request.http("GET", "/", headers={"authorization": authorization}))[-1].status == status
