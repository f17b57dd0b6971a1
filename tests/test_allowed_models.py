"""AllowedModels: a key is good for the models that its metadata lists."""

from typing import Any

import pytest

from agentgate import AllowedModels, ConfigurationError, Gate, Request
from agentgate.allowed_models import ModelNames
from agentgate.call import Call

GATE = Gate(authorize=[AllowedModels()])
PATTERNS = ["gpt-4o", "claude-*", "*-mini"]


def verdict(request: Request) -> tuple[str, str]:
    decision = GATE.explain(request)[-1]
    return decision.effect, decision.code


@pytest.mark.parametrize(
    ("allowed", "model", "effect"),
    [
        (PATTERNS, "gpt-4o", "allow"),
        (PATTERNS, "claude-3", "allow"),
        (PATTERNS, "claude-", "allow"),
        (PATTERNS, "o3-mini", "allow"),
        (PATTERNS, "gpt-4o-2030", "deny"),
        (PATTERNS, "GPT-4o", "deny"),
        (PATTERNS, "claude", "deny"),
        (PATTERNS, "o3-mini-2", "deny"),
        (["*"], "anything", "allow"),
        (("gpt-4o",), "gpt-4o", "allow"),
        ([], "gpt-4o", "deny"),
    ],
)
def test_names(allowed: Any, model: str, effect: str) -> None:
    code = {"allow": "", "deny": "model_not_allowed"}[effect]
    assert verdict(Request.model(model, api_key={"allowedModels": allowed})) == (effect, code)


@pytest.mark.parametrize(
    "allowed", ["gpt-4o", None, 7, {}, ["*", "x"], [""], ["a*b"], ["**"], ["*a*"], [None], [["x"]]]
)
def test_what_is_no_list_of_names_allows_nothing(allowed: Any) -> None:
    effect, code = verdict(Request.model("gpt-4o", api_key={"allowedModels": allowed}))
    assert effect == "deny"
    assert code == ("policy_error" if allowed != {} else "model_not_allowed")


def test_who_has_no_such_limit() -> None:
    assert verdict(Request.model("x", api_key={})) == ("allow", "")
    assert verdict(Request.model("x", jwt={"sub": "a"})) == ("allow", "")
    assert verdict(Request.model("x")) == ("allow", "")


@pytest.mark.parametrize(
    ("call", "effect"),
    [
        (None, "deny"),
        (Call("llm", "unknown"), "deny"),
        (Call("llm", "list_models", provisional=True), "allow"),
        (Call("llm", "list_models", model="x", provisional=True), "deny"),
        (Call("llm", "list_models", model="gpt-4o", provisional=True), "allow"),
        (Call("mcp", "tools/call", tool="x"), "allow"),
    ],
)
def test_what_names_no_model(call: Call | None, effect: str) -> None:
    assert verdict(Request.http("POST", "/", call=call, api_key={"allowedModels": PATTERNS}))[0] == effect


def test_patterns_that_are_none() -> None:
    with pytest.raises(ConfigurationError) as caught:
        ModelNames(["*", "", "a*b"], "allowedModels")
    assert caught.value.faults == (
        "allowedModels: cannot combine '*' with other values",
        "allowedModels: cannot contain an empty model name",
        "allowedModels: a name must contain at most one wildcard, at the beginning or end",
    )
    with pytest.raises(ConfigurationError, match="models is a list of names"):
        ModelNames("gpt-4o")
    assert repr(AllowedModels()) == "AllowedModels()"
