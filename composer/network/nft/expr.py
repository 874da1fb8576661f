"""nf_tables in its own terms: expressions, sets, chains and rules as bytes. Pure.

Numbers are those of <linux/netfilter/nf_tables.h>; type numbers of keys are nft's, so that `nft list
ruleset` can show our tables. Which rules there are is the matter of `rules`.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator

from composer.network.netlink import (
    APPEND,
    CREATE,
    Message,
    attribute,
    attributes,
    be32,
    be64,
    nested,
    string,
)

INET, IP, IP6, NETDEV = 1, 2, 10, 5
DROP, ACCEPT = 0, 1
HOOKS = {"prerouting": 0, "input": 1, "forward": 2, "output": 3, "postrouting": 4}
_SUBSYSTEM = 10 << 8
_GET_CHAIN, _GET_RULE, _DELETE_RULE = 4, 7, 8
_NEW_TABLE, _GET_TABLE, _DELETE_TABLE, _NEW_CHAIN, _NEW_RULE, _NEW_SET, _NEW_ELEMENT, _GET_ELEMENT = (
    0,
    1,
    2,
    3,
    6,
    9,
    12,
    13,
)
_LIST_ELEMENT, _VALUE, _VERDICT = 1, 1, 2

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
_MAP = 0x8
_MOST = 400
"""Elements per message: their list is one attribute, whose size is a 16-bit number."""


def register(word: int) -> int:
    """The number of the 32-bit register `word`; the first may be called by its 128-bit name, as nft does."""
    return 1 if word == 0 else 8 + word


def _expression(name: str, *parts: bytes) -> bytes:
    return nested(_LIST_ELEMENT, string(1, name), nested(2, *parts))


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


def oifgroup(to: int = 0) -> bytes:
    return meta(22, to)


def payload(base: int, offset: int, size: int, to: int = 0) -> bytes:
    """`base`: 0 link layer, 1 network, 2 transport."""
    return _expression("payload", be32(1, register(to)), be32(2, base), be32(3, offset), be32(4, size))


def ct(key: int, to: int = 0) -> bytes:
    return _expression("ct", be32(2, key), be32(1, register(to)))


def fib_type(to: int = 0) -> bytes:
    """What kind of address the destination is here (RTN_LOCAL is 2)."""
    return _expression("fib", be32(3, 2), be32(2, 3), be32(1, register(to)))


def compare(value: bytes, *, equal: bool = True, at: int = 0) -> bytes:
    return _expression(
        "cmp", be32(1, register(at)), be32(2, 0 if equal else 1), nested(3, attribute(_VALUE, value))
    )


def within(low: bytes, high: bytes) -> bytes:
    """low <= value <= high."""
    return b"".join(
        _expression("cmp", be32(1, register(0)), be32(2, operator), nested(3, attribute(_VALUE, value)))
        for operator, value in ((5, low), (3, high))
    )


def mask(bits: bytes) -> bytes:
    zero = bytes(len(bits))
    return _expression(
        "bitwise",
        be32(1, register(0)),
        be32(2, register(0)),
        be32(3, len(bits)),
        nested(4, attribute(_VALUE, bits)),
        nested(5, attribute(_VALUE, zero)),
    )


def lookup(name: str, *, to: int | None = None, inverted: bool = False) -> bytes:
    """Stop the rule unless register 0 is in the set; with `to`, load what the map has for it."""
    parts = [string(1, name), be32(2, register(0))]
    if to is not None:
        parts.append(be32(3, register(to)))
    return _expression("lookup", *parts, *([be32(5, 1)] if inverted else []))


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


def masquerade() -> bytes:
    return _expression("masq")


def host32(number: int) -> bytes:
    """meta, ct and fib values are in the host's byte order."""
    return struct.pack("=I", number)


def set_request(table: str, name: str) -> tuple[int, bytes]:
    """Message type and body that list the elements of a set."""
    return _SUBSYSTEM | _GET_ELEMENT, struct.pack("=BBH", INET, 0, 0) + string(1, table) + string(2, name)


def keys(body: memoryview) -> Iterator[bytes]:
    """The keys in one answer to `set_request`."""
    for kind, listed in attributes(body[4:]):
        if kind == 3:
            for _, element in attributes(listed):
                yield bytes(dict(attributes(dict(attributes(element))[1]))[_VALUE])


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


def key(kinds: tuple[str, ...], values: tuple[str | int, ...]) -> bytes:
    parts = [encode(kind, value) for kind, value in zip(kinds, values, strict=True)]
    return parts[0] if len(parts) == 1 else b"".join(map(pad, parts))


def _type(kinds: tuple[str, ...]) -> tuple[int, int]:
    number = size = 0
    for kind in kinds:
        number = number << 6 | TYPES[kind][0]
        size += TYPES[kind][1] if len(kinds) == 1 else (TYPES[kind][1] + 3) & ~3
    return number, size


def _message(kind: int, what: str, *parts: bytes, flags: int = CREATE, family: int = INET) -> Message:
    return Message(_SUBSYSTEM | kind, flags, struct.pack("=BBH", family, 0, 0) + b"".join(parts), what)


def add_table(table: str) -> Message:
    return _message(_NEW_TABLE, f"adding nftables table {table}", string(1, table))


def delete_table(table: str) -> Message:
    return _message(_DELETE_TABLE, f"deleting nftables table {table}", string(1, table), flags=0)


def get_table(table: str) -> Message:
    return _message(_GET_TABLE, f"looking up nftables table {table}", string(1, table), flags=0)


def add_chain(table: str, name: str, kind: str, hook: str, priority: int) -> Message:
    where = nested(4, be32(1, HOOKS[hook]), attribute(2, struct.pack(">i", priority)))
    parts = (string(1, table), string(3, name), where, be32(5, ACCEPT), string(7, kind))
    return _message(_NEW_CHAIN, f"adding nftables chain {table} {name}", *parts)


def add_rule(table: str, chain: str, code: bytes, text: str, family: int = INET) -> Message:
    """At the end of the chain."""
    parts = (string(1, table), string(2, chain), nested(4, code))
    what = f"adding nftables rule “{text}”"
    return _message(_NEW_RULE, what, *parts, flags=CREATE | APPEND, family=family)


def delete_rule(table: str, chain: str, handle: int, family: int) -> Message:
    parts = (string(1, table), string(2, chain), be64(3, handle))
    return _message(_DELETE_RULE, f"deleting a rule of {table} {chain}", *parts, flags=0, family=family)


def list_chains() -> tuple[int, bytes]:
    """Message type and body of a dump of all chains."""
    return _SUBSYSTEM | _GET_CHAIN, struct.pack("=BBH", 0, 0, 0)


def list_rules(family: int, table: str, chain: str) -> tuple[int, bytes]:
    body = struct.pack("=BBH", family, 0, 0) + string(1, table) + string(2, chain)
    return _SUBSYSTEM | _GET_RULE, body


def add_set(table: str, name: str, number: int, kinds: tuple[str, ...], data: tuple[str, ...]) -> Message:
    """A set, or with `data` a map. `number` is unlike for each set of a transaction."""
    kind, size = _type(kinds)
    parts = [string(1, table), string(2, name), be32(3, _MAP if data else 0), be32(4, kind), be32(5, size)]
    if data:
        kind, size = _type(data)
        parts += [be32(6, kind), be32(7, size)]
    if kinds == ("ifname",):
        # nft's own note (type 0, 4 bytes: host byte order), without which it shows such names as empty.
        parts.append(attribute(13, b"\0\4" + host32(1)))
    return _message(_NEW_SET, f"adding nftables set {table} {name}", *parts, be32(10, number))


def add_elements(table: str, name: str, elements: Iterable[tuple[bytes, bytes]]) -> Iterator[Message]:
    """`elements` are (key, data), with empty data for a plain set."""
    encoded = []
    for this, data in elements:
        parts = nested(1, attribute(_VALUE, this))
        if data:
            parts += nested(2, attribute(_VALUE, data))
        encoded.append(nested(_LIST_ELEMENT, parts))
    for start in range(0, len(encoded), _MOST):
        listed = nested(3, *encoded[start : start + _MOST])
        yield _message(
            _NEW_ELEMENT, f"filling nftables set {table} {name}", string(1, table), string(2, name), listed
        )
