"""Networks from the first `up` to the last `down`: the record on disk, the bridge in the kernel, kept in
step.

Everything is idempotent, so whatever a crash left half done is finished by the next call.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterable

from composer.errors import ConflictError, NotFoundError
from composer.model.stack import Network
from composer.network import links, registry, sysctl
from composer.network.addresses import mac_of
from composer.network.netlink import Netlink
from composer.network.nft.rules import BRIDGE_GROUP
from composer.network.registry import NetworkRecord
from composer.paths import Paths

Notice = Callable[[str], None]


def ensure_network(
    paths: Paths, stack_name: str, network: Network, notice: Notice = lambda _: None
) -> NetworkRecord:
    """The network, recorded and with its bridge up; made when missing. A few microseconds when all is there.

    Raises NotFoundError for an `external` one that nobody made, ConflictError when the name belongs to
    somebody else or the existing one has other settings (`registry.drift` names them).
    """
    record = registry.find(paths, network.name)
    with Netlink() as host:
        if record is None:
            if network.external:
                raise NotFoundError(
                    f"the external network {network.name} does not exist",
                    hint=f"make it with `composer network create {network.name}`",
                )
            record = registry.create(paths, stack_name, network, _taken(host))
        if not network.external:
            _check(record, stack_name, network)
        raise_link(host, record, notice)
    return record


def _check(record: NetworkRecord, stack_name: str, network: Network) -> None:
    if record.owner != stack_name:
        whose = f"stack {record.owner}" if record.owner else "`composer network create`"
        raise ConflictError(
            f"a network named {network.name} exists already, made by {whose}",
            hint="set `external: true` to use it, or another `name`",
        )
    if differs := registry.drift(record, network):
        raise ConflictError(
            f"network {network.name} exists with another {', '.join(differs)}",
            hint="`composer down` removes it, and the next `up` makes it anew",
        )


def _taken(host: Netlink) -> list[str]:
    return [*links.routes(host, socket.AF_INET), *links.routes(host, socket.AF_INET6)]


def raise_link(host: Netlink, record: NetworkRecord, notice: Notice = lambda _: None) -> None:
    """Make the network's bridge unless it is there and up: up is the last step, so a half-made one is
    finished.
    """
    if record.driver in ("macvlan", "ipvlan"):
        _raise_vlan(host, record)
    if record.driver != "bridge":
        return
    there = links.find(host, [record.link]).get(record.link)
    if there is not None and there.kind != "bridge":
        raise ConflictError(f"network {record.name}: {record.link} is not a bridge but another interface")
    if there is not None and there.up:
        return
    options = record.settings
    mac = mac_of(record.gateway(4), bytes.fromhex(record.id[:8]))
    host.request([links.add_bridge(record.link, mac, options.mtu or 1500)], forgive=(errno.EEXIST,))
    index = links.find(host, [record.link])[record.link].index
    v6 = bool(record.gateway(6)) and sysctl.has_ipv6()
    _configure_host(record, v6, notice)
    requests = [links.set_group(index, BRIDGE_GROUP)]
    if not v6:
        requests.append(links.no_link_local(record.link))
    requests += [
        links.add_address(index, f"{pool.gateway}/{pool.subnet.partition('/')[2]}")
        for pool in record.pools
        if pool.version == 4 or v6
    ]
    host.request([*requests, links.set_up(record.link)], forgive=(errno.EAFNOSUPPORT,))


def _raise_vlan(host: Netlink, record: NetworkRecord) -> None:
    """The parent interface `eth0.10` is made when it is missing: VLAN 10 of eth0. Others must exist."""
    base, dot, number = record.link.rpartition(".")
    there = links.find(host, [record.link, *([base] if base else [])])
    if record.link in there:
        return
    if not dot or base not in there or not number.isdecimal() or not 0 < int(number) < 4095:
        raise NotFoundError(
            f"network {record.name}: there is no interface {record.link}", hint="see driver_opts.parent"
        )
    host.request([links.add_vlan(record.link, there[base].index, int(number))], forgive=(errno.EEXIST,))
    index = links.find(host, [record.link])[record.link].index
    host.request([links.set_group(index, BRIDGE_GROUP), links.set_up(record.link)])


def _configure_host(record: NetworkRecord, v6: bool, notice: Notice) -> None:
    """What the host must allow: to forward, and to send 127.0.0.1 to a container (see nft/rules for the
    guard).
    """
    forward = [("ipv4/ip_forward", "1"), *([("ipv6/conf/all/forwarding", "1")] if v6 else [])]
    for name, value in forward:
        if not record.internal and sysctl.read(name) == "0":
            sysctl.write(name, value)
            notice(f"turned {name.replace('/', '.')} on, which containers need to reach other hosts")
    sysctl.write(f"ipv4/conf/{record.link}/route_localnet", "1")
    if v6:
        sysctl.write(f"ipv6/conf/{record.link}/accept_ra", "0")


def remove_network(paths: Paths, name: str) -> None:
    """Delete the bridge and the record; no error when either is gone. Raises ConflictError while it is in
    use.
    """
    record = registry.find(paths, name)
    if record is not None:
        remove_networks(paths, [record])


def remove_networks(paths: Paths, records: Iterable[NetworkRecord]) -> None:
    """Delete bridges in one request, then the records. The kernel takes some 40 ms for the first bridge and
    20 ms for each further one; one by one it would be 40 ms each.
    """
    records = list(records)
    with Netlink() as host:
        for record in records:
            # By leases, not by what hangs on the bridge: interfaces of containers that have ended stay
            # for a while, and go with it.
            others = {held.slot for held in registry.held(paths, record.name)}
            others = {slot for slot in others if slot.partition("/")[0] != record.owner}
            if others:
                raise ConflictError(
                    f"network {record.name} is in use by {', '.join(sorted(others))}",
                    hint="take that down, or disconnect it, first",
                )
        found = links.find(host, [record.link for record in records])
        if doomed := [found[record.link] for record in records if _is_ours(record, found.get(record.link))]:
            group = int.from_bytes(os.urandom(4)) | 1
            moves = [links.set_group(link.index, group) for link in doomed]
            host.request([*moves, links.delete_group(group)], forgive=(errno.ENODEV,))
    for record in records:
        registry.remove(paths, record.name)


def _is_ours(record: NetworkRecord, link: links.Link | None) -> bool:
    """A parent interface of a macvlan is ours only when we made it; a bridge also when it is half made."""
    if link is None:
        return False
    return link.kind == "bridge" if record.driver == "bridge" else link.group == BRIDGE_GROUP
