"""Networks as the supervisor handles them: containers get interfaces and names, published ports get rules.

Joins what the network room offers. Names and rules of the whole stack are computed afresh from the live
containers whenever one of them changed (`dirty`), once per pass of the loop.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import anyio

from composer.errors import ComposerError
from composer.model.stack import Attachment, Network, Service
from composer.network import registry
from composer.network.dns.resolvconf import upstreams
from composer.network.dns.server import Resolver
from composer.network.dns.zone import EndpointName, zone
from composer.network.endpoints import Endpoint, arrange, attach
from composer.network.lifecycle import ensure_network, remove_networks
from composer.network.netlink import Netlink
from composer.network.nft.apply import replace
from composer.network.nft.resolver import table
from composer.network.nft.rules import PublishedPort
from composer.network.publish import firewall, publish, unpublish
from composer.network.registry import Lease, LeaseRequest, NetworkRecord
from composer.paths import Paths
from composer.plan.observed import NetworkState
from composer.record import NetworkRow
from composer.supervisor.world import Live, World

Place = tuple[NetworkRecord, Lease, Attachment]
ALIVE = ("running", "paused")


class LeaseBatch:
    """Requests of one moment, answered by one write."""

    def __init__(self) -> None:
        self.requests: list[LeaseRequest] = []
        self.leases: list[Lease] = []
        self.error: ComposerError | None = None
        self.done = anyio.Event()


def host_resolv_conf() -> str:
    try:
        return Path("/etc/resolv.conf").read_text(errors="replace")
    except OSError:
        return ""


class Net:
    """The stack's networks. Made inside the running event loop."""

    def __init__(self, paths: Paths, stack: str, world: World, notice: Callable[[str], None]) -> None:
        self.paths, self.stack, self.world, self.notice = paths, stack, world, notice
        self.host = Netlink()
        self.firewall = firewall()
        self.resolver = Resolver(upstreams(host_resolv_conf()))
        self.batch = LeaseBatch()
        self.dirty = False
        self.naming = False
        self.published: tuple[list[NetworkRecord], list[PublishedPort]] | None = None
        self.records: dict[str, NetworkRecord] = {}
        self.digests: dict[str, str] = {}
        """Of networks, as the record has them."""

    def look(self, names: Iterable[str]) -> None:
        """What of these networks exists on the host, for planning."""
        for name in names:
            record = registry.find(self.paths, name)
            if record is None:
                self.world.networks.pop(name, None)
            else:
                self.know(record)

    def know(self, record: NetworkRecord, key: str = "", digest: str = "") -> None:
        old = self.world.networks.get(record.name)
        self.records[record.name] = record
        self.world.networks[record.name] = NetworkState(
            name=record.name,
            key=key or (old.key if old else ""),
            owner=record.owner,
            digest=digest or (old.digest if old else self.digests.get(record.name, "")),
        )

    def ensure(self, network: Network, digest: str) -> None:
        """The network exists, with its bridge. Raises ConflictError, NotFoundError."""
        record = ensure_network(self.paths, self.stack, network, self.notice)
        self.know(record, network.key, digest)
        self.touch()

    def remove(self, name: str) -> None:
        record = registry.find(self.paths, name)
        if record is not None:
            remove_networks(self.paths, [record])
        self.world.networks.pop(name, None)
        self.records.pop(name, None)

    async def places(self, live: Live, wanted: Mapping[str, Attachment]) -> list[Place]:
        """Addresses for a container on networks given by host name; they stay with its slot."""
        requests = [
            LeaseRequest(self.record(name), slot(self.stack, live), attachment)
            for name, attachment in wanted.items()
        ]
        leases = await self.lease(requests) if requests else []
        return [
            (request.record, lease, request.attachment)
            for request, lease in zip(requests, leases, strict=True)
        ]

    async def lease(self, requests: list[LeaseRequest]) -> list[Lease]:
        """Leases, asked for together with those of all containers that start in the same moment."""
        batch = self.batch
        begin = len(batch.requests)
        batch.requests += requests
        if begin:
            await batch.done.wait()
        else:
            await anyio.lowlevel.checkpoint()
            self.batch = LeaseBatch()
            try:
                batch.leases = registry.leases(self.paths, batch.requests)
            except ComposerError as error:
                batch.error = error
            batch.done.set()
        if batch.error is not None:
            # Somebody's wish cannot be met; who asked for nothing special must not suffer for it.
            return registry.leases(self.paths, requests)
        return batch.leases[begin : begin + len(requests)]

    def record(self, name: str) -> NetworkRecord:
        if name not in self.records:
            self.records[name] = registry.inspect(self.paths, name)
        return self.records[name]

    def release(self, live: Live) -> None:
        registry.release(self.paths, [slot(self.stack, live)])

    def expected(self, places: list[Place], service: Service | None = None) -> dict[str, NetworkRow]:
        """The interfaces that `connect` will make."""
        return rows(arrange("", 0, places), places, service)

    def connect(self, live: Live, netlink: int, places: list[Place], service: Service | None) -> None:
        """Make a container's interfaces, through a netlink socket of its own namespace."""
        endpoints = arrange(live.name, live.pid, places)
        with Netlink(netlink) as inside:
            attach(self.host, inside, endpoints)
        live.networks = rows(endpoints, places, service)
        self.touch()

    def translate(self, nfnetlink: int, udp: int, tcp: int) -> None:
        """Port 53 is the container's own: lead its questions to where the resolver's sockets are bound."""
        with Netlink(nfnetlink) as inside:
            replace(inside, table(port_of(udp), port_of(tcp)))

    def answer(self, live: Live, service: Service | None, udp: int, tcp: int) -> None:
        """Answer a container's questions on sockets that are bound in its namespace."""
        names = tuple(live.networks)
        own = service.dns if service else ()
        closed = all(self.record(name).internal for name in names)
        links = dict(link_pairs(service.links)) if service else {}
        self.resolver.add(
            live.plan.id,
            socket.socket(fileno=udp),
            socket.socket(fileno=tcp),
            networks=names,
            upstreams=() if closed and not own else own or None,
            links={alias: target for alias, target in links.items() if alias != target},
        )
        self.touch()

    def forget(self, live: Live) -> None:
        """A container has ended."""
        self.resolver.remove(live.plan.id)
        self.touch()

    def settle(self) -> None:
        """Names and rules follow what is. Raises NetlinkError."""
        if not self.dirty:
            return
        self.dirty = False
        running = [live for live in self.world.containers.values() if live.plan.state in ALIVE]
        ports = [port for live in running for port in published(live)]
        bridges = [record for record in self.records.values() if record.driver == "bridge"]
        if self.published != (bridges, ports):
            publish(self.firewall, self.stack, bridges, ports)
            self.published = (bridges, ports)

    def touch(self) -> None:
        """Containers changed: names follow before anything else is heard, rules with the next `settle`."""
        self.dirty = True
        if not self.naming:
            self.naming = True
            asyncio.get_running_loop().call_soon(self.name)

    def name(self) -> None:
        self.naming = False
        running = [live for live in self.world.containers.values() if live.pid]
        self.resolver.set_zone(zone(entry for live in running for entry in names(live)))

    def end(self) -> None:
        """The stack is down: its rules go."""
        unpublish(self.firewall, self.stack)
        self.published = None

    def close(self) -> None:
        self.host.close()
        self.firewall.close()


def port_of(descriptor: int) -> int:
    with socket.socket(fileno=os.dup(descriptor)) as bound:
        port: int = bound.getsockname()[1]
        return port


def slot(stack: str, live: Live) -> str:
    return f"{stack}/{live.name}"


def link_pairs(links: Iterable[str]) -> Iterable[tuple[str, str]]:
    """`db:database` is (database, db); `db` is (db, db)."""
    for link in links:
        target, _, alias = link.partition(":")
        yield alias or target, target


def rows(
    endpoints: Iterable[Endpoint], places: list[Place], service: Service | None
) -> dict[str, NetworkRow]:
    attachments = {record.name: attachment for record, _, attachment in places}
    gateways = {record.name: record.gateway(4) for record, _, _ in places}
    return {
        endpoint.network: NetworkRow(
            interface=endpoint.interface,
            addresses=list(endpoint.addresses),
            gateway=gateways[endpoint.network],
            mac=endpoint.mac,
            aliases=list(attachments[endpoint.network].aliases),
        )
        for endpoint in endpoints
    }


def names(live: Live) -> Iterable[EndpointName]:
    """What a container is called on each of its networks. A one-off has no service's name unless told so."""
    for network, row in live.networks.items():
        yield EndpointName(
            network=network,
            container=live.name,
            service="" if live.plan.oneoff else live.plan.slot.service,
            short_id=live.plan.id[:12],
            aliases=tuple(row["aliases"]),
            addresses=tuple(address.partition("/")[0] for address in row["addresses"]),
        )


def published(live: Live) -> Iterable[PublishedPort]:
    addresses = [a.partition("/")[0] for row in live.networks.values() for a in row["addresses"]]
    ipv4 = next((a for a in addresses if ":" not in a), "")
    ipv6 = next((a for a in addresses if ":" in a), "")
    for port in live.ports:
        if port["published"]:
            yield PublishedPort(
                host_ip=port["host_ip"],
                host_port=port["published"],
                protocol=port["protocol"],
                target=port["target"],
                ipv4=ipv4,
                ipv6=ipv6,
            )
