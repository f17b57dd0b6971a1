"""CELRules with a schema of claims or metadata, and with the environment."""

from typing import Any

import pytest

from agentgate import CELMiddleware, CELRules, ConfigurationError, Request, cel
from agentgate.rules import compile_rule
from agentgate.testing import drive


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("jwt.sbu == 'alice'", "1:5: undefined field 'sbu' in 'jwt' (did you mean 'sub'?)"),
        ("has(jwt.grups)", "1:9: undefined field 'grups' in 'jwt' (did you mean 'groups'?)"),
        ("jwt['sbu'] == 'alice'", "1:5: undefined field 'sbu' in 'jwt' (did you mean 'sub'?)"),
        ("jwt.realm.rols == []", "1:11: undefined field 'rols' in 'jwt.realm' (did you mean 'roles'?)"),
        ("jwt.groups == 'admin'", "no overload of '==' for (list(string), string)"),
        ("jwt.sub + 1 == 2", "no overload of '+' for (string, int)"),
        ("apiKey.taem == 'eng'", "1:8: undefined field 'taem' in 'apiKey' (did you mean 'team'?)"),
    ],
)
def test_with_a_schema_a_claim_that_is_none_is_a_fault(source: str, fault: str) -> None:
    claims: dict[str, Any] = {"sub": "string", "groups": "list(string)", "realm": {"roles": "list(string)"}}
    with pytest.raises(ConfigurationError) as caught:
        CELRules(allow=[source], claims=claims, metadata={"team": "string"})
    assert fault in caught.value.faults[0]


def test_with_a_schema_the_others_decide() -> None:
    rules = CELRules(
        allow=[
            "jwt.sub == 'alice' && 'x' in jwt.realm.roles && jwt['https://x.example/tier'] == 3 && "
            "jwt.rawToken == '<redacted>' && apiKey.key != 'k'"
        ],
        claims={"sub": "string", "realm": {"roles": "list(string)"}, "https://x.example/tier": "int"},
        metadata={},
    )
    jwt = {"sub": "alice", "realm": {"roles": ["x"]}, "https://x.example/tier": 3}
    assert rules.check(Request.http(jwt=jwt, api_key={})).effect == "allow"
    assert rules.check(Request.http(jwt={**jwt, "realm": "x"}, api_key={})).effect == "deny"
    assert rules.check(Request.http(jwt={**jwt, "sub": ["alice"]}, api_key={})).effect == "deny"


def test_the_environment_is_read_once_and_only_three_names_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POD_NAME", "gw-1")
    monkeypatch.delenv("NAMESPACE", raising=False)
    monkeypatch.setenv("GATEWAY", "")
    rules = CELRules(allow=["env.podName == 'gw-1' && !has(env.namespace) && !has(env.gateway)"])
    monkeypatch.setenv("POD_NAME", "gw-2")
    assert rules.check(Request.http()).effect == "allow"
    assert CELRules(allow=["env.podName == 'x'"], env={"podName": "x"}).check(Request.http()).effect == "allow"
    assert CELRules(deny=["env.gateway == 'x'"]).check(Request.http()).effect == "deny"
    with pytest.raises(ConfigurationError, match="undefined field 'HOME'"):
        CELRules(allow=["env.HOME != ''"])


@pytest.mark.anyio
async def test_the_middleware_takes_them_as_well() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    allow = ["env.podName == 'gw-1' && default(jwt.sub, 'nobody') == 'nobody'"]
    with pytest.raises(ConfigurationError, match="undefined field 'sub'"):
        CELMiddleware(app, allow=allow, claims={"scope": "string"})
    with pytest.raises(ConfigurationError, match="undefined field 'team'"):
        CELMiddleware(app, allow=["apiKey.team == 'eng'"], metadata={})
    stack = CELMiddleware(app, allow=allow, claims={"sub": "string"}, env={"podName": "gw-1"})
    assert (await drive(stack, Request.http())).status == 200


def test_where_a_variable_cannot_be_a_rule_is_told_why() -> None:
    without = {"mcp": "is not here: nobody reads bodies"}
    with pytest.raises(cel.CheckError, match="mcp is not here: nobody reads bodies"):
        compile_rule("has(mcp.tool)", without=without)
    assert compile_rule("request.path == '/'", without=without).evaluate(Request.http()) is True
