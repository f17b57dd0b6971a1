"""What is decided about a logged request, and that nothing is where the log does not tell."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentgate import (
    LLM,
    MCP,
    AllowedModels,
    APIKeyAuth,
    Authorizer,
    CELRules,
    Decision,
    Edge,
    Exact,
    Gate,
    HTTPBackend,
    JWTAuth,
    Key,
    Query,
    RateLimit,
    Request,
    Route,
    all_of,
    allow,
    any_of,
    authorizer,
    create_gateway,
    deny,
    new_key,
    shadow,
)
from agentgate.replay.judging import Judge
from agentgate.replay.reading import request_of
from agentgate.testing import TokenIssuer, replay

from .logged import KEYS, OPEN, Fixed, chat, gate, get, line, post, tool

pytestmark = pytest.mark.anyio
ISSUER = TokenIssuer()
TOKENS = JWTAuth(issuer=ISSUER.issuer, audience="api", jwks=ISSUER.jwks)

NO_CREDENTIAL = "no the credential is not in the log"
SECRET = {"x_team": "red"}  # a header whose value is not recorded


@authorizer
def peeks(request: Request) -> Decision:
    """Looks at what it has no business with, and hides that it could not."""
    try:
        return allow() if request.headers.get("x-team", "blue") == "blue" else deny()
    except Exception:
        return allow()


@authorizer
def looks_at_all(request: Request) -> Decision:
    return allow() if dict(request.raw_headers).get(b"x-team") != b"red" else deny()


@authorizer
def counts_all(request: Request) -> Decision:
    return allow() if len(b"".join(value for _, value in request.raw_headers)) < 70 else deny()


@authorizer
def looks_at_the_path(request: Request) -> Decision:
    return allow() if request.path == "/" and request.host == "localhost" else deny()


@authorizer
def reads_names(request: Request) -> Decision:
    return deny() if "x-team" in request.headers else allow()


@authorizer
def reads_json(request: Request) -> Decision:
    return allow() if request.json() else deny()


class Counts(Authorizer):
    async def prepare(self, request: Request) -> None:
        pass

    def check(self, request: Request) -> Decision:
        return allow()


class Reads(Authorizer):
    reads_body = True

    def check(self, request: Request) -> Decision:
        return allow()


def rules(**sets: Any) -> CELRules:
    return CELRules(**sets)


async def outcome(new: Any, request: Request, old: Gate | None = None, **options: Any) -> str:
    """`same`, `refused`, `allowed`, or what the log does not have."""
    found = replay([await line(old or gate(OPEN), request, **options)], new)
    if found.unchanged:
        return "same"
    (difference,) = [*found.changed, *found.undecided]
    return f"no {difference.after}" if difference.outcome == "undecided" else difference.outcome


@pytest.mark.parametrize(
    ("policies", "request_", "expected"),
    [
        (['request.path == "/"'], get(), "same"),
        (['request.path == "/b"'], get(), "refused"),
        (['apiKey.group == "dev"'], get(), "same"),
        (['apiKey.group == "ops"'], get(), "refused"),
        # a header that was not recorded
        (['request.headers["x-team"] == "red"'], get(**SECRET), "no request.headers.x-team"),
        (['"x-team" in request.headers'], get(**SECRET), "same"),
        (["has(request.headers.cookie)"], get(cookie="s=1"), "no request.headers.cookie"),
        (['default(request.headers["x-team"], "red") == "red"'], get(**SECRET), "no request.headers.x-team"),
        (['request.headers["x-other"] == "red"'], get(**SECRET), "refused"),
        (['request.headers["user-agent"] == "curl"'], get(user_agent="curl", **SECRET), "same"),
        (['request.headers.cookie("s") == "1"'], get(cookie="s=1"), "no request.headers.cookie"),
        (['request.headers.exists(name, name == "x-team")'], get(**SECRET), "same"),
        (["size(toJson(request.headers)) > 1"], get(**SECRET), "no request.headers.x-badge"),
        # ... does not matter where the rest decides
        (['request.headers["x-team"] == "red" || request.path == "/"'], get(**SECRET), "same"),
        (['request.headers["x-team"] == "red" && request.path == "/b"'], get(**SECRET), "refused"),
        ([rules(allow=['request.headers["x-team"] == "red"', "true"])], get(**SECRET), "same"),
        (
            [rules(allow=["true"], deny=['request.headers["x-team"] == "red"'])],
            get(**SECRET),
            "no request.headers.x-team",
        ),
        ([rules(deny=['request.headers["x-team"] == "red"', "true"])], get(**SECRET), "refused"),
        ([rules(require=['request.headers["x-team"] == "red"', "false"])], get(**SECRET), "refused"),
        ([rules(require=['request.headers["x-team"] == "red"'])], get(**SECRET), "no request.headers.x-team"),
        ([peeks, "false"], get(**SECRET), "refused"),
        ([peeks, OPEN], get(**SECRET), "no request.headers.x-team"),
        # functions
        ([peeks], get(), "same"),
        ([looks_at_all], get(**SECRET), "no request.headers.x-team"),
        ([counts_all], get(**SECRET), "no request.headers"),
        ([looks_at_the_path], get(**SECRET), "same"),
        ([looks_at_the_path], get("/b", **SECRET), "refused"),
        ([reads_names], get(**SECRET), "refused"),
        # combinations
        ([any_of(peeks, OPEN)], get(**SECRET), "same"),
        ([any_of(peeks, looks_at_the_path)], get("/b", **SECRET), "no request.headers.x-team"),
        ([all_of(peeks, looks_at_the_path)], get("/b", **SECRET), "refused"),
        ([all_of(peeks, any_of(OPEN, peeks))], get(**SECRET), "no request.headers.x-team"),
        ([shadow(peeks), OPEN], get(**SECRET), "same"),
        ([shadow(CELRules(deny=["true"])), OPEN], get(), "same"),
        # what a policy waits for
        ([Counts()], get(), "no what Counts waits for"),
        ([Counts(), "false"], get(), "refused"),
        ([RateLimit(requests=1, per="minute")], get(), "no what RateLimit waits for"),
        # bodies
        (["size(request.body) > 1"], post({}), "no request.body"),
        (["size(request.body) == 0"], get(), "same"),
        ([reads_json], post({}), "no request.body"),
        ([Reads()], post({}), "no request.body"),
        ([Reads(), "false"], post({}), "refused"),
        ([Reads()], get(), "same"),
        # queries
        (['request.query["a"] == ["1"]'], get("/?a=1"), "same"),
        (['request.query["a"] == ["1"]'], get("/?a=1&token=2"), "no request.query"),
        (['request.uri.contains("a=1")'], get("/?a=1&token=2"), "no request.query"),
        (['request.path == "/b"'], get("/?a=1&token=2"), "refused"),
        # times and places
        (["request.startTime > timestamp('2020-01-01T00:00:00Z')"], get(), "same"),
        (['source.address == "10.0.0.1"'], get(), "refused"),
    ],
)
async def test_a_posture_is_asked_about_what_is_known(policies: list[Any], request_: Request, expected: str) -> None:
    assert await outcome(gate(*policies), request_) == expected


MCP_GATE = gate(OPEN, protocol=MCP())
LLM_GATE = gate(OPEN, protocol=LLM())


@pytest.mark.parametrize(
    ("old", "new", "request_", "expected"),
    [
        (MCP_GATE, gate('mcp.tool.name == "add"', protocol=MCP()), tool("add"), "same"),
        (MCP_GATE, gate('mcp.tool.name == "add"', protocol=MCP()), tool("drop"), "refused"),
        (MCP_GATE, gate("mcp.tool.arguments.a == 1", protocol=MCP()), tool("add", a=1), "no mcp.tool.arguments"),
        (MCP_GATE, gate("has(mcp.tool.arguments.a)", protocol=MCP()), tool("add", a=1), "no mcp.tool.arguments"),
        (MCP_GATE, gate('mcp.tool.with(t, t.name == "add")', protocol=MCP()), tool("add"), "same"),
        (MCP_GATE, gate('mcp.sessionId == ""', protocol=MCP()), tool("add"), "refused"),
        (MCP_GATE, gate('mcp.tool.name == "add"'), tool("add"), "refused"),  # a gate that reads no MCP
        (MCP_GATE, gate("has(mcp.tool)", protocol=LLM()), tool("add"), "no the call"),
        (gate(OPEN), gate("has(mcp.tool)", protocol=MCP()), tool("add"), "no the call"),
        (gate(OPEN), gate("false", protocol=MCP()), tool("add"), "refused"),
        (MCP_GATE, gate('mcp.tool.target == "a"', protocol=MCP(targets=["a"])), tool("add"), "same"),
        (MCP_GATE, gate(OPEN, protocol=MCP(targets=["a", "b"])), tool("a_add"), "same"),
        (MCP_GATE, gate(OPEN, protocol=MCP(targets=["a", "b"])), tool("add"), "refused"),
        (gate(OPEN, protocol=MCP(targets=["a", "b"])), MCP_GATE, tool("a_add"), "no the call"),
        (LLM_GATE, gate('llm.requestModel == "m"', protocol=LLM()), chat("m"), "same"),
        (LLM_GATE, gate('llm.requestModel == "m"', protocol=LLM()), chat("n"), "refused"),
        (LLM_GATE, gate("llm.params.temperature == 1", protocol=LLM()), chat("n", temperature=1), "same"),
        (LLM_GATE, gate("true", protocol=LLM("anthropic")), chat("n"), "no the call"),
        (LLM_GATE, gate(AllowedModels(), protocol=LLM()), chat("n"), "same"),
        (LLM_GATE, Gate(authorize=[CELRules(allow=['llm.requestModel == "n"'])]), chat("m"), "refused"),
        (
            MCP_GATE,
            Gate(authorize=[CELRules(allow=['mcp.tool.name == "add" && apiKey.group == "dev"'])]),
            tool("add"),
            "same",
        ),
    ],
)
async def test_calls_are_those_that_were_read(old: Gate, new: Gate, request_: Request, expected: str) -> None:
    assert await outcome(new, request_, old) == expected


async def test_arguments_count_where_they_are_recorded() -> None:
    new = gate("mcp.tool.arguments.a == 1", protocol=MCP())
    assert await outcome(new, tool("add", a=1), MCP_GATE, replay_arguments=True) == "same"
    assert await outcome(new, tool("add", a=2), MCP_GATE, replay_arguments=True) == "refused"


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("jwt.team == 'a'", "same"),
        ("jwt.thing == 'a'", "no jwt.thing"),
        ("has(jwt.thing)", "no jwt.thing"),
        ("size(jwt) == 3", "no jwt"),
        ("jwt.other == 'a'", "refused"),
        ("jwt.thing == 'a' || jwt.team == 'a'", "same"),
    ],
)
async def test_what_is_not_recorded_of_a_caller_is_unknown(rule: str, expected: str) -> None:
    fixed = [Fixed("alice", "jwt", {"team": "a", "thing": object()})]
    request = get(key=None)
    assert await outcome(gate(rule, authenticate=fixed), request, gate(OPEN, authenticate=fixed)) == expected


ANONYMOUS = gate(OPEN, authenticate=())
NO_ROUTE = create_gateway(
    Route(Exact("/a"), HTTPBackend("http://u"), name="a", headers={"x-team": "red"}),
    authenticate=[KEYS],
    authorize=[OPEN],
)


@pytest.mark.parametrize(
    ("old", "new", "request_", "expected"),
    [
        # refused for want of a credential, or with one
        (gate(OPEN), gate(OPEN), get(key=None), "same"),
        (gate(OPEN), gate(OPEN), get(key="bad"), NO_CREDENTIAL),
        (gate(OPEN), gate("false"), get(key="bad"), "same"),
        (gate(OPEN), gate('apiKey.group == "dev"'), get(key="bad"), NO_CREDENTIAL),
        (gate(OPEN), gate('request.path == "/b"'), get(key="bad"), "same"),
        (gate(OPEN), gate(OPEN, mode="permissive"), get(key="bad"), NO_CREDENTIAL),
        (gate(OPEN), gate(OPEN, mode="optional"), get(key=None), "allowed"),
        (gate(OPEN), ANONYMOUS, get(key="bad"), NO_CREDENTIAL),  # it may stand behind another
        (gate(OPEN), gate(OPEN, authenticate=[TOKENS], mode="optional"), get(key=None), "allowed"),
        (gate(OPEN), gate(OPEN, authenticate=[TOKENS, KEYS]), get(key="bad"), NO_CREDENTIAL),
        # let in by one, and recognised by another
        (gate(OPEN), gate(OPEN, authenticate=[TOKENS, KEYS]), get(), "same"),
        (gate(OPEN), gate(OPEN, authenticate=[TOKENS]), get(), "refused"),
        (
            gate(OPEN),
            gate(OPEN, authenticate=[TOKENS]),
            get(authorization="Bearer x"),
            NO_CREDENTIAL,
        ),
        (gate(OPEN), gate(OPEN, authenticate=[Fixed("x")]), get(), "same"),
        (gate(OPEN), gate(OPEN, authenticate=[APIKeyAuth([Key("b", new_key())])]), get(), "same"),
        (ANONYMOUS, gate(OPEN), get(key=None), "refused"),
        (ANONYMOUS, gate(OPEN), get(), NO_CREDENTIAL),
        (
            ANONYMOUS,
            gate(OPEN, authenticate=[APIKeyAuth([Key("b", new_key())], location=Query("key"))]),
            get("/?key=1"),
            NO_CREDENTIAL,
        ),
        # nested gates
        (gate(OPEN), Gate(gate('apiKey.group == "dev"', authenticate=()), authenticate=[KEYS]), get(), "same"),
        (gate(OPEN), Gate(gate(OPEN, authenticate=[TOKENS]), authenticate=[KEYS]), get(), "refused"),
        # the edge
        (gate(OPEN), gate(OPEN, edge=Edge(methods=frozenset({"POST"}))), get(), "refused"),
        (
            gate(OPEN, edge=Edge(methods=frozenset({"POST"}))),
            gate(OPEN, mode="optional"),
            get(key=None),
            "no the request as it was sent",
        ),
        (
            gate(OPEN),
            gate('source.address == "127.0.0.1"', edge=Edge(trusted_proxies=["127.0.0.1"])),
            get(x_forwarded_for="9.9.9.9"),
            "refused",
        ),
        (
            gate(OPEN, edge=Edge(trusted_proxies=["127.0.0.1"])),
            gate('source.address == "127.0.0.1"'),
            get(x_forwarded_for="9.9.9.9"),
            "same",
        ),
        (gate(OPEN), gate(OPEN, edge=Edge(trusted_proxies=["127.0.0.1"])), get(connection="keep-alive"), "same"),
        # routes
        (gate(OPEN), NO_ROUTE, get("/b"), "refused"),
        (gate(OPEN), NO_ROUTE, get("/a", **SECRET), "no request.headers.x-team"),
        (
            gate(OPEN),
            create_gateway(
                Route("/", HTTPBackend("http://u"), name="r"), authorize=[CELRules(allow=['apiKey.group == "dev"'])]
            ),
            get(),
            "refused",
        ),
    ],
)
async def test_callers_stand_for_themselves(old: Gate, new: Any, request_: Request, expected: str) -> None:
    assert await outcome(new, request_, old) == expected


async def test_an_inner_gate_sees_the_identity_that_an_outer_one_tells() -> None:
    keys = APIKeyAuth([Key("alice", "sha256:" + "0" * 64, {"group": "dev"})], identity_headers={"x-group": "group"})
    inner = gate('request.headers["x-group"] == "dev"', authenticate=())
    new = Gate(inner, authenticate=[keys])
    assert await outcome(new, get(x_group="ops", connection="close"), gate(OPEN)) == "same"


def logged(text: str, **changes: Any) -> dict[str, Any]:
    return {**json.loads(text)["replay"], **changes}


@pytest.mark.parametrize(
    ("unknown", "rule", "decided"),
    [
        (["request.method"], "true", False),
        (["request.path"], "true", False),
        (["request.headers"], "true", False),
        (["request.host"], "true", True),
        (["request.host"], 'request.host == "localhost"', False),
        (["request.scheme"], "true", True),
        (["request.scheme"], 'request.scheme == "http"', False),
        (["request.version"], 'request.version == "HTTP/1.1"', False),
        (["source.rawAddress"], 'source.address == "127.0.0.1"', False),
        (["source.rawAddress"], 'request.method == "GET"', True),
        (["backend"], 'backend.name == "x"', False),
        (["apiKey." + "x" * 4096], 'apiKey.group == "dev"', True),
        (["apiKey." + "x" * 4096], "has(apiKey.y)", False),
    ],
)
async def test_whatever_is_said_to_be_unknown_is(unknown: list[str], rule: str, decided: bool) -> None:
    found = logged(await line(gate(OPEN), get()), unknown=unknown)
    assert (Judge(gate(rule)).judge(request_of(found)).decision is not None) is decided


# -- the promise: it is decided as the posture would have, or not at all ---------------------------------------------

ATOMS = [
    'request.headers["x-team"] == "red"',
    '"x-team" in request.headers',
    'request.headers["user-agent"].startsWith("c")',
    "has(request.headers.cookie)",
    'request.headers.cookie("s") == "1"',
    "size(toJson(request.headers)) > 90",
    'request.path == "/a"',
    'request.query["a"] == ["1"]',
    'request.query["token"] == ["1"]',
    'request.uri.endsWith("a=1")',
    'apiKey.group == "dev"',
    "has(apiKey.level)",
    "size(request.body) > 20",
    'request.body == b""',
    'mcp.tool.name == "add"',
    "mcp.tool.arguments.a == 1",
    "has(mcp.tool.arguments.a)",
    "has(mcp.tool)",
    'source.address == "127.0.0.1"',
    'default(request.headers["x-team"], "") == ""',
]
expressions = st.recursive(
    st.sampled_from(ATOMS),
    lambda inner: (
        st.builds("({} || {})".format, inner, inner)
        | st.builds("({} && {})".format, inner, inner)
        | st.builds("!({})".format, inner)
        | st.builds("({} ? {} : {})".format, inner, inner, inner)
    ),
    max_leaves=4,
)
sets = st.lists(expressions, max_size=2)
policies = st.builds(
    lambda a, d, r: CELRules(allow=a, deny=d, require=r) if a or d or r else OPEN, sets, sets, sets
) | st.sampled_from([peeks, looks_at_all, looks_at_the_path, reads_names, counts_all])
postures = st.lists(
    policies | st.builds(any_of, policies, policies) | st.builds(all_of, policies, policies), min_size=1, max_size=2
)
requests = st.builds(
    lambda make, headers, query: make(query, headers),
    st.sampled_from(
        [
            lambda query, headers: get("/a" + query, **headers),
            lambda query, headers: get("/b" + query, key=None, **headers),
            lambda query, headers: get("/b" + query, key="bad", **headers),
            lambda query, headers: post({"a": "x" * 20}, "/a" + query, **headers),
            lambda query, headers: tool("add", a=1),
            lambda query, headers: tool("drop"),
        ]
    ),
    st.dictionaries(
        st.sampled_from(["x_team", "user_agent", "connection", "cookie"]), st.sampled_from(["red", "curl", "s=1", ""])
    ),
    st.sampled_from(["", "?a=1", "?a=1&token=1", "?b=2"]),
)
modes = st.sampled_from(["strict", "optional", "permissive"])


@given(postures, requests, modes, modes, st.booleans())
@settings(max_examples=60, deadline=None)
async def test_never_guessed(policies: list[Authorizer], request: Request, before: Any, after: Any, mcp: bool) -> None:
    options: dict[str, Any] = {"protocol": MCP()} if mcp else {}
    logged = await line(gate(OPEN, mode=before, **options), request)
    new = gate(*policies, mode=after, **options)
    judged = Judge(new).judge(request_of(json.loads(logged)["replay"])).decision
    if judged is not None:
        assert judged.effect == new.explain(request)[-1].effect
