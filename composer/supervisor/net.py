"""Networks as the supervisor handles them: containers get interfaces and names, published ports get rules.

Joins what the network room offers. Names and rules of the whole stack are computed afresh from the live
containers whenever one of them changed (`dirty`), once per pass of the loop.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial

import anyio

from composer.bundle.security import capabilities
from composer.errors import ComposerError, NotFoundError
from composer.model.digest import from_json, to_json
from composer.model.stack import Attachment, Network, Service, Stack
from composer.network import endpoints, registry
from composer.network.dns.message import decode_name
from composer.network.endpoints import Endpoint, Place, arrange, attach
from composer.network.lifecycle import ensure_network, raise_link, remove_networks
from composer.network.netlink import Netlink
from composer.network.nft.neighbours import chains, goes_around
from composer.network.nft.rules import PublishedPort
from composer.network.options import without_effect
from composer.network.publish import contacts
from composer.network.registry import Lease, LeaseRequest, NetworkRecord
from composer.paths import Paths
from composer.plan.observed import NetworkState
from composer.plan.restart import next_restart
from composer.record import NetworkRow
from composer.supervisor import names
from composer.supervisor.facts import host_facts
from composer.supervisor.guests import Guests
from composer.supervisor.interfaces import set_sysctls
from composer.supervisor.keeperlink import KeeperLink
from composer.supervisor.naming import Naming
from composer.supervisor.ports import Ports, addresses_of, is_loopback
from composer.supervisor.rules import Rules
from composer.supervisor.together import Together
from composer.supervisor.world import Live, World


class Net:
    """The stack's networks. Made inside the running event loop."""

    def __init__(
        self, paths: Paths, stack: str, world: World, notice: Callable[[str], None], keeper: KeeperLink
    ) -> None:
        self.paths, self.stack, self.world, self.notice = paths, stack, world, notice
        self.desired = Stack(stack, {})
        self.host = Netlink()
        self.rules = Rules(stack)
        self.ports = Ports(paths, keeper)
        self.names = Naming(self)
        self.guests = Guests(paths, stack)
        self.lease = Together[LeaseRequest, Lease](self._lease)
        self.removal = Together[NetworkRecord, None](self._remove)
        self.dirty = False
        self.awaited = False
        """Whether other stacks are to learn our names, which they read in the record."""
        self.looked_around = False
        self.records: dict[str, NetworkRecord] = {}
        self.digests: dict[str, str] = {}
        """Of networks, as the record has them."""

    async def watch(self, wake: Callable[[], None]) -> None:
        """Until cancelled: follow what the host changes under us. `wake` has the loop look again."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.if_possible, self.names.watch)
            tasks.start_soon(self.if_possible, partial(self.guests.watch, self.records.keys, self.touch))
            tasks.start_soon(self.rules.watch, partial(self.put_back, wake))

    async def if_possible(self, watch: Callable[[], Awaitable[None]]) -> None:
        """With many stacks the kernel may have no watches left. That is told, and the stack goes on."""
        try:
            await watch()
        except (ComposerError, OSError) as error:
            hint = f"; {error.hint}" if isinstance(error, ComposerError) and error.hint else ""
            self.notice(f"new resolvers or neighbours on shared networks go unnoticed: {error}{hint}")

    # Networks.

    def look(self, stack: Stack) -> None:
        """What of the stack's networks exists on the host, for planning."""
        self.desired = stack
        for name in {*(network.name for network in stack.networks.values()), *self.digests}:
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
        for option in without_effect(network.driver_opts, record.driver):
            self.notice(f"network {network.key}: the option {option} means nothing to {record.driver}")
        self.know(record, network.key, digest)
        self.touch()

    async def remove(self, name: str) -> None:
        """Raises ConflictError while others use it."""
        record = registry.find(self.paths, name)
        if record is not None:
            await self.removal.ask([record])
        self.world.networks.pop(name, None)
        self.records.pop(name, None)

    async def _remove(self, records: list[NetworkRecord]) -> list[None]:
        """In a thread of its own: the kernel waits, and nobody else should."""
        if self.records.keys() <= {record.name for record in records}:
            self.rules.remove()
        await anyio.to_thread.run_sync(remove_networks, self.paths, records)
        return [None] * len(records)

    def record(self, name: str) -> NetworkRecord:
        """Raises NotFoundError."""
        if name not in self.records:
            self.records[name] = registry.inspect(self.paths, name)
        return self.records[name]

    # Addresses and interfaces.

    def wanted(self, live: Live, service: Service) -> dict[str, Attachment]:
        """A container's networks by host name: the service's, but for what was connected or disconnected."""
        own = names.attachments(self.desired, service)
        rows = live.networks
        return {
            name: own[name] if name in own else from_json(Attachment, rows[name]["asked"])
            for name in live.plan.networks
            if name in own or name in rows
        }

    async def places(self, live: Live, wanted: Mapping[str, Attachment]) -> list[Place]:
        """Addresses for a container on its networks; they stay with its slot."""
        requests = [
            LeaseRequest(self.record(name), slot(self.stack, live), at) for name, at in wanted.items()
        ]
        leases = await self.lease.ask(requests)
        return [(r.record, lease, r.attachment) for r, lease in zip(requests, leases, strict=True)]

    async def _lease(self, requests: list[LeaseRequest]) -> list[Lease]:
        return registry.leases(self.paths, requests)

    def release(self, live: Live) -> None:
        registry.release(self.paths, [slot(self.stack, live)])

    def expected(self, places: list[Place]) -> dict[str, NetworkRow]:
        """The interfaces that `connect` will make."""
        return rows(arrange("", 0, places), places)

    def connect(self, live: Live, netlink: int, places: list[Place], service: Service) -> None:
        """Make a container's interfaces, through a netlink socket of its own namespace."""
        made = arrange(live.name, live.pid, places, guarded=guarded(service))
        with Netlink(netlink) as inside:
            self.attach(inside, made, places)
        set_sysctls(made)
        live.networks = rows(made, places)
        self.touch()

    def attach(self, inside: Netlink, made: Sequence[Endpoint], places: list[Place]) -> None:
        """Records of networks outlive their bridges: by a reboot, or when who removed both was killed."""
        try:
            attach(self.host, inside, made, self.rules.socket)
        except NotFoundError:
            for record, _, _ in places:
                raise_link(self.host, record, self.notice)
            attach(self.host, inside, made, self.rules.socket)

    def reconnect(self, live: Live, netlink: int, places: list[Place], service: Service) -> None:
        """Make and take away the interfaces of a running container until it is just on `places`."""
        stay = {name: row["interface"] for name, row in live.networks.items()}
        places = [
            (record, lease, at.replace(interface_name=stay.get(record.name, at.interface_name)))
            for record, lease, at in places
        ]
        made = arrange(live.name, live.pid, places, guarded=guarded(service))
        gone = stay.keys() - {each.network for each in made}
        with Netlink(netlink) as inside:
            new = [e for e in made if e.network not in stay]
            self.attach(inside, new, places)
            endpoints.detach(inside, [stay[name] for name in gone])
            endpoints.reroute(inside, made)
        set_sysctls(new)
        live.networks = rows(made, places)
        self.names.change(live, service)
        self.ports.serve(live)
        self.touch()

    # Ports.

    def binding(self, live: Live) -> str | None:
        """Where ports are published that name no address: what the container's first network says.

        None when it is on networks, and none of them can publish.
        """
        records = [self.record(name) for name in live.networks]
        bridges = [record for record in records if record.driver == "bridge"]
        return next((record.settings.host_ip for record in bridges), None if records else "")

    async def open(self, live: Live) -> None:
        """Its published ports lead to it. Together with those of others that start in the same moment."""
        if self.ports.of(live):
            self.dirty = True
            self.look_around(live)
            await anyio.lowlevel.checkpoint()
            self.settle()

    def look_around(self, live: Live) -> None:
        """Say, once, when other hosts reach what the host's own firewall seems to forbid."""
        public = [held for held in self.ports.of(live) if not is_loopback(held.host_ip)]
        if public and not self.looked_around:
            self.looked_around = True
            if wall := goes_around(chains(self.rules.socket)):
                self.notice(
                    f"other hosts reach port {public[0].port}, although {wall} drops what comes in: "
                    "published ports are forwarded. Publish on 127.0.0.1 what is for this host only"
                )

    def settle(self) -> None:
        """Rules follow what is. Raises NetlinkError."""
        if not self.dirty:
            return
        lives = self.world.containers.values()
        bridges = [record for record in self.records.values() if record.driver == "bridge"]
        if bridges:
            self.rules.write(bridges, [port for live in lives for port in self.published(live)])
        elif self.rules.written is not None:
            self.rules.remove()
        self.dirty = False

    def published(self, live: Live) -> Iterable[PublishedPort]:
        """What is reserved for it, but for what waits at a gate."""
        ipv4, ipv6 = addresses_of(live)
        for held in () if live.plan.waiting else self.ports.of(live):
            if held.number == 0 and not (live.plan.gated and held.protocol == "tcp"):
                yield PublishedPort(held.host_ip, held.port, held.protocol, held.target, ipv4, ipv6)

    def reached(self) -> dict[str, list[list[str]]]:
        """Names of elsewhere that containers asked for, and addresses outside of their bridges that they
        began to talk to: [container, name] and [container, address, port/protocol].
        """
        lives = list(self.world.containers.values())
        by_id = {live.plan.id: live.name for live in lives}
        by_address = {
            address.partition("/")[0]: live.name
            for live in lives
            for row in live.networks.values()
            for address in row["addresses"]
        }
        asked = {
            (by_id.get(asker, asker[:12]), decode_name(name))
            for asker, names in self.names.resolver.outside.items()
            for name in names
        }
        talked = {
            (by_address.get(str(source), str(source)), str(address), f"{port}/{protocol}")
            for source, address, protocol, port in contacts(self.rules.socket, self.stack)
            if str(address) not in by_address
        }
        return {"names": [list(one) for one in sorted(asked)], "addresses": [list(t) for t in sorted(talked)]}

    def put_back(self, wake: Callable[[], None]) -> None:
        """Somebody took the rules away, or a part."""
        lives = self.world.containers.values()
        rows = [row for live in lives if live.pid for row in live.networks.values()]
        try:
            self.rules.put_back(
                (row["mac"], [address.partition("/")[0] for address in row["addresses"]]) for row in rows
            )
        except ComposerError as error:
            self.notice(f"the firewall rules were taken away and cannot be put back: {error}")
        wake()

    def forget(self, live: Live) -> None:
        """A container has ended, or is not waited for any more. Who waits for it goes on waiting if it is
        about to come back.
        """
        live.heard = 0
        self.names.resolver.remove(live.plan.id)
        if not (live.plan.gated and next_restart(live.plan)):
            live.change(gated=False)
            self.ports.release(live)
        self.touch()

    def touch(self) -> None:
        """Containers changed: names follow before anything else is heard, rules with the next `settle`."""
        self.dirty = True
        owners = {record.owner for record in self.records.values()}
        self.awaited = self.awaited or bool(self.guests.stacks or owners - {self.stack})
        self.names.touch()

    def end(self) -> None:
        """The stack is down: its rules go, and its addresses on networks of others."""
        self.rules.remove()
        registry.keep_only(self.paths, self.stack, ())
        self.desired = Stack(self.stack, {})


def slot(stack: str, live: Live) -> str:
    return f"{stack}/{live.name}"


def guarded(service: Service) -> bool:
    """Who may configure interfaces may also route, bridge and take other addresses."""
    return "CAP_NET_ADMIN" not in capabilities(service, host_facts())


def rows(made: Iterable[Endpoint], places: list[Place]) -> dict[str, NetworkRow]:
    """By network; first the one by which published ports come in."""
    by_network = {endpoint.network: endpoint for endpoint in made}
    order = sorted(endpoints.by_preference(places), key=lambda place: place[0].driver != "bridge")
    return {
        record.name: NetworkRow(
            interface=by_network[record.name].interface,
            addresses=list(by_network[record.name].addresses),
            gateway=record.gateway(4) or record.gateway(6),
            mac=by_network[record.name].mac,
            aliases=list(attachment.aliases),
            asked=to_json(attachment),
        )
        for record, _, attachment in order
    }
