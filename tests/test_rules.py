"""CELRules: which rule decides, that no error opens anything, and that every fault is told at once."""

from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request as StarletteRequest
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from agentgate import (
    APIKeyMiddleware,
    Call,
    CELMiddleware,
    CELRules,
    ConfigurationError,
    Gate,
    Reason,
    Request,
    any_of,
    cel,
    new_key,
    shadow,
)
from agentgate.policy import ask

TOOLS = CELRules(
    allow={"devs read": '"dev" in jwt.roles && mcp.tool.name.startsWith("get_")', "admins": '"admin" in jwt.roles'},
    deny={"nobody drops": 'mcp.tool.name == "drop_table"'},
)
PATHS = CELRules(
    deny=['request.path.startsWith("/internal")'],
    require={"tenant": 'request.headers["X-Tenant"] != ""'},
)
GUARDED = CELRules(deny={"nobody drops": 'has(mcp.tool) && mcp.tool.name == "drop_table"'})
TEST_ONLY = CELRules(deny=['"x-env" in request.headers && request.headers["x-env"] != "test"'])
DEV, ADMIN = {"roles": ["dev"]}, {"roles": ["admin"]}
TENANT = {"x-tenant": "a"}
TWICE = [("x-env", "test"), ("x-env", "test")]
NONE_OF_TWO = "none of 2 allow rules matched"


@pytest.mark.parametrize(
    ("rules", "request_", "effect", "rule", "detail"),
    [
        (TOOLS, Request.tool("get_user", jwt=DEV), "allow", "devs read", ""),
        (TOOLS, Request.tool("set_user", jwt=ADMIN), "allow", "admins", ""),
        (TOOLS, Request.tool("set_user", jwt=DEV), "deny", None, NONE_OF_TWO),
        (TOOLS, Request.tool("drop_table", jwt=ADMIN), "deny", "nobody drops", ""),
        (TOOLS, Request.tool("get_user"), "deny", None, f"{NONE_OF_TWO}; 'devs read' failed at 1:10: no_such_key"),
        (TOOLS, Request.model("gpt", jwt=ADMIN), "deny", "nobody drops", "'nobody drops' failed at 1:5: no_such_field"),
        (TOOLS, Request.http(jwt=ADMIN), "deny", "nobody drops", "'nobody drops' failed at 1:1: no_such_key"),
        (PATHS, Request.http(headers=TENANT), "allow", None, ""),
        (PATHS, Request.http(headers={"x-tenant": ""}), "deny", "tenant", ""),
        (PATHS, Request.http(), "deny", "tenant", "'tenant' failed at 1:17: no_such_key"),
        (PATHS, Request.http(target="/internal/x", headers=TENANT), "deny", "deny[0]", ""),
        (PATHS, Request.http(target="/%69nternal", headers=TENANT), "deny", "deny[0]", ""),
        (GUARDED, Request.tool("drop_table"), "deny", "nobody drops", ""),
        (GUARDED, Request.prompt("greet"), "allow", None, ""),
        (GUARDED, Request.model("gpt"), "allow", None, ""),
        (GUARDED, Request.http("POST", "/mcp"), "deny", "nobody drops", "'nobody drops' failed at 1:5: no_such_key"),
        (TEST_ONLY, Request.http(), "allow", None, ""),
        (TEST_ONLY, Request.http(headers={"x-env": "test"}), "allow", None, ""),
        (TEST_ONLY, Request.http(headers=TWICE), "deny", "deny[0]", "'deny[0]' failed at 1:56: repeated"),
        (CELRules(allow=("true",)), Request.http(), "allow", "allow[0]", ""),
        (CELRules(require=["true", "false"]), Request.http(), "deny", "require[1]", ""),
    ],
)
def test_who_decides(rules: CELRules, request_: Request, effect: str, rule: str | None, detail: str) -> None:
    decision = rules.check(request_)
    assert (decision.effect, decision.rule, decision.detail) == (effect, rule, detail)
    assert decision.policy == "CELRules"
    if effect == "deny":
        said = (decision.status, decision.message, decision.code, decision.reason)
        assert said == (403, "authorization failed", "forbidden", Reason.AUTHORIZATION)


def test_deny_comes_before_require_and_that_before_allow() -> None:
    allow, deny, require = {"a": "true"}, {"d": "true"}, {"r": "false"}
    request = Request.http()
    assert CELRules(allow=allow, deny=deny, require=require).check(request).rule == "d"
    assert CELRules(allow=allow, require=require).check(request).rule == "r"
    assert CELRules(allow=allow).check(request).rule == "a"


def test_a_yes_and_a_no_are_made_once() -> None:
    request = Request.tool("drop_table", jwt=ADMIN)
    assert TOOLS.check(request) is TOOLS.check(request) is ask(TOOLS, request)


# -- errors ----------------------------------------------------------------------------------------------------------

SECRET = "s3cret-value"
FAILING = {
    "no such key": ("jwt.nothing == 1", "at 1:5: no_such_key"),
    "on the second line": ("true &&\n jwt.nothing == 1", "at 2:6: no_such_key"),
    "no such variable": ("apiKey.team == 'eng'", "at 1:1: no_such_key"),
    "wrong type": ("jwt.sub < 1", "at 1:9: no_overload"),
    "a claim that is no bool": ("jwt.sub", "its value is no bool"),
    "null": ("jwt.none", "its value is no bool"),
    "unknown, but not for a provisional call": ("mcp.tool.arguments.x == 1", "it depends on what is not known"),
}
CALL = Call("mcp", "tools/call", tool="add", arguments=cel.UNKNOWN)
ASKED = Request.http(jwt={"sub": SECRET, "none": None}, call=CALL)


@pytest.mark.parametrize(("source", "told"), FAILING.values(), ids=FAILING)
def test_an_error_opens_nothing(source: str, told: str) -> None:
    rules: list[tuple[dict[str, Any], str | None, str]] = [
        ({"deny": {"it": source}, "allow": ["true"]}, "it", ""),
        ({"require": {"it": source}, "allow": ["true"]}, "it", ""),
        ({"allow": {"it": source, "never": "false"}}, None, f"{NONE_OF_TWO}; "),
    ]
    for sets, rule, before in rules:
        decision = CELRules(**sets).check(ASKED)
        assert (decision.effect, decision.status, decision.rule) == ("deny", 403, rule)
        assert decision.detail.startswith(f"{before}'it' failed")
        assert decision.detail.endswith(told)
        assert SECRET not in repr(decision)
    assert CELRules(allow={"it": source, "always": "true"}).check(ASKED).rule == "always"


def test_of_several_failures_the_first_is_told() -> None:
    decision = CELRules(allow=["jwt.a", "jwt.b"]).check(ASKED)
    assert decision.detail == f"{NONE_OF_TWO}; 'allow[0]' failed at 1:5: no_such_key"


def test_whatever_is_raised_denies_and_is_not_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(request: Request) -> str:
        raise RuntimeError(SECRET)

    monkeypatch.setattr(Request, "path", property(broken))
    for name in ("allow", "deny", "require"):
        sets: dict[str, Any] = {name: ["request.path == '/'"]}
        decision = CELRules(**sets).check(Request.http())
        assert (decision.effect, decision.status) == ("deny", 403)
        assert f"'{name}[0]' failed: RuntimeError at test_rules.py:" in decision.detail
        assert SECRET not in repr(decision)


# -- provisional calls -----------------------------------------------------------------------------------------------

HANDSHAKE = Call("mcp", "initialize", provisional=True)
LISTED = Call("mcp", "tools/list", tool="add", provisional=True)


@pytest.mark.parametrize(
    ("sets", "handshake", "listed"),
    [
        ({"allow": ["mcp.tool.name == 'add'"]}, "allow", "allow"),
        ({"allow": ["mcp.tool.name == 'sub'"]}, "allow", "deny"),
        ({"allow": ["mcp.tool.name == 'add' && mcp.tool.arguments.x == 1"]}, "allow", "allow"),
        ({"allow": ["mcp.prompt.name == 'add'"]}, "allow", "deny"),
        ({"allow": ["jwt.sub == 'mallory' && mcp.tool.name == 'add'"]}, "deny", "deny"),
        ({"deny": ["mcp.tool.name == 'add'"]}, "allow", "deny"),
        ({"deny": ["mcp.tool.name == 'sub'"]}, "allow", "allow"),
        ({"deny": ["mcp.tool.arguments.x == 1"]}, "allow", "allow"),
        ({"deny": ["jwt.nobody == 1 && mcp.tool.name == 'add'"]}, "allow", "deny"),
        ({"deny": ["jwt.nobody == 1"], "allow": ["mcp.tool.name == 'add'"]}, "deny", "deny"),
        ({"require": ["mcp.tool.name != 'sub'"]}, "allow", "allow"),
        ({"require": ["mcp.tool.name == 'sub'"]}, "allow", "deny"),
        ({"require": ["mcp.tool.arguments.x == 1"]}, "allow", "allow"),
        ({"require": ["mcp.methodName == 'tools/call'"]}, "deny", "deny"),
        ({"require": ["mcp.tool.arguments.x == 1"], "deny": ["jwt.sub == 'alice'"]}, "deny", "deny"),
        ({"allow": ["llm.requestModel == 'm'"]}, "deny", "deny"),
    ],
)
def test_nothing_is_denied_for_want_of_what_is_not_known_yet(sets: dict[str, Any], handshake: str, listed: str) -> None:
    rules = CELRules(**sets)
    assert [rules.check(Request.http(jwt={"sub": "alice"}, call=call)).effect for call in (HANDSHAKE, LISTED)] == [
        handshake,
        listed,
    ]


def test_the_call_itself_is_judged_by_its_arguments() -> None:
    rules = CELRules(allow=["mcp.tool.arguments.x == 1"], deny=["mcp.tool.arguments.y == 1"])
    assert rules.check(Request.tool("add", {"x": 1, "y": 2})).effect == "allow"
    assert rules.check(Request.tool("add", {"x": 2, "y": 2})).effect == "deny"
    assert rules.check(Request.tool("add", {"x": 1, "y": 1})).effect == "deny"
    assert rules.check(Request.tool("add", {"x": 1})).effect == "deny"


# -- faults ----------------------------------------------------------------------------------------------------------


def test_every_fault_of_every_rule_is_told_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        CELRules(
            allow={"typo": "request.pth == 'a' &&\n jtw.sub == 'b'", "twice": "true"},
            deny={"twice": "true", "body": "request.bdy == ''"},
            require=["1 + 1", "jwt.a &&"],
        )
    assert caught.value.faults == (
        "twice: several rules have this name",
        "typo: 1:9: undefined field 'pth' in 'request' (did you mean 'path'?)\n  request.pth == 'a' &&\n          ^~~",
        "typo: 2:2: undeclared name 'jtw' (did you mean 'jwt'?)\n   jtw.sub == 'b'\n   ^~~",
        "body: 1:9: undefined field 'bdy' in 'request' (did you mean 'body'?)\n  request.bdy == ''\n          ^~~",
        "require[0]: 1:1: the expression is int, not bool\n  1 + 1\n  ^~~~~",
        "require[1]: 1:9: unexpected end of the expression\n  jwt.a &&\n          ^",
    )


@pytest.mark.parametrize(
    ("sets", "fault"),
    [
        ({}, "CELRules without a rule would let everything pass"),
        ({"allow": [], "deny": {}}, "CELRules without a rule would let everything pass"),
        ({"allow": "true"}, "allow is a list of expressions or a mapping from names to them, not str"),
        ({"deny": None}, "deny is a list of expressions or a mapping from names to them, not NoneType"),
        ({"deny": [True]}, "deny[0]: an expression is text, not bool"),
        ({"deny": {"": "true"}}, "deny: the name of a rule is text, not ''"),
        ({"deny": {1: "true"}}, "deny: the name of a rule is text, not 1"),
        ({"allow": {"deny[0]": "true"}, "deny": ["true"]}, "deny[0]: several rules have this name"),
        ({"allow": ["true"], "env": {"HOME": "/root"}}, "env: 'HOME' is none of podName, namespace, gateway"),
        ({"allow": ["true"], "env": {"podName": 1}}, "env: podName is text, not int"),
        ({"allow": ["true"], "claims": {"sub": "str ing"}}, "claims: not a type: 'str ing'"),
        ({"allow": ["true"], "metadata": ["team"]}, "metadata: 'list' object is not a mapping"),
        ({"allow": ["request == request"]}, None),
        ({"allow": ["\ud800"]}, None),
    ],
)
def test_faults(sets: dict[str, Any], fault: str | None) -> None:
    if fault is None:  # whatever becomes of it, it is not a yes
        try:
            assert CELRules(**sets).check(Request.http()).effect == "deny"
        except ConfigurationError:
            pass
        return
    with pytest.raises(ConfigurationError) as caught:
        CELRules(**sets)
    assert caught.value.faults == (fault,)


def test_repr() -> None:
    assert repr(TOOLS) == "CELRules(2 allow, 1 deny)"
    assert repr(PATHS) == "CELRules(1 deny, 1 require)"


# -- why -------------------------------------------------------------------------------------------------------------


def told(rules: CELRules, request: Request) -> list[str]:
    """Each verdict as a line: `*` where it decides."""
    return [
        f"{'*' if verdict.decides else ' '} {verdict.set} {verdict.rule}: {verdict.outcome}"
        + "".join(f"; {step.line}:{step.column} {step.text}: {step.outcome}" for step in verdict.why)
        for verdict in rules.explain(request)
    ]


@pytest.mark.parametrize(
    ("rules", "request_", "expected"),
    [
        (TOOLS, Request.tool("get_user", jwt=DEV), [
            '  deny nobody drops: false; 1:1 mcp.tool.name == "drop_table": false',
            '* allow devs read: true; 1:1 "dev" in jwt.roles: true; 1:23 mcp.tool.name.startsWith("get_"): true',
            '  allow admins: false; 1:1 "admin" in jwt.roles: false',
        ]),
        (TOOLS, Request.tool("drop_table", jwt=DEV), [
            '* deny nobody drops: true; 1:1 mcp.tool.name == "drop_table": true',
            '  allow devs read: false; 1:23 mcp.tool.name.startsWith("get_"): false',
            '  allow admins: false; 1:1 "admin" in jwt.roles: false',
        ]),
        (TOOLS, Request.tool("set_user"), [
            '  deny nobody drops: false; 1:1 mcp.tool.name == "drop_table": false',
            '  allow devs read: false; 1:23 mcp.tool.name.startsWith("get_"): false',
            '  allow admins: no_such_key; 1:12 "admin" in jwt.roles: no_such_key',
        ]),
        (PATHS, Request.http(), [
            '  deny deny[0]: false; 1:1 request.path.startsWith("/internal"): false',
            '* require tenant: no_such_key; 1:17 request.headers["X-Tenant"] != "": no_such_key',
        ]),
        (CELRules(deny=["false"]), Request.http(), ["  deny deny[0]: false; 1:1 false: false"]),
        (CELRules(allow=["false || mcp.tool.arguments.x == 1"]), Request.http(call=LISTED), [
            "* allow allow[0]: unknown; 1:10 mcp.tool.arguments.x == 1: unknown",
        ]),
    ],
)  # fmt: skip
def test_every_rule_says_why(rules: CELRules, request_: Request, expected: list[str]) -> None:
    assert told(rules, request_) == expected


@pytest.mark.parametrize(("source", "detail"), FAILING.values(), ids=FAILING)
def test_why_a_rule_failed_is_told_without_a_value(source: str, detail: str) -> None:
    (verdict,) = CELRules(require={"it": source}).explain(ASKED)
    (step,) = verdict.why
    assert verdict.decides
    assert verdict.outcome == step.outcome
    if detail.startswith("at "):
        assert detail == f"at {step.line}:{step.column}: {step.outcome}"
    assert SECRET not in repr(verdict)


def test_why_is_told_of_what_is_no_error_of_a_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(request: Request) -> str:
        raise RuntimeError(SECRET)

    monkeypatch.setattr(Request, "path", property(broken))
    (verdict,) = CELRules(deny=["request.path == '/'"]).explain(Request.http())
    assert verdict.outcome.startswith("RuntimeError at test_rules.py:")
    assert (verdict.decides, verdict.why) == (True, ())
    assert SECRET not in repr(verdict)


# -- merged ----------------------------------------------------------------------------------------------------------


def test_merged_rules_are_one_evaluation() -> None:
    general = CELRules(allow={"a": "request.path == '/a'"}, deny={"never": "request.method == 'PUT'"})
    own = CELRules(allow={"b": "request.path == '/b'"}, require={"named": "has(request.headers.host)"})
    both = general.merged(own)
    assert repr(both) == "CELRules(2 allow, 1 deny, 1 require)"
    assert repr(general) == "CELRules(1 allow, 1 deny)"
    for method, path, rule in (("GET", "/a", "a"), ("GET", "/b", "b"), ("PUT", "/b", "never"), ("GET", "/c", None)):
        assert both.check(Request.http(method, path)).rule == rule
    assert both.check(Request.http("GET", "/c")).detail == "none of 2 allow rules matched"
    assert CELRules(deny=["false"]).merged(own).check(Request.http("GET", "/c")).effect == "deny"


def test_merged_rules_read_what_each_of_them_reads() -> None:
    reading, other = CELRules(deny=["size(request.body) > 9"]), CELRules(deny={"x": "request.path == '/'"})
    assert [rules.reads_body for rules in (reading, other, reading.merged(other), other.merged(reading))] == [
        True, False, True, True,
    ]  # fmt: skip


def test_merged_rules_have_names_of_their_own() -> None:
    with pytest.raises(ConfigurationError) as caught:
        CELRules(allow=["true"], deny=["true"]).merged(CELRules(allow=["false"]), CELRules(allow=["false"]))
    assert caught.value.faults == ("allow[0]: several rules have this name",)


# -- in an app -------------------------------------------------------------------------------------------------------


def test_in_a_gate_and_combined() -> None:
    gate = Gate(authorize=[any_of(PATHS, TOOLS), shadow(CELRules(deny=["true"]))])
    trail = gate.explain(Request.http(headers=TENANT))
    assert [(d.effect, d.rule, d.enforced) for d in trail] == [
        ("allow", None, True),
        ("deny", "deny[0]", False),
        ("allow", None, True),
    ]
    assert trail[-1].policy == "gate"
    assert [d.rule for d in Gate(authorize=[PATHS]).explain(Request.http())] == ["tenant"]
    *asked, stands = gate.explain(Request.http(), every=True)
    assert [[verdict.rule for verdict in d.verdicts] for d in asked] == [
        ["deny[0]", "tenant", "nobody drops", "devs read", "admins"],
        ["deny[0]"],
    ]
    assert stands is asked[0]


async def hello(request: StarletteRequest) -> PlainTextResponse:
    return PlainTextResponse("hello")


@pytest.mark.anyio
async def test_in_a_starlette_app() -> None:
    key = new_key()
    app = Starlette(
        routes=[Route("/{rest:path}", hello)],
        middleware=[
            Middleware(APIKeyMiddleware, {"alice": key}),
            Middleware(
                CELMiddleware, allow=['request.path.startsWith("/v1/")'], deny={"not here": '"x" in request.query'}
            ),
        ],
    )
    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gw.example") as http:
        answers = [await http.get(target, headers=headers) for target in ("/v1/chat", "/v2", "/v1/chat?x=1")]
    assert [(answer.status_code, answer.text) for answer in answers] == [
        (200, "hello"),
        (403, "authorization failed"),
        (403, "authorization failed"),
    ]
    assert answers[1].headers["content-type"] == "text/plain"


def test_middleware_is_told_of_faults_when_it_is_built() -> None:
    with pytest.raises(ConfigurationError, match=r"allow\[0\]: 1:1: undeclared name 'rquest'"):
        CELMiddleware(Starlette(), allow=["rquest.path == ''"])
