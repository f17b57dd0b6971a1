"""`agentgate explain` and `agentgate check`: what they print, how they end, and that they show no secret."""

import json
import re
from pathlib import Path

import pytest

from agentgate.auth.keys import new_key
from agentgate.cli import main

KEY = new_key()

ROUTE = """\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: apps}
spec:
  parentRefs: [{name: gw, namespace: infra}]
  rules: [{backendRefs: [{name: web, port: 80}]}]
"""

SECRET = f"""\
apiVersion: v1
kind: Secret
metadata: {{name: keys, namespace: infra}}
stringData: {{alice: {KEY}}}
"""


def policy(name: str, target: str, traffic: str) -> str:
    """`target` is the policy's namespace, and kind and name of what it is for."""
    namespace, kind, target = target.split()
    return f"""\
apiVersion: agentgateway.dev/v1alpha1
kind: AgentgatewayPolicy
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  targetRefs: [{{group: gateway.networking.k8s.io, kind: {kind}, name: {target}}}]
  traffic: {traffic}
"""


def authz(name: str, target: str, *rules: str, action: str = "Allow") -> str:
    said = f"{{action: {action}, policy: {{matchExpressions: {json.dumps(rules)}}}}}"
    return policy(name, target, f"{{authorization: {said}}}")


def auth(mode: str) -> str:
    said = f"{{mode: {mode}, secretRef: {{name: keys}}}}"
    return policy("auth", "infra Gateway gw", f"{{apiKeyAuthentication: {said}}}")


def write(folder: Path, *documents: str) -> str:
    path = folder / "all.yaml"
    path.write_text("---\n".join(documents))
    return str(path)


POLICY = auth("Strict")
RULES = [
    authz("eng", "infra Gateway gw", 'apiKey.group == "eng" && request.method in ["GET", "POST"]'),
    authz("ban", "apps HTTPRoute web", '!cidr("10.0.0.0/8").containsIP(source.address)', action="Deny"),
    authz("tenant", "apps HTTPRoute web", 'request.headers["x-tenant"] != ""', action="Require"),
]
HIDDEN = "s3cret-value"


@pytest.fixture
def file(tmp_path: Path) -> str:
    return write(tmp_path, ROUTE, SECRET, POLICY, *RULES)


ALICE = ["--api-key", '{"name": "alice", "group": "eng"}']
INSIDE, TENANT = ["--client", "10.0.0.1"], ["--header", "X-Tenant: a"]


@pytest.mark.parametrize(
    ("options", "code", "expected"),
    [
        ([*ALICE, *INSIDE, *TENANT, "--path", "/a?q=1&q=2"], 0, """\
GET http://localhost/a
query    q
headers  x-tenant
client   10.0.0.1
caller   alice (apiKey)
route    apps/web

  says     policy, rule              because
  -------  ------------------------  ---------------------------------------------------------------
> allow    CELRules                  infra/eng[0]
    false    deny apps/ban[0]        1:2 true: cidr("10.0.0.0/8").containsIP(source.address)
    true     require apps/tenant[0]  1:1 request.headers["x-tenant"] != ""
>   true     allow infra/eng[0]      1:1 apiKey.group == "eng"
                                     1:26 request.method in ["GET", "POST"]

allowed
"""),
        ([*INSIDE, "--header", f"Authorization: Bearer {HIDDEN}", "--method", "PUT"], 1, """\
PUT http://localhost/
headers  authorization
client   10.0.0.1
route    apps/web

  says           policy, rule              because
  -------------  ------------------------  ---------------------------------------------------------
> deny           APIKeyAuth                unknown key
  deny           CELRules                  apps/tenant[0]
    false          deny apps/ban[0]        1:2 true: cidr("10.0.0.0/8").containsIP(source.address)
    no_such_key    require apps/tenant[0]  1:17 request.headers["x-tenant"] != ""
    false          allow infra/eng[0]      1:26 request.method in ["GET", "POST"]

denied: 401 api key authentication failure: invalid credentials
"""),
        ([*ALICE, *INSIDE, *TENANT, "--method", "PUT"], 1, """\
PUT http://localhost/
headers  x-tenant
client   10.0.0.1
caller   alice (apiKey)
route    apps/web

  says     policy, rule              because
  -------  ------------------------  ---------------------------------------------------------------
> deny     CELRules                  none of 1 allow rules matched
    false    deny apps/ban[0]        1:2 true: cidr("10.0.0.0/8").containsIP(source.address)
    true     require apps/tenant[0]  1:1 request.headers["x-tenant"] != ""
    false    allow infra/eng[0]      1:26 request.method in ["GET", "POST"]

denied: 403 authorization failed
"""),
        ([*ALICE, "--path", "/a/../b"], 1, """\
GET http://localhost/a/../b
client   127.0.0.1
caller   alice (apiKey)
route    not looked for

  says  policy, rule  because
  ----  ------------  ------------------------------------------------------------------------------
> deny  edge          invalid request: the path has a dot segment

denied: 400 invalid request: the path has a dot segment
"""),
    ],
    ids=["allowed", "a bad key", "no rule allows", "the edge"],
)  # fmt: skip
def test_a_request_is_explained(
    file: str, options: list[str], code: int, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", file, *options]) == code
    out, err = capsys.readouterr()
    assert (out, err) == (expected, "")


def said(output: str, row: str) -> str:
    return next(re.sub(" +", " ", line) for line in output.splitlines() if row in line)


@pytest.mark.parametrize(
    ("mode", "header", "expected", "last"),
    [
        ("Permissive", f"authorization: Bearer {HIDDEN}", " deny, not enforced APIKeyAuth unknown key", "allowed"),
        ("Optional", "x-a: b", "> allow gate nothing is against it", "allowed"),
        ("Strict", f"authorization: Bearer {KEY}", "> allow APIKeyAuth alice", "allowed"),
        ("Strict", "x-a: b", "> deny APIKeyAuth api key authentication failure: no API Key found", "denied: 401"),
    ],
    ids=["permissive, bad", "optional, none", "strict, good", "strict, none"],
)
def test_what_an_authentication_says(
    tmp_path: Path, mode: str, header: str, expected: str, last: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, ROUTE, SECRET, auth(mode))
    assert main(["explain", path, "--header", header]) == (0 if last == "allowed" else 1)
    out, _ = capsys.readouterr()
    assert said(out, expected.split()[-1]) == expected
    assert out.splitlines()[-1].startswith(last)
    assert KEY not in out
    assert HIDDEN not in out


def test_without_a_route(file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, ROUTE.replace("spec:", "spec:\n  hostnames: [www.example.com]"), RULES[0])
    assert main(["explain", path]) == 1
    out, _ = capsys.readouterr()
    assert "route    none matches" in out
    assert said(out, "gateway") == "> deny gateway route not found"
    assert out.endswith("\ndenied: 404 route not found\n")
    assert main(["explain", path, "--host", "www.example.com"]) == 1
    assert "route    apps/web" in capsys.readouterr().out


def test_no_value_of_the_request_is_shown(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    claims = f'{{"sub": "alice", "email": "{HIDDEN}"}}'
    options = ["--jwt", claims, "--api-key", claims, "--path", f"/?token={HIDDEN}", "--header", f"cookie: a={HIDDEN}"]
    assert main(["explain", file, *options]) == 1
    out, err = capsys.readouterr()
    assert "caller   test (apiKey), alice (jwt)" in out
    assert HIDDEN not in out + err


@pytest.mark.parametrize(
    ("body", "kind", "last"),
    [
        ('{"amount": 5}', "application/json", "allowed"),
        ('{"amount": 50}', "application/json", "denied: 403 authorization failed"),
        (
            '{"amount": 5}',
            "text/plain",
            "denied: 415 unsupported media type: the body is not application/json in UTF-8",
        ),
        (None, "application/json", "denied: 403 authorization failed"),
    ],
)
def test_a_body_for_rules_that_read_it(
    tmp_path: Path, body: str | None, kind: str, last: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--method", "POST", "--header", f"content-type: {kind}"]
    if body is not None:
        (tmp_path / "body.json").write_text(body)
        options += ["--body", str(tmp_path / "body.json")]
    path = write(tmp_path, ROUTE, authz("p", "infra Gateway gw", "json(request.body).amount < 10"))
    assert main(["explain", path, *options]) == (0 if last == "allowed" else 1)
    assert capsys.readouterr().out.splitlines()[-1] == last


def test_a_long_expression_is_cut_and_a_terminal_obeys_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = f"request.path == '{'x' * 500}'"
    path = write(tmp_path, ROUTE, authz("p", "infra Gateway gw", long, "request.path == '\x1b[2J' ||\n\n false"))
    assert main(["explain", path]) == 1
    out, _ = capsys.readouterr()
    assert max(map(len, out.splitlines())) <= 100
    assert sum("xxx" in line for line in out.splitlines()) == 4
    assert "x ...\n" in out
    assert "\x1b" not in out
    assert "1:1 request.path == '?[2J'" in out
    assert "3:2 false" in out


def test_a_terminal_obeys_no_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, ROUTE, authz("p", "infra Gateway gw", "'\x1b[2J\x9b'\n== nope"))
    assert main(["check", path]) == 2
    assert capsys.readouterr().err.endswith("2:4: undeclared name 'nope'\n  == nope\n     ^~~~\n")
    assert main(["check", write(tmp_path, ROUTE, authz("p", "infra Gateway gw", "'\x1b[2J\x9b' == nope"))]) == 2
    assert capsys.readouterr().err.endswith("1:12: undeclared name 'nope'\n  '?[2J?' == nope\n             ^~~~\n")


@pytest.mark.parametrize(
    ("options", "faults"),
    [
        (["--jwt", "{"], ["--jwt: not valid JSON"]),
        (["--jwt", '{"a": 1, "a": 2}'], ["--jwt: a member is given twice"]),
        (["--jwt", '{"a": NaN}'], ["--jwt: NaN is no JSON"]),
        (["--jwt", '{"a": "\udcff"}'], ["--jwt: not UTF-8"]),
        (["--jwt", "null"], ["--jwt: it is a JSON object"]),
        (["--api-key", "[]"], ["--api-key: it is a JSON object"]),
        (["--header", HIDDEN], ["--header: it is 'NAME: VALUE'"]),
        (["--header", f": {HIDDEN}"], ["--header: it is 'NAME: VALUE'"]),
        (["--header", "x: \u20ac"], ["the path, the host or a header has a character that no request can have"]),
        (["--path", "/\udcff"], ["the path, the host or a header has a character that no request can have"]),
        (["--client", "gw"], [
            "--client: it is an IP address, or one with a port, such as 10.0.0.1:50000 or [::1]:50000",
        ]),
        (["--client", "", "--jwt", "1", "--header", "a"], [
            "--header: it is 'NAME: VALUE'",
            "--client: it is an IP address, or one with a port, such as 10.0.0.1:50000 or [::1]:50000",
            "--jwt: it is a JSON object",
        ]),
        (["--body", "nowhere.json"], ["--body: cannot read nowhere.json (FileNotFoundError)"]),
        (["--gateway", "a/b"], ["gateway a/b: no HTTPRoute names it (infra/gw)"]),
    ],
)  # fmt: skip
def test_bad_input_is_told_and_ends_with_2(
    file: str, options: list[str], faults: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", file, *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == faults


@pytest.mark.parametrize(
    ("text", "address"),
    [("10.0.0.1:7", "10.0.0.1"), ("::1", "::1"), ("[::1]:7", "::1"), ("2001:db8::1", "2001:db8::1")],
)
def test_clients(file: str, text: str, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", file, "--client", text]) == 1
    assert f"client   {address}\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text", ["10.0.0.1:", "10.0.0.1:65536", "10.0.0.1:-1", "10.0.0.1:\u0661", "[::1]", "localhost:1"]
)
def test_clients_that_are_none(file: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", file, "--client", text]) == 2


# -- check -----------------------------------------------------------------------------------------------------------


def test_check_says_ok(file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", file]) == 0
    assert capsys.readouterr() == ("ok\n", "")
    assert main(["check", write(tmp_path, ROUTE)]) == 0  # as `serve` would
    assert capsys.readouterr() == ("ok\n", "")


def test_check_lists_every_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, ROUTE, SECRET.replace(KEY, "hunter22"), POLICY, authz("p", "infra Gateway gw", "reqest.x"))
    assert main(["check", path]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    weak, undeclared, *caret = err.splitlines()
    assert "stringData.alice: 8 characters of this kind are too easy to guess" in weak
    assert undeclared.endswith("matchExpressions[0]: 1:1: undeclared name 'reqest' (did you mean 'request'?)")
    assert caret == ["  reqest.x", "  ^~~~~~"]


def test_check_lets_weak_keys_in_with_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, ROUTE, SECRET.replace(KEY, "hunter22"), POLICY)
    assert main(["check", "--allow-weak-keys", path]) == 0
    out, err = capsys.readouterr()
    assert out == "ok\n"
    assert err.startswith("agentgate: WARNING: ")
    assert "hunter22" not in err


JWT = policy(
    "tokens",
    "infra Gateway gw",
    json.dumps(
        {
            "jwtAuthentication": {
                "providers": [
                    {
                        "issuer": "https://login.example.com",
                        "audiences": ["api"],
                        # Where it lives is not known here, and nobody calls.
                        "jwks": {"remote": {"backendRef": {"name": "keycloak", "port": 8080}, "jwksPath": "/certs"}},
                    }
                ],
                "mcp": {},
            }
        }
    ),
)
GW = ("--public-url", "https://gw.example.com")


def test_tokens_in_documents(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, ROUTE, JWT, authz("rules", "infra Gateway gw", 'jwt.sub == "bob"'))
    assert main(["check", file, *GW]) == 0
    assert main(["explain", file, *GW]) == 1
    assert "denied: 401 authentication failure: no bearer token found" in capsys.readouterr().out
    assert main(["explain", file, *GW, "--jwt", '{"sub": "bob"}']) == 0
    assert main(["explain", file, *GW, "--jwt", '{"sub": "eve"}']) == 1
    assert main(["explain", file, *GW, "--path", "/.well-known/oauth-protected-resource"]) == 0
    assert capsys.readouterr().out.endswith("\nanswered here: 200\n")


def test_documents_that_need_a_public_url(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, ROUTE, JWT)
    for command in ("check", "explain"):
        assert main([command, file]) == 2
        assert "clients have to be told where this gateway is: say it with --public-url" in capsys.readouterr().err


# -- calls -----------------------------------------------------------------------------------------------------------


def backend(name: str, spec: str) -> str:
    return f"""\
apiVersion: agentgateway.dev/v1alpha1
kind: AgentgatewayBackend
metadata: {{name: {name}, namespace: apps}}
spec: {spec}
"""


def rule_for(path: str, name: str) -> str:
    ref = f"{{group: agentgateway.dev, kind: AgentgatewayBackend, name: {name}}}"
    return f"{{matches: [{{path: {{value: {path}}}}}], backendRefs: [{ref}]}}"


AGENTS = [
    ROUTE.replace(
        "{backendRefs: [{name: web, port: 80}]}",
        ", ".join([rule_for("/mcp", "tools"), rule_for("/v1", "models"), rule_for("/web", "web")]),
    ),
    backend("tools", "{mcp: {targets: [{name: docs, static: {host: docs, port: 1}}]}}"),
    backend("models", "{ai: {provider: {openai: {}}}}"),
    backend("web", "{static: {host: web, port: 1}}"),
    policy("tools", "apps HTTPRoute web", "{}").replace(
        "traffic: {}",
        "backend: {mcp: {authorization: {policy: {matchExpressions: "
        """['mcp.tool.name == "count" && mcp.tool.arguments.n < 10']}}}}""",
    ),
]
LIMITED = ["--api-key", '{"allowedModels": ["small"]}']


@pytest.mark.parametrize(
    ("options", "code", "last"),
    [
        (["--tool", "count", "--arguments", '{"n": 3}'], 0, "allowed"),
        (["--tool", "count", "--arguments", '{"n": 30}'], 1, "denied: 403 authorization failed"),
        (["--tool", "count"], 1, "denied: 403 authorization failed"),
        (["--tool", "other", "--arguments", '{"n": 3}'], 1, "denied: 403 authorization failed"),
        (["--model", "small", *LIMITED], 0, "allowed"),
        (["--model", "big", *LIMITED], 1, "denied: 403 Model is not allowed for this API key (allowedModels)"),
        (["--model", "small", "--method", "PUT", *LIMITED], 1, "denied: 403 Model is not allowed for this API key"),
        (["--tool", "count", "--path", "/nowhere"], 1, "denied: 404 route not found"),
    ],
)
def test_a_call_is_explained(
    options: list[str], code: int, last: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", write(tmp_path, *AGENTS), *options]) == code
    assert capsys.readouterr().out.splitlines()[-1].startswith(last)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["--tool", "a", "--path", "/v1"], "--tool: the route apps/web does not speak MCP"),
        (["--tool", "a", "--path", "/web"], "--tool: the route apps/web does not speak MCP"),
        (["--model", "a", "--path", "/mcp"], "--model: the route apps/web does not speak an LLM API"),
        (["--tool", "a", "--model", "b"], "--tool, --model and --body: only one of them"),
        (["--tool", "a", "--body", "x"], "--tool, --model and --body: only one of them"),
        (["--arguments", "{}"], "--arguments: they are those of a --tool"),
        (["--tool", "a", "--arguments", f'["{HIDDEN}"]'], "--arguments: it is a JSON object"),
        (["--tool", "a", "--arguments", HIDDEN], "--arguments: "),
    ],
)
def test_calls_that_are_none(
    options: list[str], fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", write(tmp_path, *AGENTS), *options]) == 2
    told = capsys.readouterr()
    assert told.err.startswith(fault)
    assert len(told.err.splitlines()) == 1
    assert HIDDEN not in told.err + told.out


def test_arguments_are_not_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = json.dumps({"n": 3, "password": HIDDEN})
    assert main(["explain", write(tmp_path, *AGENTS), "--tool", "count", "--arguments", arguments]) == 0
    assert HIDDEN not in capsys.readouterr().out
