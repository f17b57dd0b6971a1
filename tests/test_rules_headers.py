"""CELRules over a header that is sent twice: a rule about its one value can be neither passed nor evaded by that."""

import pytest

from agentgate import CELRules, Request

ONE, TWO = Request.http(headers={"x-env": "test"}), Request.http(headers=[("x-env", "test"), ("x-env", "prod")])
OF_ONE_VALUE = {
    "equal": 'request.headers["x-env"] == "prod"',
    "equal, turned round": '"prod" == request.headers["x-env"]',
    "unequal": 'request.headers["x-env"] != "prod"',
    "one of": 'request.headers["x-env"] in ["prod", "stage"]',
    "in a list": '"prod" in [request.headers["x-env"]]',
    "a list of it": '[request.headers["x-env"]] == ["prod"]',
    "a map of it": '{"a": request.headers["x-env"]} == {"a": "prod"}',
    "in another case": 'request.headers["X-Env"] == "prod"',
    "bound": 'request.headers["x-env"].with(e, e == "prod")',
    "through dyn": 'dyn(request.headers["x-env"]) == "prod"',
    "by a method": 'request.headers["x-env"].startsWith("prod")',
    "by a pattern": 'request.headers["x-env"].matches("^prod$")',
    "by order": 'request.headers["x-env"] < "q"',
    "of a map": '{"prod": true, "test": true}[request.headers["x-env"]]',
    "like another": 'request.headers["x-env"] == request.headers["host"]',
    "redacted": 'request.headers.redacted()["x-env"] == "prod"',
    "converted": 'string(request.headers["x-env"]) == "prod"',
}


@pytest.mark.parametrize("source", OF_ONE_VALUE.values(), ids=OF_ONE_VALUE)
def test_a_rule_about_one_value_of_a_header_is_no_answer_about_two(source: str) -> None:
    """So it denies as a `deny`, does not hold as a `require`, and lets nothing pass as an `allow`: nor does its
    opposite."""
    for text in (source, f"!({source})"):
        assert CELRules(deny=[text]).check(TWO).effect == "deny"
        assert CELRules(require=[text]).check(TWO).effect == "deny"
        assert CELRules(allow=[text]).check(TWO).effect == "deny"


@pytest.mark.parametrize("source", OF_ONE_VALUE.values(), ids=OF_ONE_VALUE)
def test_sent_once_it_has_one(source: str) -> None:
    assert {CELRules(deny=[text]).check(ONE).effect for text in (source, f"!({source})")} == {"allow", "deny"}


@pytest.mark.parametrize(
    ("source", "holds"),
    [
        ('"prod" in request.headers["x-env"]', True),
        ('request.headers["x-env"].exists(e, e == "prod")', True),
        ('request.headers["x-env"].all(e, e == "test")', False),
        ('request.headers["x-env"] == ["test", "prod"]', True),
        ('request.headers["x-env"] != ["test", "prod"]', False),
        ('request.headers["x-env"][1] == "prod"', True),
        ('size(request.headers["x-env"]) == 2', True),
        ('request.headers.raw()["x-env"] == ["test", "prod"]', True),
        ('request.headers.join()["x-env"] == "test,prod"', True),
        ('type(request.headers["x-env"]) == list', True),
    ],
)
def test_a_rule_about_all_of_them_decides_as_in_agentgateway(source: str, holds: bool) -> None:
    assert CELRules(deny=[source]).check(TWO).effect == ("deny" if holds else "allow")
    assert CELRules(allow=[source]).check(TWO).effect == ("allow" if holds else "deny")
