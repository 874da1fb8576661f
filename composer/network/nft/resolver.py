"""Port 53 is the container's own: its questions to 127.0.0.11 go to other ports. Pure.

A program that serves names binds port 53 of every address, which the resolver's sockets would forbid were
they there. The rules live in the container's own network namespace, as its loopback does. They keep no state:
what goes to port 53 of the resolver is sent to where that listens, and what comes from there looks as if it
came from port 53. Connection tracking, should the container have any, never sees the difference.
"""

from __future__ import annotations

import socket

from composer.network.nft import expr
from composer.network.nft.table import ACCEPT, Chain, Part, Rule, Table, rule

NAME = "composer-resolver"
ADDRESS = "127.0.0.11"
PORT = 53

# Offsets in the headers, in bytes.
_ADDRESSES = {"saddr": 12, "daddr": 16}
_PORTS = {"sport": 0, "dport": 2}
_CHECKSUMS = {"udp": 6, "tcp": 16}

_ELSEWHERE: Part = (
    'oifname != "lo"',
    expr.oifname() + expr.compare(expr.encode("ifname", "lo"), equal=False),
)
_NOTRACK: Part = ("notrack", expr.notrack())


def table(udp: int, tcp: int) -> Table:
    """The rules for a resolver that listens on these ports."""
    rules = (
        rule(_ELSEWHERE, ACCEPT),
        *(_rule("udp", "daddr", "dport", PORT, udp), _rule("udp", "saddr", "sport", udp, PORT)),
        *(_rule("tcp", "daddr", "dport", PORT, tcp), _rule("tcp", "saddr", "sport", tcp, PORT)),
    )
    return Table(NAME, (), (Chain("out", "filter", "output", -300, rules),), "ip")


def _rule(protocol: str, address: str, port: str, old: int, new: int) -> Rule:
    """Packets with the resolver's address and the port `old` get the port `new`."""
    number = expr.PROTOCOLS[protocol].to_bytes()
    where: Part = (
        f"ip {address} {ADDRESS} {protocol} {port} {old}",
        expr.payload(1, _ADDRESSES[address], 4)
        + expr.compare(socket.inet_aton(ADDRESS))
        + expr.l4proto()
        + expr.compare(number)
        + expr.payload(2, _PORTS[port], 2)
        + expr.compare(old.to_bytes(2)),
    )
    change: Part = (
        f"{protocol} {port} set {new}",
        expr.load(new.to_bytes(2)) + expr.set_payload(2, _PORTS[port], 2, _CHECKSUMS[protocol]),
    )
    return rule(where, _NOTRACK, change)
