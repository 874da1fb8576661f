"""What the firewall does for one stack: published ports, masquerading, isolation. Pure.

One table per stack. Every list (ports, bridges) is a set or map, so neither the number of rules nor the
cost of a packet grows with the stack. Each rule stands beside its nft text; tests hold the two against each
other.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable

from composer.network.nft import expr
from composer.network.nft.table import ACCEPT, DROP, Chain, Part, Rule, Set, Table, rule
from composer.value import Value

BRIDGE_GROUP = 0x63740001
"""The link group of all our bridges, of whatever stack."""

UDP_PORTS = "udp_ports"
"""A set that no rule uses: it says which UDP ports a table publishes, to whoever replaces the table."""


_ENDS = {version: (f"ipv{version}_addr",) * 2 for version in (4, 6)}
REACHED = {
    version: Set(f"reached{version}", (*ends, "inet_proto", "inet_service"), (), (), 4096)
    for version, ends in _ENDS.items()
}
"""What containers began to talk to outside of their bridges: from, to, protocol and port. Who replaces the
table takes what is in them along.
"""

Contact = tuple[str | int, ...]


class PublishedPort(Value):
    """`host_ip` "" is every address, IPv4 and IPv6. `ipv4` and `ipv6` are the container's; "" where it has
    none.
    """

    host_ip: str
    host_port: int
    protocol: str
    target: int
    ipv4: str = ""
    ipv6: str = ""


class Bridge(Value):
    """A network as the firewall sees it: the name of its bridge, and what is allowed."""

    name: str
    internal: bool = False
    icc: bool = True
    masquerade: bool = True


_MASQUERADE: Part = ("masquerade", expr.masquerade())
_V4 = expr.nfproto() + expr.compare(b"\x02")
_V6 = expr.nfproto() + expr.compare(b"\x0a")
_TO_LOOPBACK4: Part = (
    "ip daddr 127.0.0.0/8",
    _V4 + expr.payload(1, 16, 1) + expr.compare(b"\x7f"),
)
_NOT_LOOPBACK6: Part = (
    "ip6 daddr != ::1",
    _V6 + expr.payload(1, 24, 16) + expr.compare(bytes(15) + b"\x01", equal=False),
)
_FROM_NOWHERE: Part = ("iif 0", expr.iif() + expr.compare(expr.host32(0)))
_LOCAL: Part = ("fib daddr type local", expr.fib_type() + expr.compare(expr.host32(2)))
_ESTABLISHED: Part = (
    "ct state established,related",
    expr.ct(0) + expr.mask(expr.host32(2 | 4)) + expr.compare(expr.host32(0), equal=False),
)
_DNATED: Part = (
    "ct status dnat",
    expr.ct(2) + expr.mask(expr.host32(1 << 5)) + expr.compare(expr.host32(0), equal=False),
)
_NEIGHBOURS: Part = (
    "icmpv6 type 135-136",
    expr.l4proto() + expr.compare(b"\x3a") + expr.payload(2, 0, 1) + expr.within(b"\x87", b"\x88"),
)
_NEW: Part = (
    "ct state new",
    expr.ct(0) + expr.mask(expr.host32(8)) + expr.compare(expr.host32(0), equal=False),
)
_WITH_PORTS: Part = ("meta l4proto 6-17", expr.l4proto() + expr.within(b"\x06", b"\x11"))
_NOT_TO_OURS: Part = (
    f"oifgroup != {BRIDGE_GROUP}",
    expr.oifgroup() + expr.compare(expr.host32(BRIDGE_GROUP), equal=False),
)


def _from(name: str) -> Part:
    return f"iifname @{name}", expr.iifname() + expr.lookup(name)


def _to(name: str) -> Part:
    return f"oifname @{name}", expr.oifname() + expr.lookup(name)


def _between(name: str) -> Part:
    return f"iifname . oifname @{name}", expr.iifname(0) + expr.oifname(4) + expr.lookup(name)


def _translate(version: int, name: str, *, by_address: bool) -> Part:
    """dnat to what the map has for [address,] protocol and port."""
    ip, family, offset, words = (
        ("ip", socket.AF_INET, 16, 1) if version == 4 else ("ip6", socket.AF_INET6, 24, 4)
    )
    text = f"{ip} daddr . meta l4proto . th dport" if by_address else "meta l4proto . th dport"
    code = b""
    first = 0
    if by_address:
        code += expr.payload(1, offset, words * 4)
        first = words
    code += expr.l4proto(first) + expr.payload(2, 2, 2, first + 1)
    code += expr.lookup(name, to=0) + expr.dnat(family, 0, words)
    only = f"meta nfproto ipv{version} " if not by_address else ""
    return f"{only}dnat {ip} to {text} map @{name}", (_V4 if version == 4 else _V6) + code


def _remember(version: int) -> Part:
    """Both addresses, protocol and port."""
    ip, where, size, words = ("ip", (12, 16), 4, 1) if version == 4 else ("ip6", (8, 24), 16, 4)
    code = _V4 if version == 4 else _V6
    for number, offset in enumerate(where):
        code += expr.payload(1, offset, size, number * words)
    code += expr.l4proto(2 * words) + expr.payload(2, 2, 2, 2 * words + 1)
    name = REACHED[version].name
    text = f"add @{name} {{ {ip} saddr . {ip} daddr . meta l4proto . th dport }}"
    return text, code + expr.remember(name)


_FIXED = (
    # route_localnet lets the host send 127.0.0.1 to a container; nothing may come back in that way.
    Chain(
        "guard",
        "filter",
        "prerouting",
        -300,
        (rule(_TO_LOOPBACK4, _from("bridges"), DROP),),
    ),
    Chain(
        "forward",
        "filter",
        "forward",
        0,
        (
            rule(_ESTABLISHED, ACCEPT),
            rule(_between("talkative"), ACCEPT),
            *(rule(_from("bridges"), _WITH_PORTS, _remember(version)) for version in (4, 6)),
            rule(_from("internal"), DROP),
            rule(_from("bridges"), _to("apart"), _DNATED, ACCEPT),
            rule(_from("bridges"), _to("apart"), DROP),
            rule(_to("bridges"), _DNATED, ACCEPT),
            rule(_to("bridges"), DROP),
        ),
    ),
    Chain(
        "input",
        "filter",
        "input",
        0,
        (
            *(rule(_from("bridges"), _NEW, _WITH_PORTS, _remember(version)) for version in (4, 6)),
            rule(_from("internal"), _ESTABLISHED, ACCEPT),
            rule(_from("internal"), _NEIGHBOURS, ACCEPT),
            rule(_from("internal"), DROP),
        ),
    ),
    Chain(
        "postrouting",
        "nat",
        "postrouting",
        100,
        (
            rule(_from("outbound"), _NOT_TO_OURS, _MASQUERADE),
            # Where the answer would not come back through us, were the source kept: from a bridge to
            # itself, and from no interface (the host itself, or a frame that br_netfilter shows us while it
            # is bridged).
            rule(_between("within"), _DNATED, _MASQUERADE),
            rule(_FROM_NOWHERE, _to("bridges"), _DNATED, _MASQUERADE),
            # No route leads out of an internal network: who comes in by a port must look like its gateway.
            rule(_to("internal"), _DNATED, _MASQUERADE),
        ),
    ),
)


def table_name(stack: str) -> str:
    return f"composer-{stack}"


def table(
    stack: str,
    bridges: Iterable[Bridge],
    ports: Iterable[PublishedPort],
    apart: Iterable[str] = (),
    contacts: Iterable[Contact] = (),
) -> Table:
    """The whole table of a stack. `apart` are bridges of others that our containers are to be kept from,
    `contacts` what was reached before.
    """
    bridges = sorted(bridges, key=lambda bridge: bridge.name)
    ports = list(ports)
    maps = [found for found in _maps(ports) if found.elements]
    udp = {port.host_port for port in ports if port.protocol == "udp"}
    others = Set("apart", ("ifname",), (), tuple(((name,), ()) for name in sorted(apart)))
    noted = Set(UDP_PORTS, ("inet_service",), (), tuple(((port,), ()) for port in sorted(udp)))
    known: dict[int, list[tuple[Contact, tuple[()]]]] = {4: [], 6: []}
    for contact in sorted(set(contacts), key=str):
        known[6 if ":" in str(contact[1]) else 4].append((contact, ()))
    reached = [REACHED[version].replace(elements=tuple(known[version])) for version in REACHED]
    sets = (*_sets(bridges), others, noted, *reached, *maps)
    return Table(table_name(stack), sets, _chains({found.name for found in maps}))


def leads_to(ports: Iterable[PublishedPort], protocol: str) -> dict[tuple[str, int], tuple[str, int]]:
    """(host address, "" for every IPv4 and "::" for every IPv6 one, and port) → the container's, as the
    maps say.
    """
    return {
        ("" if name == "any4" else "::" if name == "any6" else str(fields[0]), int(fields[-1])): (
            str(data[0]),
            int(data[1]),
        )
        for found in _maps(port for port in ports if port.protocol == protocol)
        for name in (found.name,)
        for fields, data in found.elements
    }


def _sets(bridges: list[Bridge]) -> list[Set]:
    def names(name: str, chosen: Iterable[Bridge]) -> Set:
        return Set(name, ("ifname",), (), tuple(((bridge.name,), ()) for bridge in chosen))

    def pairs(name: str, chosen: Iterable[Bridge]) -> Set:
        return Set(name, ("ifname", "ifname"), (), tuple(((b.name, b.name), ()) for b in chosen))

    return [
        names("bridges", bridges),
        names("internal", (bridge for bridge in bridges if bridge.internal)),
        names("outbound", (bridge for bridge in bridges if bridge.masquerade and not bridge.internal)),
        pairs("within", bridges),
        pairs("talkative", (bridge for bridge in bridges if bridge.icc)),
    ]


_MAPS = {
    f"{name}{version}": (
        (*((f"ipv{version}_addr",) if name != "any" else ()), "inet_proto", "inet_service"),
        (f"ipv{version}_addr", "inet_service"),
    )
    for version in (4, 6)
    for name in ("any", "at", "local")
    if (name, version) != ("local", 6)
}
"""Published on every address, on one, and on a loopback address (never looked at for packets from
outside).
"""


def _maps(ports: Iterable[PublishedPort]) -> list[Set]:
    elements: dict[str, dict[tuple[str | int, ...], tuple[str | int, ...]]] = {name: {} for name in _MAPS}
    for port in ports:
        for version, address in ((4, port.ipv4), (6, port.ipv6)):
            name = _map_of(port.host_ip, version)
            if name in elements and address:
                where = () if name.startswith("any") else (port.host_ip,)
                elements[name][*where, port.protocol, port.host_port] = (address, port.target)
    return [Set(name, *_MAPS[name], tuple(sorted(found.items()))) for name, found in elements.items()]


def _map_of(host_ip: str, version: int) -> str:
    """ "" when the port is not published on this IP version."""
    if not host_ip:
        return f"any{version}"
    address = ipaddress.ip_address(host_ip)
    if address.version != version:
        return ""
    kind = "any" if address.is_unspecified else "local" if address.is_loopback else "at"
    return f"{kind}{version}"


def _chains(maps: set[str]) -> tuple[Chain, ...]:
    # ::1 is left to a relay: the kernel drops packets for it that come from a bridge, translated or not.
    local = {4: (_LOCAL,), 6: (_NOT_LOOPBACK6, _LOCAL)}

    def translations(*names: str) -> list[Rule]:
        rules = []
        for version in (4, 6):
            for name in names:
                if f"{name}{version}" in maps:
                    part = _translate(version, f"{name}{version}", by_address=name != "any")
                    rules.append(rule(*local[version], part) if name == "any" else rule(part))
        return rules

    return (
        *_FIXED,
        *(
            Chain(name, "nat", name, -100, rules)
            for name, rules in (
                ("prerouting", tuple(translations("at", "any"))),
                ("output", tuple(translations("local", "at", "any"))),
            )
            if rules
        ),
    )
