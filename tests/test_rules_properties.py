"""CELRules, whatever the rules and the request: what is added never opens, and explaining says what deciding does."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentgate import Call, CELRules, Gate, Request, Verdict, cel

FAILING = [
    "jwt.nothing == 1",
    "jwt.sub",
    "apiKey.team == 'eng'",
    "mcp.tool.arguments.x == 1",
    "request.headers['x-org'] < 'b'",
    "1 / size(request.query) == 1",
]
EXPRESSIONS = st.sampled_from(
    [
        *FAILING,
        "true",
        "false",
        "jwt.sub == 'alice'",
        "has(jwt.sub) && !(jwt.sub in ['bob', true])",
        "has(mcp.tool) && mcp.tool.name == 'add'",
        "request.headers['x-org'] == 'a' || request.method == 'POST'",
        "has(request.headers.host) ? 'x-org' in request.headers : jwt.sub == 'bob'",
    ]
)
RULES = st.lists(EXPRESSIONS, max_size=3)
LISTED = Call("mcp", "tools/list", tool="add", provisional=True)
REQUESTS = st.sampled_from(
    [
        Request.http(),
        Request.http(target="/?a=1", headers={"X-Org": "a"}),
        Request.http(jwt={"sub": "alice"}, headers=[("x-org", "a"), ("x-org", "b")]),
        Request.tool("add", {"x": 1}, jwt={"sub": "bob"}),
        Request.model("gpt", jwt={"sub": True}),
        Request.http(jwt={"sub": "carol", "none": None}, call=LISTED),
        Request.http(call=Call("mcp", "initialize", provisional=True)),
    ]
)


def rules_of(sets: dict[str, Any]) -> CELRules:
    return CELRules(**sets)


@pytest.fixture(autouse=True, scope="module")
def compile_once() -> Iterator[None]:
    """Compile each expression once, or the properties take minutes."""
    compiled = cel.compile
    memory: dict[str, Any] = {}

    def remembered(source: str, **options: Any) -> Any:
        if source not in memory:
            memory[source] = compiled(source, **options)
        return memory[source]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cel, "compile", remembered)
        yield


def opens(request: Request, allow: list[str], deny: list[str], require: list[str]) -> bool:
    return not (allow or deny or require) or (
        CELRules(allow=allow, deny=deny, require=require).check(request).effect == "allow"
    )


@settings(deadline=None)
@given(REQUESTS, RULES, RULES, RULES, EXPRESSIONS)
def test_a_further_deny_or_require_never_widens(
    request_: Request, allow: list[str], deny: list[str], require: list[str], added: str
) -> None:
    if not opens(request_, allow, deny, require):
        assert not opens(request_, allow, [*deny, added], require)
        assert not opens(request_, allow, deny, [*require, added])


@settings(deadline=None)
@given(REQUESTS, st.lists(EXPRESSIONS, min_size=1, max_size=3), RULES, RULES, EXPRESSIONS)
def test_a_further_allow_never_narrows(
    request_: Request, allow: list[str], deny: list[str], require: list[str], added: str
) -> None:
    """Beside others: the first one narrows, as it says that what no rule allows is denied."""
    if opens(request_, allow, deny, require):
        assert opens(request_, [*allow, added], deny, require)
        assert opens(request_, [added, *allow], deny, require)


@settings(deadline=None)
@given(REQUESTS, RULES, RULES, RULES, st.sampled_from(FAILING))
def test_a_failing_rule_never_widens(
    request_: Request, allow: list[str], deny: list[str], require: list[str], failing: str
) -> None:
    if "failed" in CELRules(allow=[failing]).check(request_).detail:
        assert not opens(request_, allow, [*deny, failing], require)
        assert not opens(request_, allow, deny, [*require, failing])
        if not opens(request_, allow, deny, require):
            assert not opens(request_, [failing, *allow], deny, require)


# -- the same request, written in another way ------------------------------------------------------------------------

NAMES = ("x-org", "x-team", "X-Env")
HEADERS = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(["a", "b", ""])), max_size=5)
ABOUT_HEADERS = st.sampled_from(
    [
        "request.headers['{}'] == 'a'",
        "'{}' in request.headers",
        "request.headers['{}'] != 'a'",
        "'b' in request.headers['{}']",
        "!('{}' in request.headers) || request.headers['{}'] in ['a', 'b']",
        "size(request.headers) > 2 && request.headers.exists(name, name == 'x-org')",
    ]
)


def respelt(text: str, upper: int) -> str:
    """The same letters, some of them upper case."""
    return "".join(c.upper() if upper >> index & 1 else c.lower() for index, c in enumerate(text))


@st.composite
def reordered(draw: st.DrawFn, headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The same headers in another order, the values of each in their own, with names spelt anew."""
    queues = {name: [value for key, value in headers if key == name] for name, _ in headers}
    order = draw(st.permutations([name for name, _ in headers]))
    return [(respelt(name, draw(st.integers(0, 63))), queues[name].pop(0)) for name in order]


@settings(deadline=None)
@given(st.data(), HEADERS, st.lists(st.tuples(ABOUT_HEADERS, st.sampled_from(NAMES)), min_size=1, max_size=2))
def test_case_and_order_of_headers_change_nothing(
    data: st.DataObject, headers: list[tuple[str, str]], about: list[tuple[str, str]]
) -> None:
    other = Request.http(headers=data.draw(reordered(headers)))
    asked = [text.replace("{}", name) for text, name in about]
    for spelling in (0, 0b101010, 63):
        written = [text.replace("{}", respelt(name, spelling)) for text, name in about]
        for sets in ("allow", "deny", "require"):
            one, two = ({sets: rules} for rules in (asked, written))
            assert rules_of(two).check(other) == rules_of(one).check(Request.http(headers=headers))


# -- explaining ------------------------------------------------------------------------------------------------------


def concluded(verdicts: list[Verdict]) -> tuple[str, str | None]:
    """Effect and rule of the Decision, by the table of the reference, from the verdicts alone."""
    of = {name: [verdict for verdict in verdicts if verdict.set == name] for name in ("deny", "require", "allow")}
    against = [verdict for verdict in of["deny"] if verdict.outcome not in ("false", "unknown")]
    against += [verdict for verdict in of["require"] if verdict.outcome not in ("true", "unknown")]
    if against:
        return "deny", against[0].rule
    matched = [verdict for verdict in of["allow"] if verdict.outcome in ("true", "unknown")]
    if matched:
        return "allow", matched[0].rule
    return ("deny" if of["allow"] else "allow"), None


@settings(deadline=None)
@given(REQUESTS, RULES, RULES, RULES)
def test_explaining_agrees_with_deciding(
    request_: Request, allow: list[str], deny: list[str], require: list[str]
) -> None:
    if not (allow or deny or require):
        return
    rules = CELRules(allow=allow, deny=deny, require=require)
    decision, verdicts = rules.check(request_), rules.explain(request_)
    assert concluded(verdicts) == (decision.effect, decision.rule)
    assert [verdict.rule for verdict in verdicts if verdict.decides] == [decision.rule] * (decision.rule is not None)
    assert len(verdicts) == len(allow) + len(deny) + len(require)
    for verdict in verdicts:
        if verdict.outcome not in ("true", "false"):
            assert verdict.outcome in {step.outcome for step in verdict.why}
    gate = Gate(authorize=[rules])
    *asked, stands = gate.explain(request_, every=True)
    assert stands == gate.explain(request_)[-1] == decision
    assert [list(answer.verdicts) for answer in asked] == [verdicts]
