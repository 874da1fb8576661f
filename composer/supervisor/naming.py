"""What containers are called, answered at 127.0.0.11 in each of them, from what runs and what sleeps now.

Names of the whole stack are computed afresh whenever a container changed; what a container is told depends on
the networks that it is on.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from composer.model.stack import Service
from composer.network.dns.resolvconf import upstreams
from composer.network.dns.server import Resolver, Sleeper
from composer.network.dns.zone import Zone, zone
from composer.network.netlink import Netlink
from composer.network.nft import resolver
from composer.network.nft.apply import make
from composer.supervisor import names
from composer.supervisor.hostfile import follow, text_of
from composer.supervisor.world import Live

if TYPE_CHECKING:
    from composer.supervisor.net import Net

RESOLV_CONF = Path("/etc/resolv.conf")


def host_resolv_conf() -> str:
    return text_of(RESOLV_CONF)


class Naming:
    """The names of one stack. Made inside the running event loop."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.resolver = Resolver(upstreams(host_resolv_conf()))
        self.wake: Callable[[Live], Awaitable[None]] | None = None
        """Wakes one who sleeps, when somebody asks for its name."""
        self.due = False

    async def watch(self) -> None:
        """Until cancelled: follow whom the host asks."""
        await follow(RESOLV_CONF, lambda text: self.resolver.set_upstreams(upstreams(text)))

    def touch(self) -> None:
        """Containers changed: names follow before anything else is heard."""
        if not self.due:
            self.due = True
            asyncio.get_running_loop().call_soon(self.name)

    def change(self, live: Live, service: Service) -> None:
        """A container is on other networks now."""
        self.resolver.change(live.plan.id, **self._view(live, service))

    def translate(self, nfnetlink: int, udp: int, tcp: int) -> None:
        """Port 53 is the container's own: lead its questions to where the resolver's sockets are bound.

        Raises NetlinkError.
        """
        with Netlink(nfnetlink) as inside:
            make(inside, resolver.table(port_of(udp), port_of(tcp)))

    def answer(self, live: Live, service: Service | None, udp: int, tcp: int) -> None:
        """Answer a container's questions on sockets that are bound in its namespace."""
        view = self._view(live, service)
        self.resolver.add(live.plan.id, socket.socket(fileno=udp), socket.socket(fileno=tcp), **view)
        self.net.touch()

    def _view(self, live: Live, service: Service | None) -> dict[str, Any]:
        """What the resolver tells this container, and whom it asks for it."""
        networks = tuple(live.networks)
        closed = all(self.net.record(name).internal for name in networks)
        own = service.dns if service else ()
        return {
            "networks": networks,
            "upstreams": () if closed and not own else own or None,
            "links": names.links(service, live.networks) if service else {},
        }

    def name(self) -> None:
        self.due = False
        self.resolver.set_zone(self.zone, self.sleepers())

    def zone(self) -> Zone:
        lives = self.net.world.containers.values()
        there = chain.from_iterable(names.running(live) for live in lives if live.pid)
        absent = names.absent(self.net.desired, (live for live in lives if not live.pid))
        return zone(chain(there, absent, self.net.guests.names))

    def sleepers(self) -> Iterable[Sleeper]:
        """Who sleeps, with all its names."""
        for live in self.net.world.containers.values():
            if self.wake and (live.plan.waiting or live.plan.idle):
                yield zone(names.running(live)), partial(self.wake, live)


def port_of(descriptor: int) -> int:
    with socket.socket(fileno=os.dup(descriptor)) as bound:
        port: int = bound.getsockname()[1]
        return port
