"""MCPTarget and MCPBackend with several of them: what is wrong is said when they are made, and no secret is shown."""

import sys
from typing import Any

import httpx
import pytest

from agentgate import ConfigurationError, Health, MCPBackend, MCPTarget, PoolTransport, Retry, Secret, Timeouts

URL = "http://docs:9000/mcp"


def test_what_a_target_is_sent() -> None:
    target = MCPTarget(URL, credential=Secret("s3cret"), headers={"X-Tenant": "a", "x-key": Secret("k3y")})
    assert target.headers() == {"authorization": "Bearer s3cret", "x-tenant": "a", "x-key": "k3y"}
    assert repr(target) == "MCPTarget('http://docs:9000/mcp')"
    assert MCPTarget(URL).headers() == {}


HEADERS: dict[str, Any] = {
    "of framing": {"content-length": "1"},
    "that chooses another host": {"Host": "other"},
    "that asks for compression": {"Accept-Encoding": "gzip"},
    "of MCP": {"Mcp-Session-Id": "x"},
    "that is no token": {"a b": "x"},
    "that is empty": {"": "x"},
    "with a line end": {"x": "a\r\nb: c"},
    "that is not ASCII": {"x": "é"},
    "with a line end in a secret": {"x": Secret("s3cret\n")},
}


@pytest.mark.parametrize("what", HEADERS)
def test_a_header_that_no_target_can_have(what: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        MCPTarget(URL, headers=HEADERS[what])
    assert "s3cret" not in str(error.value)


def test_a_credential_is_a_secret_and_is_given_once() -> None:
    with pytest.raises(TypeError, match="a credential is a Secret"):
        MCPTarget(URL, credential="s3cret")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="not both"):
        MCPTarget(URL, credential=Secret("a"), headers={"Authorization": "Basic b"})


def test_all_that_is_wrong_with_the_targets_is_said_at_once() -> None:
    with pytest.raises(ConfigurationError) as error:
        MCPBackend({"docs": "ftp://docs", "tickets": "http://user@tickets"})
    assert [fault.partition(":")[0] for fault in error.value.faults] == ["target docs", "target tickets"]
    with pytest.raises(ConfigurationError, match="at least one target"):
        MCPBackend({})
    with pytest.raises(ConfigurationError, match="target 'a_b'"):
        MCPBackend({"a_b": URL})


OPTIONS: list[dict[str, Any]] = [
    {"forward_authorization": True},
    {"timeouts": Timeouts(total=3)},
    {"retry": Retry()},
    {"health": Health(failures=1)},
    {"transport": PoolTransport()},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: str([*options]))
def test_options_that_are_for_one_server(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="for one MCP server alone"):
        MCPBackend({"docs": URL}, **options)
    assert isinstance(MCPBackend(URL, **options).transport, httpx.AsyncBaseTransport)


def test_a_backend_shows_its_targets_and_no_secret() -> None:
    backend = MCPBackend({"docs": MCPTarget(URL, credential=Secret("s3cret")), "web": "https://web.example/mcp"})
    assert repr(backend) == (
        "MCPBackend({'docs': MCPTarget('http://docs:9000/mcp'), 'web': MCPTarget('https://web.example/mcp')})"
    )
    assert "s3cret" not in repr(vars(backend)) + repr(vars(backend.app))
    assert backend.name == "docs,web"


def test_without_the_sdk_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "agentgate.proxy.federation.app", None)
    with pytest.raises(ConfigurationError, match=r"agentgate-asgi\[mcp\]"):
        MCPBackend({"docs": URL})
    MCPBackend(URL)
