"""Whom a request comes from: the peer, or whom trusted proxies name; never whom the client names."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgate import CELRules, ConfigurationError, Edge, Gate, Request, allow, authorizer
from agentgate.address import MAX_HOPS, client, networks, unmapped
from agentgate.testing import drive

TRUSTED = networks(("10.0.0.0/8", "192.168.1.1", "fd00::/8"))
PROXY = "10.0.0.1"


@pytest.mark.parametrize(
    ("peer", "values", "source"),
    [
        ("203.0.113.9", [b"1.1.1.1"], None),  # nobody we trust: what it says is not read
        ("203.0.113.9", [b"garbage"], None),
        (PROXY, [], None),
        (PROXY, [b"203.0.113.9"], ("203.0.113.9", None)),
        (PROXY, [b"203.0.113.9:4711"], ("203.0.113.9", 4711)),
        (PROXY, [b"203.0.113.9:0"], ("203.0.113.9", 0)),
        (PROXY, [b"2001:db8::9"], ("2001:db8::9", None)),
        (PROXY, [b"[2001:db8::9]"], ("2001:db8::9", None)),
        (PROXY, [b"[2001:db8::9]:443"], ("2001:db8::9", 443)),
        (PROXY, [b"2001:DB8:0:0::9"], ("2001:db8::9", None)),
        (PROXY, [b"::ffff:203.0.113.9"], ("203.0.113.9", None)),
        (PROXY, [b"[::ffff:cb00:7109]:1"], ("203.0.113.9", 1)),
        (PROXY, [b"1.1.1.1, 203.0.113.9"], ("203.0.113.9", None)),  # left of it is what the client wrote
        (PROXY, [b"1.1.1.1", b"203.0.113.9"], ("203.0.113.9", None)),
        (PROXY, [b"garbage, 203.0.113.9 \t, 10.2.3.4,192.168.1.1"], ("203.0.113.9", None)),
        (PROXY, [b"203.0.113.9, ::ffff:10.2.3.4"], ("203.0.113.9", None)),
        (PROXY, [b"203.0.113.9, [fd00::1]:8080"], ("203.0.113.9", None)),
        (PROXY, [b"10.0.0.7, 10.0.0.8"], ("10.0.0.7", None)),  # all of them ours: the first one asked
        ("::ffff:10.0.0.1", [b"203.0.113.9"], ("203.0.113.9", None)),
        ("fd00::5", [b"203.0.113.9"], ("203.0.113.9", None)),
        ("192.168.1.2", [b"203.0.113.9"], None),
        ("unix:", [b"203.0.113.9"], None),
        ("", [b"203.0.113.9"], None),
    ],
)
def test_the_right_most_hop_that_is_no_trusted_proxy(peer: str, values: list[bytes], source: Any) -> None:
    assert client(peer, values, TRUSTED) == source


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b" ",
        b"203.0.113.9,",
        b"203.0.113.9, unknown",
        b"_hidden",
        b"localhost",
        b"203.0.113",
        b"203.0.113.009",
        b"203.0.113.256",
        b"0xcb.0.113.9",
        b"3405803785",
        b"203.0.113.9:",
        b"203.0.113.9:65536",
        b"203.0.113.9:123456",
        b"203.0.113.9:-1",
        b"203.0.113.9:+1",
        b"203.0.113.9 :1",
        b"203.0.113.9:1:1",
        b"[203.0.113.9]",
        b"[2001:db8::9",
        b"2001:db8::9]",
        b"[2001:db8::9]443",
        b"[2001:db8::9]:",
        b"2001:db8::9%eth0",
        b"[fe80::1%25eth0]",
        b"2001:db8::9::1",
        b"1:2:3:4:5:6:7:8:9",
        b"\xb2\xb0\xb3.0.113.9",
        "\u0662.0.0.1".encode(),
        b"203.0.113.9\x0b",
        b"1" * 70_000,
        b"for=203.0.113.9",
        b"203.0.113.9" + b", 10.0.0.2" * MAX_HOPS,
    ],
)
def test_a_hop_that_has_to_be_believed_is_an_address(value: bytes) -> None:
    with pytest.raises(ValueError):
        client(PROXY, [value], TRUSTED)


@given(st.lists(st.sampled_from([b"1.2.3.4", b"10.9.9.9", b"x", b"", b" 10.1.1.1:1", b"[fd00::1]"]), max_size=6))
def test_what_the_client_puts_in_front_changes_nothing(written: list[bytes]) -> None:
    """A trusted proxy appends the address it sees: whatever stands in front of it stays hearsay."""
    seen = b"203.0.113.9"
    for values in ([b", ".join([*written, seen])], [*written, seen]):
        assert client(PROXY, values, TRUSTED) == ("203.0.113.9", None)


@pytest.mark.parametrize(
    ("address", "plain"),
    [("::ffff:1.2.3.4", "1.2.3.4"), ("2001:db8::1", "2001:db8::1"), ("unix:x", "unix:x"), ("1.2.3.4", "1.2.3.4")],
)
def test_an_address_of_both_families(address: str, plain: str) -> None:
    assert unmapped(address) == plain


@pytest.mark.parametrize(
    ("proxies", "faults"),
    [
        ("10.0.0.0/8", ["trusted_proxies is a list of networks, such as ['10.0.0.0/8']"]),
        ([10], ["trusted_proxies is a list of networks, such as ['10.0.0.0/8']"]),
        (
            ["10.0.0.1/8", "proxy.example", "0.0.0.0/0", "::/0"],
            [
                "trusted_proxies: '10.0.0.1/8' is no network, such as 10.0.0.0/8",
                "trusted_proxies: 'proxy.example' is no network, such as 10.0.0.0/8",
                "trusted_proxies: 0.0.0.0/0 is everybody, and then everybody says who they are",
                "trusted_proxies: ::/0 is everybody, and then everybody says who they are",
            ],
        ),
    ],
)
def test_faults(proxies: Any, faults: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Edge(trusted_proxies=proxies)
    assert list(caught.value.faults) == faults


# -- in a Gate -------------------------------------------------------------------------------------------------------

EDGE = Edge(trusted_proxies=["10.0.0.0/8"])
OFFICE = CELRules(allow=['cidr("203.0.113.0/24").containsIP(source.address)'])


def asked(forwarded_for: str | None, peer: str | None = PROXY) -> Request:
    headers = {} if forwarded_for is None else {"x-forwarded-for": forwarded_for}
    return Request.http(client=None if peer is None else (peer, 5), headers=headers)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (asked("203.0.113.9"), 200),
        (asked("203.0.113.9", peer="198.51.100.1"), 403),
        (asked("203.0.113.9", peer=None), 403),
        (asked("203.0.113.9, 198.51.100.1"), 403),
        (asked("198.51.100.1, 203.0.113.9"), 200),
        (asked(None), 403),
        (asked("unknown"), 400),
    ],
)
def test_rules_judge_the_source_that_trusted_proxies_name(request_: Request, status: int) -> None:
    decisions = Gate(authorize=[OFFICE], edge=EDGE).explain(request_)
    assert (decisions[-1].status, request_.source) == (status, request_.peer)  # the caller's view is left alone


def test_without_trusted_proxies_the_header_is_not_read() -> None:
    for value in ("203.0.113.9", "garbage"):
        assert Gate(authorize=[OFFICE]).explain(asked(value))[-1].status == 403


@pytest.mark.anyio
async def test_a_gate_further_in_that_trusts_nobody_keeps_what_the_outer_one_found() -> None:
    """Else an inner Gate would take the proxy, which is inside, for the client."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"in"})

    @authorizer
    def anybody(request: Request) -> Any:
        return allow()

    def between(inner: Any) -> Any:
        async def changed(scope: Any, receive: Any, send: Any) -> None:
            await inner({**scope, "headers": [*scope["headers"], (b"x-added", b"1")]}, receive, send)

        return changed

    inner = Gate(app, authorize=[OFFICE])
    for stack in (Gate(inner, authorize=[anybody], edge=EDGE), Gate(between(inner), authorize=[anybody], edge=EDGE)):
        for address, status in (("203.0.113.9", 200), ("198.51.100.1", 403)):
            assert (await drive(stack, asked(address))).status == status
