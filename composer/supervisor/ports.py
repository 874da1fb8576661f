"""Published ports: reserved by bound sockets that the keeper holds while a container runs, and served by the
relay where no rule of the kernel can do it.

A held socket's name says everything about it, so a supervisor that begins anew knows all by the names.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address
from typing import NamedTuple

from composer.bundle.namespaces import SHARED
from composer.errors import ConflictError, PeerLostError
from composer.model.stack import Port, Service
from composer.network.ports import PortWish, Reservation, candidates, free
from composer.network.ports import reserve as reserve_all
from composer.network.relay import Relay
from composer.network.streams import Target
from composer.paths import Paths
from composer.record import ContainerRow, PortRow, stacks
from composer.supervisor.keeperlink import KeeperError, KeeperLink
from composer.supervisor.names import OWN_NETWORK
from composer.supervisor.world import Live

NOT_BESIDE = ("ports", "expose", "hostname", "dns", "extra_hosts", "links", "external_links", "mac_address")
"""What a service cannot say of itself when it is on another's network."""


class Held(NamedTuple):
    """A reserving socket, as its name in the keeper says. `host_ip` is as it was asked for."""

    container: str
    """The first 12 digits of its id."""
    host_ip: str
    port: int
    protocol: str
    target: int
    number: int

    @property
    def name(self) -> str:
        return "/".join(("port", *map(str, self)))

    @classmethod
    def read(cls, name: str) -> Held | None:
        kind, *fields = name.split("/")
        if kind != "port":
            return None
        container, host_ip, port, protocol, target, number = fields
        return cls(container, host_ip, int(port), protocol, int(target), int(number))


class Ports:
    """What is held, with our own copy of each socket; what is to be dropped at the next occasion."""

    def __init__(self, paths: Paths, keeper: KeeperLink) -> None:
        self.paths, self.keeper = paths, keeper
        self.relay = Relay()
        self.held: dict[str, dict[Held, socket.socket]] = {}
        """By container, named as in Held."""
        self.droppable: list[str] = []

    def of(self, live: Live) -> Mapping[Held, socket.socket]:
        """What is reserved for a container."""
        return self.held.get(live.plan.id[:12], {})

    async def reserve(
        self, live: Live, service: Service, host_ip: str | None, exposed: Iterable[str]
    ) -> list[PortRow]:
        """Reserve every port, or none. One that was free to choose stays what it was, if it still can.

        `host_ip` is for those that name no address; None publishes nothing. `exposed` are the image's, which
        are only told. Raises ConflictError that names the port and its holder.
        """
        await self.drop()
        if self.of(live):  # held since it began to wait for a connection
            return live.ports
        wishes = [] if host_ip is None else wishes_of(live, service, host_ip)
        rows = await self.hold(live, service, reserve_all(wishes, self.holder))
        return with_exposed(rows, exposed_rows([*service.expose, *exposed]))

    async def hold(self, live: Live, service: Service, reservations: list[Reservation]) -> list[PortRow]:
        """Have the keeper hold them for a container, and serve them; on failure they are free."""
        made = [
            (Held(live.plan.id[:12], r.wish.host_ip, r.port, r.wish.protocol, port.target, number), each)
            for port, r in zip(service.ports, reservations, strict=False)
            for number, each in enumerate(r.sockets)
        ]
        try:
            for held, each in made:
                await self.keeper.call("put", {"socket": each.fileno()}, name=held.name)
        except BaseException:
            self.droppable += [held.name for held, _ in made]
            for reservation in reservations:
                free(reservation)
            raise
        if made:
            self.held[live.plan.id[:12]] = dict(made)
        self.serve(live)
        return [row for port, r in zip(service.ports, reservations, strict=False) for row in rows_of(port, r)]

    def serve(self, live: Live, *, opening: bool = False) -> None:
        """Carry over what no rule does: from IPv6 to a container without it, from [::1], and the reverse;
        and who waited for it to wake. Nothing while it is gated, unless it is just `opening`.
        """
        ipv4, ipv6 = addresses_of(live)
        for held, each in {} if live.plan.gated and not opening else self.of(live).items():
            by_rule = each.family == socket.AF_INET and ipv4 and not listens(each)
            if held.protocol == "sctp" or by_rule:
                continue
            targets: list[Target] = [(address, held.target) for address in (ipv6, ipv4) if address]
            self.relay.serve(each, targets)

    def release(self, live: Live) -> None:
        """The container has ended: others may have its ports."""
        for held, each in self.held.pop(live.plan.id[:12], {}).items():
            self.relay.stop(each)
            asyncio.get_running_loop().remove_reader(each)
            each.close()
            self.droppable.append(held.name)

    async def drop(self) -> None:
        """Have the keeper let go of what containers that ended had reserved."""
        while self.droppable:
            try:
                await self.keeper.call("drop", name=self.droppable.pop())
            except (KeeperError, PeerLostError):
                continue

    async def take_up(self, names: Iterable[str], lives: Iterable[Live]) -> None:
        """After a crash: have again what the keeper held meanwhile; what belongs to nobody is dropped."""
        running = {live.plan.id[:12]: live for live in lives if live.pid or live.plan.gated}
        for name in names:
            held = Held.read(name)
            if held is None:
                continue
            if held.container not in running:
                self.droppable.append(name)
                continue
            answer = await self.keeper.call("take", name=name)
            mine = self.held.setdefault(held.container, {})
            mine[held] = socket.socket(fileno=answer["fds"][name])
        for live in running.values():
            if self.of(live) and not any(row["published"] for row in live.ports):
                live.ports = [*rows_of_held(self.of(live)), *live.ports]
            self.serve(live)

    def check(self, services: Iterable[Service]) -> None:
        """Before anything starts: raises ConflictError for a port that is taken, or wanted twice, and for
        what a service cannot have for itself.

        Ports that may still be chosen, and those that our own containers have, are left to their moment.
        """
        services = list(services)
        for service in services:
            refuse_beside(service)
        ours = {(held.port, held.protocol) for mine in self.held.values() for held in mine}
        wishes = [
            PortWish(port.host_ip, port.published, port.protocol, f"service {service.name}")
            for service in services
            for port in service.ports
            if service.network_mode in OWN_NETWORK
            and port.published.isdecimal()
            and (int(port.published), port.protocol) not in ours
        ]
        for reservation in reserve_all(wishes, self.holder):
            free(reservation)

    def holder(self, protocol: str, port: int) -> str:
        """Whose container has a port, for messages."""
        for record in stacks(self.paths):
            for row in record["containers"]:
                if (row["pid"] or row["plan"].get("gated")) and publishes(row, protocol, port):
                    return f"container {row['name']} of stack {record['stack']}"
        return ""


def refuse_beside(service: Service) -> None:
    """Who is on another's network has its ports and names, too, as with Docker. Raises ConflictError."""
    for field in NOT_BESIDE if service.network_mode.startswith(SHARED) else ():
        if getattr(service, field):
            raise ConflictError(
                f"service {service.name}: `{field}` and `network_mode: {service.network_mode}` "
                "exclude each other",
                hint=f"say `{field}` of the container whose network it is",
            )


def publishes(row: ContainerRow, protocol: str, port: int) -> bool:
    return any((each["protocol"], each["published"]) == (protocol, port) for each in row["ports"])


def listens(each: socket.socket) -> bool:
    """Whether it was made to listen, as those do at which somebody may wait."""
    return each.type == socket.SOCK_STREAM and bool(each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def is_loopback(host_ip: str) -> bool:
    return bool(host_ip) and ip_address(host_ip).is_loopback


def addresses_of(live: Live) -> tuple[str, str]:
    """The IPv4 and the IPv6 address that published ports lead to; "" where it has none."""
    addresses = [a.partition("/")[0] for row in live.networks.values() for a in row["addresses"]]
    return (
        next((a for a in addresses if ":" not in a), ""),
        next((a for a in addresses if ":" in a), ""),
    )


def wishes_of(live: Live, service: Service, host_ip: str) -> list[PortWish]:
    before = {(row["target"], row["protocol"]): row["published"] for row in live.ports}
    return [
        PortWish(
            host_ip=port.host_ip or host_ip,
            published=port.published,
            protocol=port.protocol,
            owner=f"service {service.name}",
            preferred=0 if port.published.isdecimal() else before.get((port.target, port.protocol), 0),
        )
        for port in service.ports
    ]


def rows_of(port: Port, reservation: Reservation) -> list[PortRow]:
    """One row per address family, as Docker shows it: 0.0.0.0 and [::] for a port on every address."""
    wish = reservation.wish
    addresses = [wish.host_ip] if wish.host_ip else ["0.0.0.0"]
    if not wish.host_ip and len(reservation.sockets) > 1:
        addresses.append("::")
    return [
        PortRow(host_ip=address, published=reservation.port, target=port.target, protocol=wish.protocol)
        for address in addresses
    ]


def rows_of_held(sockets: Iterable[Held]) -> Iterator[PortRow]:
    """As `rows_of`, when only the names of the sockets are left."""
    for held in sockets:
        address = held.host_ip or ("::" if held.number else "0.0.0.0")
        if not (held.host_ip and held.number):
            yield PortRow(host_ip=address, published=held.port, target=held.target, protocol=held.protocol)


def exposed_rows(exposed: Iterable[str]) -> list[PortRow]:
    """Ports that are open to the networks only."""
    found = []
    for text in exposed:
        numbers, _, protocol = text.partition("/")
        found += [
            PortRow(host_ip="", published=0, target=number, protocol=protocol or "tcp")
            for number in candidates(numbers)
        ]
    return found


def with_exposed(published: list[PortRow], exposed: Iterable[PortRow]) -> list[PortRow]:
    """Each exposed one once, unless it is published."""
    seen = {(row["target"], row["protocol"]): row for row in (*published, *exposed)}
    names = {(row["target"], row["protocol"]) for row in published}
    return [*published, *(row for name, row in seen.items() if name not in names)]
