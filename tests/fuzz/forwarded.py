"""Fuzz X-Forwarded-For: whatever clients and proxies write, it is an address or a refusal, and never what stands left
of a hop that is not trusted.

Run as `python tests/fuzz/forwarded.py -max_total_time=60`; the options are libFuzzer's.
"""

from __future__ import annotations

import sys
from ipaddress import ip_address

import atheris

with atheris.instrument_imports(include=["agentgate.address"]):
    from agentgate.address import client, networks

TRUSTED = networks(("10.0.0.0/8", "fd00::/8"))
SEEN = ("203.0.113.9", None)


def one(data: bytes) -> None:
    """Try one header, as a proxy passes it on and as it is."""
    assert client("10.0.0.1", [data, b"203.0.113.9"], TRUSTED) == SEEN
    assert client("10.0.0.1", [data + b", 203.0.113.9"], TRUSTED) == SEEN
    assert client("203.0.113.9", [data], TRUSTED) is None
    try:
        source = client("10.0.0.1", [data], TRUSTED)
    except ValueError:
        return
    assert source is not None
    address, port = source
    assert str(ip_address(address)) == address
    assert port is None or 0 <= port <= 65535


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
