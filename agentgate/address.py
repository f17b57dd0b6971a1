"""Client addresses: the peer of the socket, or whom trusted proxies say they forwarded for.

A client can write any `X-Forwarded-For`. So it is read only where the peer is a proxy that the operator trusts, from
the right, and never past the first address that is none of those proxies: everything left of that is hearsay.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from .errors import ConfigurationError

Network = IPv4Network | IPv6Network
Source = tuple[str, int | None]
"""An address, and its port where that is known."""

MAX_HOPS: Final = 32  # proxies in a row that are looked through

# `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` and `[2001:db8::1]:80`; no names, no zones.
_HOP: Final = re.compile(
    rb"(?:([0-9.]{7,15})|\[([0-9A-Fa-f:.]{2,45})\])(?::([0-9]{1,5}))?|([0-9A-Fa-f:.]{2,45})"
).fullmatch


def unmapped(address: str) -> str:
    """`1.2.3.4` for `::ffff:1.2.3.4`, which is how a socket of both families tells an IPv4 peer."""
    if ":" not in address:
        return address
    try:
        mapped = IPv6Address(address).ipv4_mapped
    except ValueError:
        return address
    return address if mapped is None else str(mapped)


@lru_cache(64)  # one entry for each Edge that trusts somebody
def networks(proxies: Sequence[str]) -> tuple[Network, ...]:
    """The networks written as CIDRs or single addresses. `ConfigurationError` for what is none, with every fault."""
    found, faults = [], []
    for text in proxies:
        try:
            network = ip_network(text)
        except ValueError:
            faults.append(f"trusted_proxies: {text!r} is no network, such as 10.0.0.0/8")
            continue
        if network.prefixlen == 0:
            faults.append(f"trusted_proxies: {text} is everybody, and then everybody says who they are")
        found.append(network)
    if faults:
        raise ConfigurationError(faults)
    return tuple(found)


def client(peer: str, forwarded_for: Iterable[bytes], trusted: Sequence[Network]) -> Source | None:
    """Whom the values of `X-Forwarded-For` tell of: the right-most hop that is no trusted proxy, or the left-most if
    all are. None where there is nothing to go by: the peer is no trusted proxy, or the header is not there.

    Raises ValueError for a hop that has to be believed and is no address.
    """
    hops = [hop.strip(b" \t") for value in forwarded_for for hop in value.split(b",")]
    if not hops or not _is_in(_parse(peer), trusted):
        return None
    for hop in reversed(hops[-MAX_HOPS:]):
        address, port = _hop(hop)
        if not _is_in(address, trusted):
            break
    else:
        if len(hops) > MAX_HOPS:
            raise ValueError
    return str(address), port


def _hop(hop: bytes) -> tuple[IPv4Address | IPv6Address, int | None]:
    match = _HOP(hop)
    if match is None:
        raise ValueError
    four, bracketed, port, six = (part and part.decode() for part in match.groups())
    address: IPv4Address | IPv6Address = IPv4Address(four) if four else IPv6Address(bracketed or six)
    if port is not None and int(port) > 65535:
        raise ValueError
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address, None if port is None else int(port)


def _parse(peer: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(unmapped(peer))
    except ValueError:  # a socket file, or a server's own notation: nobody's network
        return None


def _is_in(address: IPv4Address | IPv6Address | None, trusted: Sequence[Network]) -> bool:
    return address is not None and any(address in network for network in trusted)
