"""A container's interfaces: which ones, under which names, with which default route (pure); and making
them.
"""

from __future__ import annotations

import errno
import hashlib
import socket
from collections.abc import Iterable, Sequence

from composer.errors import NotFoundError
from composer.model.stack import Attachment
from composer.network import links, sysctl
from composer.network.netlink import Message, Netlink
from composer.network.nft import apply, spoof
from composer.network.options import EndpointOptions
from composer.network.registry import Lease, NetworkRecord
from composer.value import Value

Place = tuple[NetworkRecord, Lease, Attachment]
"""A container on one network: the network, its addresses there, what it asked for."""

_NO_IPV6 = (errno.EAFNOSUPPORT,)
"""What a kernel started with ipv6.disable=1 says; IPv4 is to work all the same."""


class Endpoint(Value):
    """One interface of one container. `pid` is a process in its network namespace; `link` the bridge, or the
    parent interface of a macvlan or ipvlan; `addresses` have prefix lengths."""

    container: str
    network: str
    pid: int
    interface: str
    link: str
    addresses: tuple[str, ...] = ()
    gateway4: str = ""
    gateway6: str = ""
    default_route: bool = False
    mac: str = ""
    mtu: int = 1500
    driver: str = "bridge"
    mode: str = ""
    flag: str = "bridge"
    icc: bool = True
    stack: str = ""
    guarded: bool = True
    """Whether it may send under its own MAC and addresses only."""
    sysctls: tuple[tuple[str, str], ...] = ()
    """Names below /proc/sys/net, and values."""


def arrange(
    container: str,
    pid: int,
    places: Iterable[Place],
    *,
    guarded: bool = True,
) -> list[Endpoint]:
    """The interfaces of a container, in order: highest `priority` first, then by network name.

    The default route is by the network with the highest `gw_priority`, then `priority`, then the first by
    name, of those that lead outside (`internal` ones never do); IPv4 and IPv6 are decided apart, as in
    Docker.
    """
    order = sorted(places, key=lambda p: (-p[2].priority, p[0].name))
    asked = {record.name: EndpointOptions.read(at.driver_opts) for record, _, at in order}
    given = {at.interface_name or asked[record.name].interface for record, _, at in order}
    outside = [record for record, _, _ in by_preference(order) if not record.internal]
    first = {
        version: next((record.name for record in outside if record.gateway(version)), "")
        for version in (4, 6)
    }
    endpoints = []
    for record, lease, attachment in order:
        options = record.settings
        extra = asked[record.name]
        interface = attachment.interface_name or extra.interface or _free_name(options.prefix, given)
        given.add(interface)
        own = {version: record.name == first[version] for version in (4, 6)}
        endpoints.append(
            Endpoint(
                container=container,
                network=record.name,
                pid=pid,
                interface=interface,
                link=record.link,
                addresses=(*lease.addresses, *(_link_local(ip) for ip in attachment.link_local_ips)),
                gateway4=record.gateway(4) if own[4] else "",
                gateway6=record.gateway(6) if own[6] else "",
                default_route=own[4] or own[6],
                mac=lease.mac,
                mtu=options.mtu or 1500,
                driver=record.driver,
                mode=options.mode,
                flag=options.flag,
                icc=options.icc,
                stack=lease.slot.partition("/")[0],
                guarded=guarded and record.driver == "bridge",
                sysctls=tuple((name.format(interface), value) for name, value in extra.sysctls),
            )
        )
    return endpoints


def by_preference(places: Iterable[Place]) -> list[Place]:
    """First the network by which the default route goes and published ports come in, then the others."""
    return sorted(places, key=lambda p: (p[0].internal, -p[2].gw_priority, -p[2].priority, p[0].name))


def _free_name(prefix: str, given: set[str]) -> str:
    return next(
        name for name in (f"{prefix}{number}" for number in range(len(given) + 1)) if name not in given
    )


def _link_local(address: str) -> str:
    return f"{address}/{64 if ':' in address else 16}" if "/" not in address else address


def attach(
    host: Netlink, inside: Netlink, endpoints: Sequence[Endpoint], firewall: Netlink | None = None
) -> None:
    """Make all interfaces of one container, in a handful of system calls whatever their number.

    `inside` is a socket of the container's namespace; with `firewall` (see `publish.firewall`) the guarded
    endpoints are guarded against forging. Raises NetlinkError; interfaces that were made before a failure die
    with the namespace. Raises NotFoundError when a bridge or parent interface is missing.
    """
    masters = links.find(host, {endpoint.link for endpoint in endpoints})
    for endpoint in endpoints:
        if endpoint.link not in masters:
            raise NotFoundError(
                f"network {endpoint.network}: there is no interface {endpoint.link}",
                hint="run `composer up` again",
            )
    guarded = [e for e in endpoints if e.guarded] if firewall is not None else []
    # br_netfilter translates addresses while a frame is still being bridged: a container that calls itself by
    # a published port gets its own frame back, which only a port in hairpin mode lets through.
    hairpin = sysctl.read("bridge/bridge-nf-call-iptables") == "1"
    made = [message for e in endpoints for message in _outside(e, masters[e.link], hairpin, e in guarded)]
    bridged = [host_name(endpoint) for endpoint in endpoints if endpoint.driver == "bridge"]
    index = dict(zip(bridged, map(links.index_of, host.request(made, forgive=_NO_IPV6)), strict=True))
    if firewall is not None and guarded:
        guard(firewall, guarded[0].stack, [(each.mac, addresses_of(each)) for each in guarded])
    macs = [links.add_static_mac(index[host_name(endpoint)], endpoint.mac) for endpoint in guarded]
    host.request([*macs, *map(links.set_up, bridged)])
    _configure(inside, endpoints)
    # Asking for a link makes the kernel act on its carrier at once (from Linux 6.8 on), not in a work queue
    # some time later: the first packet of the container is not lost.
    host.request(map(links.get_link, bridged))


def _outside(endpoint: Endpoint, master: links.Link, hairpin: bool, guarded: bool) -> list[Message]:
    peer, mac, pid, mtu = endpoint.interface, endpoint.mac, endpoint.pid, min(endpoint.mtu, master.mtu)
    if endpoint.driver == "macvlan":
        mode = endpoint.mode or "bridge"
        return [links.add_macvlan(master.index, mtu, peer=peer, mac=mac, pid=pid, mode=mode)]
    if endpoint.driver == "ipvlan":
        mode = endpoint.mode or "l2"
        return [links.add_ipvlan(master.index, mtu, peer=peer, pid=pid, mode=mode, flag=endpoint.flag)]
    name = host_name(endpoint)
    return [
        links.add_veth(
            name, master.index, endpoint.mtu, peer=peer, mac=mac, pid=pid, alias=endpoint.container
        ),
        links.set_port(
            name,
            group=spoof.group(endpoint.stack) if guarded else 0,
            isolated=not endpoint.icc,
            hairpin=hairpin,
            locked=guarded,
            learning=not guarded,
            flood=not guarded,
        ),
        links.no_link_local(name),
        links.get_link(name),
    ]


def guard(firewall: Netlink, stack: str, senders: Iterable[tuple[str, Sequence[str]]]) -> None:
    """Say which addresses go with which MAC, to those said before. Raises NetlinkError."""
    elements: dict[str, list[tuple[str, ...]]] = {"senders4": [], "senders6": []}
    for mac, addresses in senders:
        for name, pairs in spoof.senders(mac, addresses).items():
            elements[name].extend(pairs)
    apply.add_elements(firewall, spoof.table(stack), elements)


def host_name(endpoint: Endpoint) -> str:
    """The host's end of the pair. By pid and interface, so a container that is still dying keeps no name
    away.
    """
    return (
        "cv" + hashlib.sha256(f"{endpoint.pid}/{endpoint.interface}/{endpoint.mac}".encode()).hexdigest()[:12]
    )


def _configure(inside: Netlink, endpoints: Sequence[Endpoint]) -> None:
    """Addresses and routes, from within. Without an IPv6 address there is no IPv6 on the interface at all."""
    names = [endpoint.interface for endpoint in endpoints]
    quiet = [links.no_link_local(e.interface) for e in endpoints if not any(":" in a for a in e.addresses)]
    ups = [links.set_up(name) for name in ("lo", *names)]
    answers = inside.request([*quiet, *ups, *map(links.get_link, names)], forgive=_NO_IPV6)
    index = dict(zip(names, map(links.index_of, answers), strict=True))
    requests = []
    for endpoint in endpoints:
        at = index[endpoint.interface]
        of = f" of {endpoint.container}"
        requests += [links.add_address(at, address, what=of) for address in endpoint.addresses]
        requests += [
            links.add_route(at, gateway) for gateway in (endpoint.gateway4, endpoint.gateway6) if gateway
        ]
    inside.request(requests, forgive=_NO_IPV6)


def detach(inside: Netlink, interfaces: Iterable[str]) -> None:
    """Take interfaces away from a running container; one that is gone already is no error."""
    inside.request([links.delete_link(name) for name in interfaces], forgive=(errno.ENODEV,))


def reroute(inside: Netlink, endpoints: Sequence[Endpoint]) -> None:
    """Set the default routes again, after `detach` or a second `attach` has changed who leads outside."""
    index = links.find(inside, [endpoint.interface for endpoint in endpoints])
    for family, gateways in (
        (socket.AF_INET, [(e.interface, e.gateway4) for e in endpoints]),
        (socket.AF_INET6, [(e.interface, e.gateway6) for e in endpoints]),
    ):
        chosen = [links.add_route(index[name].index, gateway) for name, gateway in gateways if gateway]
        if chosen:
            inside.request(chosen)
        else:
            inside.request([links.delete_default_routes(family)], forgive=(errno.ESRCH, errno.ENOENT))


def statistics(inside: Netlink) -> dict[str, links.Link]:
    """The container's interfaces by name, with their counters as it sees them; loopback is left out."""
    return {link.name: link for link in links.links(inside) if link.name != "lo" and link.mac}


def addresses_of(endpoint: Endpoint) -> list[str]:
    """Without prefix lengths."""
    return [address.partition("/")[0] for address in endpoint.addresses]
