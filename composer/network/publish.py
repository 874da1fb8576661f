"""The firewall of a stack, from its networks and ports, and the end of everything a stack has on the
network.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable

from composer.network import registry
from composer.network.conntrack import Flow, forget_udp
from composer.network.lifecycle import remove_networks
from composer.network.netlink import NETLINK_NETFILTER, Netlink
from composer.network.nft import apply, neighbours, rules, spoof
from composer.network.nft.messages import Name
from composer.network.nft.rules import Bridge, PublishedPort
from composer.network.ports import is_local
from composer.network.registry import NetworkRecord
from composer.paths import Paths

_NFTABLES_GROUP = 7


def firewall() -> Netlink:
    """A socket for `publish` and `unpublish`; keep it, closing is slow."""
    return Netlink(protocol=NETLINK_NETFILTER)


def is_published(socket: Netlink, stack_name: str, networks: Iterable[NetworkRecord] = ()) -> bool:
    """Whether all that `publish` and `endpoints.guard` made is there, also what other firewalls need.

    `nft flush ruleset` takes it along with everybody's, `ufw reload` what was put into its chains.
    """
    names = (Name("inet", rules.table_name(stack_name)), Name("bridge", spoof.table_name(stack_name)))
    there = socket.request([name.get() for name in names], forgive=(errno.ENOENT,))
    return len(there) == len(names) and neighbours.is_let_through(socket, stack_name, _names(networks))


def watch() -> Netlink:
    """A socket that becomes readable when somebody changes nftables: `drain` it, then ask `is_published`."""
    socket = firewall()
    socket.join(_NFTABLES_GROUP)
    return socket


def publish(
    socket: Netlink, stack_name: str, networks: Iterable[NetworkRecord], ports: Iterable[PublishedPort]
) -> None:
    """Replace the stack's nftables table: isolation of its networks and its published ports, all at once.

    `networks` are all that the stack uses, those of others included. Call it before the first container
    starts (addresses are known from their leases), and whenever ports or networks change.
    """
    ports = list(ports)
    before = apply.numbers(socket, rules.table_name(stack_name), rules.UDP_PORTS)
    networks = list(networks)
    bridges = [_bridge(record) for record in networks if record.driver == "bridge"]
    apart = neighbours.let_through(socket, stack_name, _names(networks))
    apply.replace(socket, rules.table(stack_name, bridges, ports, apart, contacts(socket, stack_name)))
    apply.ensure(socket, spoof.table(stack_name))
    _forget_udp(socket, before, ports)


def contacts(socket: Netlink, stack_name: str) -> set[rules.Contact]:
    """What containers began to talk to outside of their bridges, as (from, to, protocol, port)."""
    name = rules.table_name(stack_name)
    return {contact for each in rules.REACHED.values() for contact in apply.elements(socket, name, each)}


def _forget_udp(socket: Netlink, before: set[int], ports: Iterable[PublishedPort]) -> None:
    """Cut the UDP flows that do not go where the rules now say; the others are not disturbed."""
    leads_to = rules.leads_to(ports, "udp")

    def stale(flow: Flow) -> bool:
        untouched = (flow.address, flow.port)
        wanted = leads_to.get(untouched)
        if wanted is None and is_local(flow.address):
            wanted = leads_to.get(("::" if ":" in flow.address else "", flow.port))
        return (wanted or untouched) != flow.answers

    forget_udp(socket, before | {port for _, port in leads_to}, stale)


def unpublish(socket: Netlink, stack_name: str) -> None:
    """Take the stack's table away; no error when there is none."""
    before = apply.numbers(socket, rules.table_name(stack_name), rules.UDP_PORTS)
    neighbours.let_through(socket, stack_name, ())
    apply.delete(socket, rules.table_name(stack_name))
    apply.delete(socket, spoof.table_name(stack_name), "bridge")
    _forget_udp(socket, before, ())


def teardown(paths: Paths, stack_name: str) -> None:
    """The end of everything of a stack: its table, its leases, its networks with their bridges.

    Its containers must be gone. Raises ConflictError when another stack's container is on one of its
    networks.
    """
    with firewall() as socket:
        unpublish(socket, stack_name)
    registry.keep_only(paths, stack_name, ())
    remove_networks(paths, [record for record in registry.networks(paths) if record.owner == stack_name])


def _bridge(record: NetworkRecord) -> Bridge:
    options = record.settings
    return Bridge(record.link, internal=record.internal, icc=options.icc, masquerade=options.masquerade)


def _names(networks: Iterable[NetworkRecord]) -> list[str]:
    return [record.link for record in networks if record.driver == "bridge"]
