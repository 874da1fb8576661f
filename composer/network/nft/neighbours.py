"""Living beside other firewalls: Docker's, ufw, firewalld, the administrator's own.

A packet passes every base chain of its hook; one that drops it has the last word, whatever ours say. So
where the forward chain of iptables drops by default, containers need rules in there. They stand at its end,
behind all that Docker, ufw and people have put there, so they overrule the default and nothing else. Other
tables are not ours to change: `findings` names those that are in the way.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from composer.network import links, sysctl
from composer.network.netlink import Message, Netlink, NetlinkError, attributes, text
from composer.network.nft import expr
from composer.network.nft.messages import FAMILIES, Name, list_chains
from composer.value import Value

_INPUT, _FORWARD = 1, 2
_FAMILY_NAMES = {number: name for name, number in FAMILIES.items()}
_DOCKERS = re.compile(r"docker0|docker_gwbridge|br-[0-9a-f]{12}")
_TRIES = 3


class Chain(Value):
    """A chain of the host. `hook` is -1 for one that only others jump to."""

    family: str
    table: str
    name: str
    hook: int = -1
    drops: bool = False


class Finding(Value):
    """Something on the host that stands in the way. `remedy` is what an administrator may do."""

    problem: str
    remedy: str


def chains(socket: Netlink) -> list[Chain]:
    """Every chain of nftables, those of iptables-nft included."""
    return [_chain(answer.body) for answer in socket.dump(*list_chains(), "listing nftables chains")]


def _chain(body: memoryview) -> Chain:
    found = dict(attributes(body[4:]))
    hook = dict(attributes(found.get(4, b"")))
    return Chain(
        family=_FAMILY_NAMES.get(body[0], ""),
        table=text(found[1]),
        name=text(found[3]),
        hook=int.from_bytes(hook[1], "big") if hook else -1,
        drops=5 in found and int.from_bytes(found[5], "big") == expr.DROP,
    )


def let_through(socket: Netlink, stack: str, bridges: Iterable[str]) -> list[str]:
    """Have the forward chains of iptables let these bridges' packets through, and no others of the stack's.

    Beside ufw only what containers send: ufw lets answers pass by itself, and who may reach a published port
    stays its decision. Returns the bridges of Docker, from which our containers are to be kept apart: its own
    rules rely on that default.
    """
    there = chains(socket)
    for chain, wanted in _wanted(there, bridges):
        _settle(socket, chain, f"composer {stack}", wanted)
    if not any(chain.name == "DOCKER" for chain in there):
        return []
    with Netlink() as host:
        return [link.name for link in links.links(host) if _DOCKERS.fullmatch(link.name)]


def is_let_through(socket: Netlink, stack: str, bridges: Iterable[str]) -> bool:
    """Whether `let_through` has nothing to add."""
    return all(
        wanted <= _ours(socket, chain, f"composer {stack}").keys()
        for chain, wanted in _wanted(chains(socket), bridges)
    )


def _wanted(there: list[Chain], bridges: Iterable[str]) -> Iterator[tuple[Chain, set[tuple[str, str]]]]:
    """The forward chains of iptables, and the rules (way, bridge) that they need."""
    bridges = sorted(bridges)
    ways = ("i",) if any(chain.name.startswith("ufw-") for chain in there) else ("i", "o")
    for chain in there:
        if chain.table == "filter" and chain.name == "FORWARD" and chain.family in ("ip", "ip6"):
            yield chain, {(way, bridge) for way in ways for bridge in bridges if chain.drops}


def _settle(socket: Netlink, chain: Chain, tag: str, wanted: set[tuple[str, str]]) -> None:
    for tries_left in reversed(range(_TRIES)):
        have = _ours(socket, chain, tag)
        changes: list[Message] = [
            Name(chain.family, chain.table).delete_rule(chain.name, handle)
            for rule, handle in have.items()
            if rule not in wanted
        ]
        changes += [_rule(chain, tag, *rule) for rule in sorted(wanted - have.keys())]
        try:
            if changes:
                socket.transaction(changes)
            return
        except NetlinkError as error:
            if error.errno != errno.ENOENT or not tries_left:  # somebody else deleted it first
                raise


_WAYS = {"i": expr.iifname, "o": expr.oifname}


def _rule(chain: Chain, tag: str, way: str, bridge: str) -> Message:
    """Just as `iptables -A FORWARD -i BRIDGE -m comment --comment TAG -j ACCEPT` makes it, so it can show
    it.
    """
    code = (
        _WAYS[way]()
        + expr.compare(bridge.encode() + b"\0")
        + expr.comment(tag)
        + expr.counter()
        + expr.verdict(expr.ACCEPT)
    )
    return Name(chain.family, chain.table).add_rule(chain.name, code, f"-{way} {bridge} -j ACCEPT")


def _ours(socket: Netlink, chain: Chain, tag: str) -> dict[tuple[str, str], int]:
    """(way, bridge) → handle of the rules with our remark."""
    found = {}
    request = Name(chain.family, chain.table).list_rules(chain.name)
    for answer in socket.dump(*request, f"listing the rules of {chain.table} {chain.name}"):
        parts = dict(attributes(answer.body[4:]))
        parsed = [dict(attributes(expression)) for _, expression in attributes(parts.get(4, b""))]
        data = {text(each[1]): dict(attributes(each.get(2, b""))) for each in parsed}
        if {"meta", "cmp", "match"} <= data.keys() and text(data["match"].get(3, b"")) == tag:
            way = "i" if int.from_bytes(data["meta"][2], "big") == 6 else "o"
            name = text(dict(attributes(data["cmp"][3]))[1])
            found[way, name] = int.from_bytes(parts[3], "big")
    return found


def who_decides(there: Iterable[Chain]) -> str:
    """Who has the last word on what other hosts send to published ports; "" when nobody else has one."""
    drops = [chain for chain in there if chain.hook == _FORWARD and chain.drops]
    if drops and any(chain.name.startswith("ufw-") for chain in there):
        return "ufw"
    if any(chain.table == "firewalld" for chain in there):
        return "firewalld"
    # Docker's (see `let_through`) is no decision about us.
    own = (c for c in drops if (c.table, c.name) != ("filter", "FORWARD") and not _is_ours(c))
    return next((f"the nftables chain {chain.table} {chain.name}" for chain in own), "")


def goes_around(there: Iterable[Chain]) -> str:
    """The chain that refuses what comes in to this host and never sees published ports; "" where none is so.

    They are forwarded, as Docker's are, and so pass no input chain.
    """
    if who_decides(there):
        return ""
    walls = (chain for chain in there if chain.hook == _INPUT and chain.drops and not _is_ours(chain))
    return next((f"{chain.table} {chain.name}" for chain in walls), "")


def _is_ours(chain: Chain) -> bool:
    return chain.table.startswith("composer-")


def findings(socket: Netlink) -> list[Finding]:
    """What on this host keeps containers or published ports from working."""
    there = chains(socket)
    tables = {chain.table for chain in there}
    foreign = [chain for chain in there if chain.hook == _FORWARD and not _is_ours(chain)]
    found = [
        Finding(
            f"the nftables chain {chain.table} {chain.name} drops forwarded packets by default",
            'add to it: iifname "ct-*" accept; oifname "ct-*" ct state established,related accept',
        )
        for chain in foreign
        if chain.drops and (chain.table, chain.name) != ("filter", "FORWARD")
    ]
    if "firewalld" in tables:
        found.append(
            Finding(
                "firewalld rejects what it does not know, containers' packets included",
                "firewall-cmd --permanent --zone=trusted --add-interface=ct-+ && firewall-cmd --reload",
            )
        )
    if any(chain.name.startswith("ufw-") for chain in there) and any(chain.drops for chain in foreign):
        found.append(
            Finding(
                "ufw decides which published ports other hosts reach, and denies by default",
                "ufw route allow proto tcp from any to any port <the container's port>",
            )
        )
    if wall := goes_around(there):
        found.append(
            Finding(
                f"{wall} drops what comes in, but published ports are forwarded: other hosts reach them",
                "publish on 127.0.0.1 what is for this host; or in a forward chain: "
                'iifname != "lo" oifname "ct-*" ct status dnat drop',
            )
        )
    if "filter" in _legacy_tables():
        found.append(
            Finding(
                "the old iptables (legacy) has filter rules, which may drop containers' packets",
                "in its FORWARD chain, accept -i ct-+ and -o ct-+; or change to iptables-nft",
            )
        )
    if sysctl.read("ipv4/ip_forward") == "0":
        found.append(
            Finding("ipv4.ip_forward is off: containers reach no other host", "sysctl net.ipv4.ip_forward=1")
        )
    return found


def _legacy_tables() -> list[str]:
    try:
        return Path("/proc/net/ip_tables_names").read_text().split()
    except OSError:
        return []
