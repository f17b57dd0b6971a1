"""IP addresses and networks: the network extension.

An IPv4 address mapped into IPv6 is the IPv4 address, so no rule can be passed by writing one as the other; the dotted
form of it, zone names and leading zeros are refused.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from agentgate.cel.functions import Library
from agentgate.cel.values import Fault, register

_MAPPED = 0xFFFF << 32  # ::ffff:0:0/96


class IP:
    """An address: its version (4 or 6) and its bits."""

    __slots__ = ("bits", "version")

    def __init__(self, version: int, bits: int) -> None:
        self.version = version
        self.bits = bits

    @classmethod
    def parse(cls, text: str) -> IP:
        """The address written in `text`. Raises Fault."""
        try:
            return cls(4, int.from_bytes(socket.inet_pton(socket.AF_INET, text), "big"))
        except (OSError, ValueError):
            return cls._parse6(text)

    @classmethod
    def _parse6(cls, text: str) -> IP:
        try:
            bits = int.from_bytes(socket.inet_pton(socket.AF_INET6, text), "big")
        except (OSError, ValueError):
            raise Fault("conversion", "not an IP address") from None
        if bits >> 32 == 0xFFFF:
            if "." in text:
                raise Fault("conversion", "not an IP address: IPv4 mapped into IPv6")
            return cls(4, bits - _MAPPED)
        return cls(6, bits)

    def address(self) -> IPv4Address | IPv6Address:
        """The same as an object of `ipaddress`."""
        return IPv4Address(self.bits) if self.version == 4 else IPv6Address(self.bits)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IP) and (self.version, self.bits) == (other.version, other.bits)

    def __hash__(self) -> int:
        return hash((self.version, self.bits))

    def __str__(self) -> str:
        return str(self.address())

    __repr__ = __str__


class CIDR:
    """A network as written: its address, whose host bits may be set, and the length of its prefix."""

    __slots__ = ("_head", "_host_bits", "ip", "length")

    def __init__(self, ip: IP, length: int) -> None:
        self.ip = ip
        self.length = length
        self._host_bits = (32 if ip.version == 4 else 128) - length
        self._head = ip.bits >> self._host_bits

    @classmethod
    def parse(cls, text: str) -> CIDR:
        """The network written `address/length`. Raises Fault."""
        address, _, length = text.partition("/")
        try:
            ip = IP.parse(address)
            # A length counts the bits of the form that was written.
            bits = int(length) - (96 if ip.version == 4 and ":" in address else 0)
            if str(int(length)) != length or not 0 <= bits <= (32 if ip.version == 4 else 128):
                raise ValueError
        except (Fault, ValueError):
            raise Fault("conversion", "not a network") from None
        return cls(ip, bits)

    def contains_ip(self, ip: IP) -> bool:
        """Whether the address lies in this network."""
        return ip.version == self.ip.version and ip.bits >> self._host_bits == self._head

    def contains_text(self, text: str) -> bool:
        """The same for an address in text, without building an IP for the common form."""
        if self.ip.version == 4:
            try:
                return int.from_bytes(socket.inet_pton(socket.AF_INET, text), "big") >> self._host_bits == self._head
            except (OSError, ValueError):
                pass
        return self.contains_ip(IP.parse(text))

    def contains_cidr(self, other: CIDR) -> bool:
        """Whether all of the other network lies in this one."""
        return other.length >= self.length and self.contains_ip(other.ip)

    def masked(self) -> CIDR:
        """The network with its host bits cleared."""
        return CIDR(IP(self.ip.version, self._head << self._host_bits), self.length)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CIDR) and (self.ip, self.length) == (other.ip, other.length)

    def __hash__(self) -> int:
        return hash((self.ip, self.length))

    def __str__(self) -> str:
        return f"{self.ip}/{self.length}"

    __repr__ = __str__


register(IP, "net.IP")
register(CIDR, "net.CIDR")


def _is(parse: Any) -> Any:
    def check(text: str) -> bool:
        try:
            parse(text)
        except Fault:
            return False
        return True

    return check


def _is_canonical(text: str) -> bool:
    return str(IP.parse(text)) == text


def _is_global_unicast(ip: IP) -> bool:
    # All but multicast, broadcast, unspecified, loopback and link-local: private networks are global unicast, as in Go.
    address = ip.address()
    broadcast = ip.version == 4 and ip.bits == 0xFFFFFFFF
    return not (
        broadcast or address.is_multicast or address.is_unspecified or address.is_loopback or address.is_link_local
    )


def _is_link_local_multicast(ip: IP) -> bool:
    return ip.bits >> 8 == 0xE00000 if ip.version == 4 else ip.bits >> 112 & 0xFF0F == 0xFF02


LIBRARY: Library = [
    ("ip(string) -> net.IP", IP.parse),
    ("isIP(string) -> bool", _is(IP.parse)),
    ("ip.isCanonical(string) -> bool", _is_canonical),
    ("string(net.IP) -> string", str),
    ("<net.IP>.family() -> int", lambda ip: ip.version),
    ("<net.IP>.isUnspecified() -> bool", lambda ip: ip.address().is_unspecified),
    ("<net.IP>.isLoopback() -> bool", lambda ip: ip.address().is_loopback),
    ("<net.IP>.isLinkLocalUnicast() -> bool", lambda ip: ip.address().is_link_local),
    ("<net.IP>.isLinkLocalMulticast() -> bool", _is_link_local_multicast),
    ("<net.IP>.isGlobalUnicast() -> bool", _is_global_unicast),
    ("cidr(string) -> net.CIDR", CIDR.parse),
    ("isCIDR(string) -> bool", _is(CIDR.parse)),
    ("string(net.CIDR) -> string", str),
    ("<net.CIDR>.containsIP(net.IP) -> bool", CIDR.contains_ip),
    ("<net.CIDR>.containsIP(string) -> bool", CIDR.contains_text),
    ("<net.CIDR>.containsCIDR(net.CIDR) -> bool", CIDR.contains_cidr),
    ("<net.CIDR>.containsCIDR(string) -> bool", lambda net, text: net.contains_cidr(CIDR.parse(text))),
    ("<net.CIDR>.ip() -> net.IP", lambda net: net.ip),
    ("<net.CIDR>.masked() -> net.CIDR", CIDR.masked),
    ("<net.CIDR>.prefixLength() -> int", lambda net: net.length),
]
