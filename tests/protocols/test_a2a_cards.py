"""Cards of an agent behind a gateway: every way in that is left leads through the gateway."""

import json
from typing import Any

import pytest

from agentgate import APIKeyAuth, Authenticator, Cookie, Header, JWTAuth, Query, Request, abstain, new_key
from agentgate.auth.location import Location
from agentgate.decision import Decision
from agentgate.protocols.a2a.cards import Base, CardFault, Cards, schemes_of

GATEWAY = "https://gateway.example.com/planner"


def base(url: str) -> Base:
    found = Base.of(url)
    assert found is not None
    return found


def cards(*urls: str, interfaces: tuple[str, ...] = ("",), **options: Any) -> Cards:
    return Cards([base(url) for url in urls or ("http://planner:8001",)], GATEWAY, interfaces, **options)


def modern(*urls: str, binding: str = "JSONRPC") -> dict[str, Any]:
    interfaces = [{"url": url, "protocolBinding": binding, "protocolVersion": "1.0", "tenant": "t"} for url in urls]
    return {"name": "Planner", "supportedInterfaces": interfaces}


def urls_of(card: dict[str, Any]) -> list[str]:
    """Every URL by which a client, whichever it is, may find the agent."""
    interfaces = [*card.get("supportedInterfaces", []), *card.get("additionalInterfaces", [])]
    return [*([card["url"]] if "url" in card else []), *(interface["url"] for interface in interfaces)]


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("http://planner:8001", GATEWAY),
        ("http://planner:8001/", f"{GATEWAY}/"),
        ("http://PLANNER:8001/", f"{GATEWAY}/"),
        ("http://planner.:8001/", None),
        ("http://planner:8001/a2a", None),
        ("https://planner:8001/", None),
        ("http://planner:8002/", None),
        ("http://planner/", None),
        ("http://planner.example.com:8001/", None),
        ("http://evil/http://planner:8001/", None),
        ("http://planner:8001@evil/", None),
        ("http://user@planner:8001/", None),
        ("http://planner:8001/?x", None),
        ("http://planner:8001/#x", None),
        ("http://planner:8001//", None),
        ("http://planner:8001/../x", None),
        ("http://planner:8001/%2e", None),
        ("http://planner:8001\\@evil/", None),
        ("http://planner:99999/", None),
        (" http://planner:8001/", None),
        ("http://planner:8001/\n", None),
        ("//planner:8001/", None),
        ("/", None),
        ("grpc://planner:8001", None),
        ("", None),
        (None, None),
        (7, None),
        (["http://planner:8001/"], None),
    ],
)
def test_an_interface_is_at_the_agent_or_is_dropped(url: Any, public: str | None) -> None:
    card = modern("http://planner:8001/ok", url)
    found = cards(interfaces=("", "/ok")).rewrite(card)
    assert urls_of(found) == [f"{GATEWAY}/ok", *([public] if public else [])]


def test_what_an_interface_says_of_itself_stays() -> None:
    (interface,) = cards().rewrite(modern("http://planner:8001/"))["supportedInterfaces"]
    assert interface == {"url": f"{GATEWAY}/", "protocolBinding": "JSONRPC", "protocolVersion": "1.0", "tenant": "t"}


@pytest.mark.parametrize(
    "binding", ["GRPC", "grpc", "jsonrpc", "https://example.com/binding", "", None, 7, ["JSONRPC"]]
)
def test_an_interface_that_the_gateway_does_not_serve_is_dropped(binding: Any) -> None:
    card = modern("http://planner:8001/")
    card["supportedInterfaces"].append({"url": "http://planner:8001/", "protocolBinding": binding})
    assert len(cards().rewrite(card)["supportedInterfaces"]) == 1
    with pytest.raises(CardFault, match="no interface"):
        cards().rewrite({"supportedInterfaces": card["supportedInterfaces"][1:]})


def test_paths_are_relative_to_the_agent() -> None:
    found = cards("http://planner:8001/agents/a", interfaces=("/rpc", "/rest")).rewrite(
        modern(
            "http://planner:8001/agents/a/rpc",
            "http://planner:8001/agents/a/rest/",
            "http://planner:8001/agents/ab/rpc",
            "http://planner:8001/rpc",
            "http://planner:8001/agents/a/other",
        )
    )
    assert urls_of(found) == [f"{GATEWAY}/rpc", f"{GATEWAY}/rest/"]


def test_an_agent_may_call_itself_something_else() -> None:
    found = cards("http://planner:8001", "https://agents.example.com/p").rewrite(
        modern("https://agents.example.com/p/", "https://agents.example.com/q/", "http://planner:8001/")
    )
    assert urls_of(found) == [f"{GATEWAY}/", f"{GATEWAY}/"]


def legacy(**members: Any) -> dict[str, Any]:
    return {"name": "Planner", "protocolVersion": "0.3.0", **members}


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"url": "http://planner:8001/"}, {"url": f"{GATEWAY}/", "preferredTransport": "JSONRPC"}),
        (
            {"url": "http://planner:8001/", "preferredTransport": "HTTP+JSON"},
            {"url": f"{GATEWAY}/", "preferredTransport": "HTTP+JSON"},
        ),
        (
            {
                "url": "http://planner:8001/",
                "additionalInterfaces": [
                    {"url": "http://planner:8001/", "transport": "HTTP+JSON"},
                    {"url": "http://planner:8001/", "transport": "GRPC"},
                    {"url": "http://elsewhere/", "transport": "JSONRPC"},
                ],
            },
            {
                "url": f"{GATEWAY}/",
                "preferredTransport": "JSONRPC",
                "additionalInterfaces": [{"url": f"{GATEWAY}/", "transport": "HTTP+JSON"}],
            },
        ),
        (  # the main one is not served: another one is the main one
            {
                "url": "http://planner:9000",
                "preferredTransport": "GRPC",
                "additionalInterfaces": [{"url": "http://planner:8001/", "transport": "HTTP+JSON"}],
            },
            {
                "url": f"{GATEWAY}/",
                "preferredTransport": "HTTP+JSON",
                "additionalInterfaces": [{"url": f"{GATEWAY}/", "transport": "HTTP+JSON"}],
            },
        ),
        (
            {"url": "http://planner:8001/", "additionalInterfaces": None},
            {"url": f"{GATEWAY}/", "preferredTransport": "JSONRPC"},
        ),
    ],
)
def test_cards_of_0_3(given: dict[str, Any], found: dict[str, Any]) -> None:
    assert cards().rewrite(legacy(**given)) == legacy(**found)


def test_a_card_in_both_shapes_is_rewritten_in_both() -> None:
    """agentgateway leaves `url` and `additionalInterfaces` of such a card as they are."""
    both = {**modern("http://planner:8001/"), "url": "http://planner:8001/", "preferredTransport": "JSONRPC"}
    assert set(urls_of(cards().rewrite(both))) == {f"{GATEWAY}/"}
    both["url"] = "http://elsewhere/"
    found = cards().rewrite(both)
    assert "url" not in found
    assert "preferredTransport" not in found


@pytest.mark.parametrize(
    "members",
    [
        {"supported_interfaces": [{"url": "http://planner:8001/", "protocol_binding": "JSONRPC"}]},
        {"supportedinterfaces": [{"URL": "http://planner:8001/", "ProtocolBinding": "JSONRPC"}]},
        {"Url": "http://planner:8001/"},
        {"url": "http://x/", "additional_interfaces": [{"url": "http://planner:8001/", "transport": "JSONRPC"}]},
    ],
)
def test_members_by_other_names_are_found(members: Any) -> None:
    """Protobuf reads `supported_interfaces`, and careless parsers read `URL`."""
    found = cards().rewrite(members)
    assert set(urls_of(found)) == {f"{GATEWAY}/"}
    assert "planner:8001" not in json.dumps(found)


def test_signatures_are_dropped() -> None:
    card = {**modern("http://planner:8001/"), "signatures": [{"protected": "e30", "signature": "AAAA"}]}
    assert "signatures" not in cards().rewrite(card)
    assert "Signatures" not in cards().rewrite({**modern("http://planner:8001/"), "Signatures": []})


def test_push_notifications_that_are_refused_are_not_offered() -> None:
    card = {**modern("http://planner:8001/"), "capabilities": {"streaming": True, "push_notifications": True}}
    assert cards().rewrite(card)["capabilities"] == {"streaming": True, "pushNotifications": False}
    allowed = cards(push_notifications=True).rewrite(card)
    assert allowed["capabilities"] == {"streaming": True, "push_notifications": True}
    assert "capabilities" not in cards().rewrite(modern("http://planner:8001/"))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not one reading"),
        (b"<html>", "not one reading"),
        (b"\xff", "not one reading"),
        (b'{"url": "http://planner:8001/", "url": "http://evil/"}', "not one reading"),
        (b"\xef\xbb\xbf{}", "not one reading"),
        (b"[" * 99, "not one reading"),
        (b"[]", "the card is no object"),
        (b"null", "the card is no object"),
        (b"{}", "no interface"),
        (b'{"url": "http://elsewhere/"}', "no interface"),
        (b'{"supportedInterfaces": []}', "no interface"),
        (b'{"supportedInterfaces": {}}', "interfaces are no list"),
        (b'{"supportedInterfaces": ["http://planner:8001/"]}', "an interface is no object"),
        (b'{"url": "http://planner:8001/", "additionalInterfaces": "x"}', "interfaces are no list"),
        (b'{"url": "http://planner:8001/", "URL": "http://evil/"}', "the card has a member spelt in two ways"),
        (b'{"supportedInterfaces": [], "supported_interfaces": []}', "the card has a member spelt in two ways"),
        (
            b'{"supportedInterfaces": [{"url": "http://planner:8001/", "Url": "http://evil/"}]}',
            "an interface has a member spelt in two ways",
        ),
        (b'{"url": "http://planner:8001/", "capabilities": []}', "its capabilities is no object"),
        (b'{"url": "http://planner:8001/", "securitySchemes": []}', "security schemes are no object"),
        (b'{"url": "http://planner:8001/", "security": {}}', "security requirements are no list"),
        (b'{"url": "http://planner:8001/", "security": [1]}', "security requirements are no list"),
        (
            b'{"url": "http://planner:8001/", "securityRequirements": [{"schemes": 1}]}',
            "security requirements are no list",
        ),
    ],
)
def test_a_card_that_is_not_understood_is_refused(data: bytes, why: str) -> None:
    rewriter = cards(schemes=schemes_of([APIKeyAuth([new_key()])]))
    with pytest.raises(CardFault, match=why) as caught:
        rewriter.rewrite_bytes(data)
    assert "evil" not in str(caught.value)
    with pytest.raises(CardFault):
        rewriter.rewrite_result(data)
    if data.startswith(b"{"):
        with pytest.raises(CardFault, match=why):
            rewriter.rewrite_result(b'{"jsonrpc": "2.0", "id": 1, "result": %s}' % data)


def test_a_result_is_rewritten_and_an_error_is_not() -> None:
    data = json.dumps({"jsonrpc": "2.0", "id": 1, "result": modern("http://planner:8001/")}).encode()
    found = json.loads(cards().rewrite_result(data))
    assert (found["id"], urls_of(found["result"])) == (1, [f"{GATEWAY}/"])
    error = b'{"jsonrpc":"2.0", "id":1, "error":{"code":-32007,"message":"no"}}'
    assert cards().rewrite_result(error) == error
    for data in (b'{"id": 1, "error": {}, "result": {}}', b'{"id": 1}', b'{"error": "x"}', b"[]"):
        with pytest.raises(CardFault):
            cards().rewrite_result(data)


def test_text_stays_text() -> None:
    card = {**modern("http://planner:8001/"), "name": "Pläner \U0001f600", "skills": [{"id": "1", "url": "http://x/"}]}
    found = json.loads(cards().rewrite_bytes(json.dumps(card).encode()))
    assert found == {**card, "supportedInterfaces": found["supportedInterfaces"]}


# -- what the gateway wants of callers --------------------------------------------------------------------------------

KEY = new_key()


class Elsewhere(Authenticator):
    location: Location | None = None

    def check(self, request: Request) -> Decision:
        return abstain()


ISSUER = "https://login.example.com"
TOKENS = {"scheme": "Bearer", "bearerFormat": "JWT", "description": f"A token of {ISSUER}"}
OPENID = {"openIdConnectUrl": f"{ISSUER}/.well-known/openid-configuration"}


@pytest.mark.parametrize(
    ("authenticators", "shown"),
    [
        ([APIKeyAuth([KEY])], [{"httpAuthSecurityScheme": {"scheme": "Bearer"}, "type": "http", "scheme": "Bearer"}]),
        (
            [JWTAuth(issuer=ISSUER, audience="a", jwks=f"{ISSUER}/keys")],
            [{"httpAuthSecurityScheme": TOKENS, "type": "http", **TOKENS}],
        ),
        (
            [JWTAuth(issuer=ISSUER, audience="a")],
            [{"openIdConnectSecurityScheme": OPENID, "type": "openIdConnect", **OPENID}],
        ),
        (
            [APIKeyAuth([KEY], location=Header("X-API-Key"))],
            [
                {
                    "apiKeySecurityScheme": {"name": "x-api-key", "location": "header"},
                    "type": "apiKey",
                    "name": "x-api-key",
                    "in": "header",
                }
            ],
        ),
        (
            [APIKeyAuth([KEY], location=Query("key"))],
            [
                {
                    "apiKeySecurityScheme": {"name": "key", "location": "query"},
                    "type": "apiKey",
                    "name": "key",
                    "in": "query",
                }
            ],
        ),
        (
            [APIKeyAuth([KEY], location=Cookie("key"))],
            [
                {
                    "apiKeySecurityScheme": {"name": "key", "location": "cookie"},
                    "type": "apiKey",
                    "name": "key",
                    "in": "cookie",
                }
            ],
        ),
        (
            [APIKeyAuth([KEY], location=Header("Authorization", "Key "))],
            [{"httpAuthSecurityScheme": {"scheme": "Key"}, "type": "http", "scheme": "Key"}],
        ),
        (
            [APIKeyAuth([KEY]), APIKeyAuth([KEY])],
            [{"httpAuthSecurityScheme": {"scheme": "Bearer"}, "type": "http", "scheme": "Bearer"}],
        ),
        ([Elsewhere()], []),
    ],
)
def test_schemes(authenticators: list[Authenticator], shown: list[dict[str, Any]]) -> None:
    found = schemes_of(authenticators)
    assert [scheme.shown(modern=True, legacy=True) for scheme in found] == shown


TWO = schemes_of([APIKeyAuth([KEY]), APIKeyAuth([KEY], location=Header("x-api-key"))])


def test_one_of_the_gateways_and_what_the_agent_wants() -> None:
    own: dict[str, Any] = {
        "securitySchemes": {"own": {"mtlsSecurityScheme": {}}, "agentgate": {"mtlsSecurityScheme": {}}}
    }
    given = {**modern("http://planner:8001/"), **own}
    found = cards(schemes=TWO).rewrite(given)
    assert list(found["securitySchemes"]) == ["own", "agentgate", "agentgate_", "agentgate__"]
    assert found["securitySchemes"]["agentgate_"] == {"httpAuthSecurityScheme": {"scheme": "Bearer"}}
    names = ["agentgate_", "agentgate__"]
    assert found["securityRequirements"] == [{"schemes": {name: {"list": []}}} for name in names]
    assert "security" not in found

    given["securityRequirements"] = [{"schemes": {"own": {"list": ["a"]}}}]
    found = cards(schemes=TWO).rewrite(given)
    assert found["securityRequirements"] == [
        {"schemes": {"own": {"list": ["a"]}, name: {"list": []}}} for name in names
    ]

    found = cards(schemes=TWO).rewrite(legacy(url="http://planner:8001/", security=[{"own": ["a"]}, {"other": []}]))
    assert found["securitySchemes"]["agentgate"] == {"type": "http", "scheme": "Bearer"}
    assert found["security"] == [
        {"own": ["a"], "agentgate": []},
        {"other": [], "agentgate": []},
        {"own": ["a"], "agentgate_": []},
        {"other": [], "agentgate_": []},
    ]
    assert "securityRequirements" not in found


def test_a_gateway_that_wants_nothing_adds_nothing() -> None:
    found = cards().rewrite(modern("http://planner:8001/"))
    assert not {"security", "securitySchemes", "securityRequirements"} & set(found)
