"""Expressions of nf_tables as bytes: what a rule looks at, and what it does. Pure.

Numbers are those of <linux/netfilter/nf_tables.h>; type numbers of keys are nft's, so that `nft list
ruleset` can show our tables. Which rules there are is the matter of `rules`.
"""

from __future__ import annotations

import socket
import struct

from composer.network.netlink import attribute, be32, be64, nested, string

DROP, ACCEPT = 0, 1
LIST_ELEMENT, VALUE, _VERDICT = 1, 1, 2

TYPES = {
    "ipv4_addr": (7, 4),
    "ipv6_addr": (8, 16),
    "ether_addr": (9, 6),
    "inet_proto": (12, 1),
    "inet_service": (13, 2),
    "ifname": (41, 16),
}
"""nft's number of a type, and its size in bytes."""

PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}


def register(word: int) -> int:
    """The number of the 32-bit register `word`; the first may be called by its 128-bit name, as nft does."""
    return 1 if word == 0 else 8 + word


def _expression(name: str, *parts: bytes) -> bytes:
    return nested(LIST_ELEMENT, string(1, name), nested(2, *parts))


def meta(key: int, to: int = 0) -> bytes:
    return _expression("meta", be32(2, key), be32(1, register(to)))


def iifname(to: int = 0) -> bytes:
    return meta(6, to)


def iif(to: int = 0) -> bytes:
    """The index of the incoming interface; 0 when there is none."""
    return meta(4, to)


def oifname(to: int = 0) -> bytes:
    return meta(7, to)


def l4proto(to: int = 0) -> bytes:
    return meta(16, to)


def nfproto(to: int = 0) -> bytes:
    return meta(15, to)


def protocol(to: int = 0) -> bytes:
    """The Ethernet type, in network byte order."""
    return meta(1, to)


def iifgroup(to: int = 0) -> bytes:
    return meta(21, to)


def oifgroup(to: int = 0) -> bytes:
    return meta(22, to)


def payload(base: int, offset: int, size: int, to: int = 0) -> bytes:
    """`base`: 0 link layer, 1 network, 2 transport."""
    return _expression("payload", be32(1, register(to)), be32(2, base), be32(3, offset), be32(4, size))


def load(value: bytes) -> bytes:
    """A constant into register 0."""
    return _expression("immediate", be32(1, register(0)), nested(2, attribute(VALUE, value)))


def set_payload(base: int, offset: int, size: int, checksum: int) -> bytes:
    """Write register 0 into the packet; the Internet checksum at `checksum` of the same header follows."""
    return _expression(
        *("payload", be32(5, register(0)), be32(2, base), be32(3, offset), be32(4, size)),
        *(be32(6, 1), be32(7, checksum), be32(8, 0)),
    )


def notrack() -> bytes:
    return _expression("notrack")


def ct(key: int, to: int = 0) -> bytes:
    return _expression("ct", be32(2, key), be32(1, register(to)))


def fib_type(to: int = 0) -> bytes:
    """What kind of address the destination is here (RTN_LOCAL is 2)."""
    return _expression("fib", be32(3, 2), be32(2, 3), be32(1, register(to)))


def compare(value: bytes, *, equal: bool = True, at: int = 0) -> bytes:
    return _expression(
        "cmp", be32(1, register(at)), be32(2, 0 if equal else 1), nested(3, attribute(VALUE, value))
    )


def within(low: bytes, high: bytes) -> bytes:
    """low <= value <= high."""
    return b"".join(
        _expression("cmp", be32(1, register(0)), be32(2, operator), nested(3, attribute(VALUE, value)))
        for operator, value in ((5, low), (3, high))
    )


def mask(bits: bytes) -> bytes:
    zero = bytes(len(bits))
    return _expression(
        "bitwise",
        be32(1, register(0)),
        be32(2, register(0)),
        be32(3, len(bits)),
        nested(4, attribute(VALUE, bits)),
        nested(5, attribute(VALUE, zero)),
    )


def lookup(name: str, *, to: int | None = None, inverted: bool = False) -> bytes:
    """Stop the rule unless register 0 is in the set; with `to`, load what the map has for it."""
    parts = [string(1, name), be32(2, register(0))]
    if to is not None:
        parts.append(be32(3, register(to)))
    return _expression("lookup", *parts, *([be32(5, 1)] if inverted else []))


def remember(name: str) -> bytes:
    """Put what the registers from 0 on hold into a dynamic set."""
    return _expression("dynset", string(1, name), be32(3, 0), be32(4, register(0)))


def verdict(code: int) -> bytes:
    return _expression("immediate", be32(1, 0), nested(2, nested(_VERDICT, be32(1, code))))


def dnat(family: int, address: int, port: int) -> bytes:
    """To the address and port in these registers."""
    return _expression(
        "nat", be32(1, 1), be32(2, family), be32(3, register(address)), be32(5, register(port)), be32(7, 2)
    )


def counter() -> bytes:
    return _expression("counter", be64(1, 0), be64(2, 0))


def comment(text: str) -> bytes:
    """A remark as iptables keeps it (xt_comment), which it shows to people; at most 255 bytes."""
    return _expression(
        "match", string(1, "comment"), be32(2, 0), attribute(3, text.encode()[:255].ljust(256, b"\0"))
    )


def queue(number: int) -> bytes:
    """To whoever listens to this queue, or on when nobody does."""
    return _expression("queue", attribute(1, struct.pack(">H", number)), attribute(3, struct.pack(">H", 1)))


def queue_target(number: int) -> bytes:
    """The same by xt_NFQUEUE, revision 3. Some kernels are built without the former; where this is a
    module, none loads it by itself: for the family inet the kernel has no name to ask modprobe for.
    """
    info = struct.pack("=HHHxx", number, 1, 1)
    return _expression("target", string(1, "NFQUEUE"), be32(2, 3), attribute(3, info))


def masquerade() -> bytes:
    return _expression("masq")


def host32(number: int) -> bytes:
    """meta, ct and fib values are in the host's byte order."""
    return struct.pack("=I", number)


def pad(value: bytes) -> bytes:
    """A field of a concatenated key fills whole registers."""
    return value + bytes(-len(value) & 3)


def encode(kind: str, value: str | int) -> bytes:
    match kind:
        case "ipv4_addr":
            return socket.inet_aton(str(value))
        case "ipv6_addr":
            return socket.inet_pton(socket.AF_INET6, str(value))
        case "ether_addr":
            return bytes.fromhex(str(value).replace(":", ""))
        case "inet_proto":
            return bytes((PROTOCOLS[str(value)],))
        case "inet_service":
            return int(value).to_bytes(2, "big")
        case _:
            return str(value).encode().ljust(16, b"\0")


def decode(kind: str, value: bytes) -> str | int:
    """The inverse of `encode` for addresses, protocols and ports. Raises ValueError for another protocol."""
    match kind:
        case "ipv4_addr":
            return socket.inet_ntoa(value)
        case "ipv6_addr":
            return socket.inet_ntop(socket.AF_INET6, value)
        case "inet_proto":
            names = [name for name, number in PROTOCOLS.items() if number == value[0]]
            if not names:
                raise ValueError(f"protocol {value[0]}")
            return names[0]
        case _:
            return int.from_bytes(value, "big")


def fields(kinds: tuple[str, ...], data: bytes) -> tuple[str | int, ...]:
    """The inverse of `key` for a concatenation."""
    found, at = [], 0
    for kind in kinds:
        size = TYPES[kind][1]
        found.append(decode(kind, data[at : at + size]))
        at += (size + 3) & ~3
    return tuple(found)


def key(kinds: tuple[str, ...], values: tuple[str | int, ...]) -> bytes:
    parts = [encode(kind, value) for kind, value in zip(kinds, values, strict=True)]
    return parts[0] if len(parts) == 1 else b"".join(map(pad, parts))
