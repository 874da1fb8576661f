"""A container sends under its own MAC and addresses, or not at all. Pure.

The bridge itself ties a MAC to a port (see `links.guard_port`), so what is left to say here is which
addresses go with which MAC: two sets per stack, filled as containers come. Leases are stable, so the sets
do not grow with restarts. Refused are foreign senders in IPv4, IPv6 and ARP, advertisements for foreign
addresses, router advertisements, redirects, and whatever is neither ARP nor IP.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from composer.network.nft import expr
from composer.network.nft.table import ACCEPT, DROP, Chain, Part, Set, Table, rule

_MAC = expr.payload(0, 6, 6)
_V4 = expr.protocol() + expr.compare(b"\x08\x00")
_V6 = expr.protocol() + expr.compare(b"\x86\xdd")
_ARP = expr.protocol() + expr.compare(b"\x08\x06")
_ICMP6 = expr.l4proto() + expr.compare(b"\x3a")

_IP: Part = (
    "ether saddr . ip saddr @senders4",
    _V4 + _MAC + expr.payload(1, 12, 4, 2) + expr.lookup("senders4"),
)
_IP6: Part = (
    "ether saddr . ip6 saddr @senders6",
    _V6 + _MAC + expr.payload(1, 8, 16, 2) + expr.lookup("senders6"),
)
_ARP_SENDER: Part = (
    "arp saddr ether . arp saddr ip @senders4",
    _ARP + expr.payload(1, 8, 6) + expr.payload(1, 14, 4, 2) + expr.lookup("senders4"),
)
_ARP_PROBE: Part = ("arp saddr ip 0.0.0.0", _ARP + expr.payload(1, 14, 4) + expr.compare(bytes(4)))


def _icmp6(name: str, number: int) -> Part:
    return f"icmpv6 type {name}", _ICMP6 + expr.payload(2, 0, 1) + expr.compare(bytes((number,)))


def group(stack: str) -> int:
    """The link group of the stack's guarded ports. Its top bit is set: no group that people or `ip` use."""
    return int.from_bytes(hashlib.sha256(stack.encode()).digest()[:4], "big") | 1 << 31


def table_name(stack: str) -> str:
    return f"composer-{stack}-senders"


@lru_cache(maxsize=4)
def table(stack: str) -> Table:
    """The stack's table, with sets that are still empty."""
    number = group(stack)
    others: Part = (f"iifgroup != {number}", expr.iifgroup() + expr.compare(expr.host32(number), equal=False))
    rules = (
        rule(others, ACCEPT),
        rule(_IP, ACCEPT),
        rule(_ARP_SENDER, ACCEPT),
        # RFC 5227: whoever asks whether an address is in use has none yet.
        rule(_ARP_PROBE, ACCEPT),
        rule(_icmp6("nd-router-advert", 134), DROP),
        rule(_icmp6("nd-redirect", 137), DROP),
        rule(_IP6, ACCEPT),
        rule(DROP),
    )
    sets = tuple(Set(f"senders{v}", ("ether_addr", f"ipv{v}_addr"), (), ()) for v in (4, 6))
    return Table(table_name(stack), sets, (Chain("ports", "filter", "prerouting", -300, rules),), "bridge")


def senders(mac: str, addresses: Iterable[str]) -> dict[str, list[tuple[str, str]]]:
    """What to add to the sets: (MAC, address) by set. With IPv6 come the link-local address and ::, from
    which an address is asked for.
    """
    found: dict[str, list[tuple[str, str]]] = {"senders4": [], "senders6": []}
    for address in addresses:
        found["senders6" if ":" in address else "senders4"].append((mac, address))
    if found["senders6"]:
        found["senders6"] += [(mac, link_local(mac)), (mac, "::")]
    return found


def link_local(mac: str) -> str:
    """The address that the kernel makes of a MAC (RFC 4291, appendix A)."""
    raw = bytes.fromhex(mac.replace(":", ""))
    return str(
        ipaddress.IPv6Address(
            b"\xfe\x80" + bytes(6) + bytes((raw[0] ^ 2,)) + raw[1:3] + b"\xff\xfe" + raw[3:]
        )
    )
