"""Tests of a posture, as a user writes them: `pytest policy_test.py`. No server is started and nothing waits."""

import pytest

from agentgate import APIKeyAuth, CELRules, Gate, Request, StaticKeys, new_key

KEY = new_key()
ENGINEER, ANALYST = {"name": "alice", "group": "eng"}, {"name": "bob", "group": "ops"}
OFFICE = ("10.0.0.7", 50000)

RULES = CELRules(
    allow={"everybody reads": 'request.method == "GET"', "engineers write": 'apiKey.group == "eng"'},
    deny={"the office only": '!cidr("10.0.0.0/8").containsIP(source.address)'},
)
TOOLS = CELRules(deny={"nobody drops": 'mcp.tool.name == "drop_table"'})
GATE = Gate(authenticate=[APIKeyAuth(StaticKeys({"alice": KEY}))], authorize=[RULES])


@pytest.mark.parametrize(
    ("request_", "effect", "rule"),
    [
        (Request.http("GET", "/reports", api_key=ANALYST, client=OFFICE), "allow", "everybody reads"),
        (Request.http("POST", "/reports", api_key=ENGINEER, client=OFFICE), "allow", "engineers write"),
        (Request.http("POST", "/reports", api_key=ANALYST, client=OFFICE), "deny", None),
        (Request.http("GET", "/reports", api_key=ENGINEER, client=("192.0.2.1", 1)), "deny", "the office only"),
    ],
)
def test_who_may_do_what(request_: Request, effect: str, rule: str | None) -> None:
    stands = GATE.explain(request_)[-1]
    assert (stands.effect, stands.rule) == (effect, rule)


@pytest.mark.parametrize(("tool", "effect"), [("get_weather", "allow"), ("drop_table", "deny")])
def test_which_tools(tool: str, effect: str) -> None:
    assert TOOLS.check(Request.tool(tool, {"table": "users"})).effect == effect


@pytest.mark.parametrize(
    ("authorization", "status"), [("", 401), ("Bearer wrong", 401), (f"Bearer {KEY}", 200), (f"Basic {KEY}", 401)]
)
def test_who_is_let_in(authorization: str, status: int) -> None:
    request = Request.http("GET", "/", headers={"authorization": authorization}, client=OFFICE)
    assert GATE.explain(request)[-1].status == status


def test_why_an_analyst_may_not_write() -> None:
    *_, refused = RULES.explain(Request.http("POST", "/reports", api_key=ANALYST, client=OFFICE))
    assert [(step.text, step.outcome) for step in refused.why] == [('apiKey.group == "eng"', "false")]
