"""From one container to its successor: published ports that are never free in between, and connections that
may come to their end.

The reserving sockets are the same before and after; the rules of the whole stack change in one transaction of
the kernel. Connections that stand are known to it by where they go, and go on going there.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

import anyio

from composer.model.stack import Port, Service
from composer.network.ports import PortWish, Reservation, candidates, reserve
from composer.plan.actions import TakeOver
from composer.record import PortRow
from composer.supervisor.names import OWN_NETWORK
from composer.supervisor.ports import Held, Ports, wishes_of, with_exposed
from composer.supervisor.world import Live

if TYPE_CHECKING:
    from composer.supervisor.core import Core

LOOK_AGAIN = 0.05
"""Seconds between two looks at the connections of who retires."""
ESTABLISHED, SYN_RECEIVED, LISTENING = "01", "03", "0A"


async def take_over(core: Core, action: TakeOver) -> None:
    """Raises ConflictError for a port that is wanted anew and taken; then all is as it was."""
    live, old = core.live(action.name), core.world.containers.get(action.of)
    service = core.containers.service_of(live)
    binding = core.net.binding(live) if service.network_mode in OWN_NETWORK else None
    if binding is not None:
        exposed = [row for row in live.ports if not row["published"]]
        live.ports = with_exposed(await inherit(core.net.ports, live, service, binding, old), exposed)
    live.change(standby=False)
    if old is not None:
        old.change(retired=True)
        old.ports = []
    core.net.touch()
    core.net.settle()
    core.tell("take over", live, **({"from": old.name} if old else {}))


async def inherit(
    ports: Ports, live: Live, service: Service, host_ip: str, old: Live | None
) -> list[PortRow]:
    """The ports of a service, those that `old` has as they are."""
    left = dict(ports.of(old)) if old else {}
    found: list[Reservation | None] = []
    missing: list[PortWish] = []
    for port, wish in zip(service.ports, wishes_of(live, service, host_ip), strict=True):
        mine = matching(left, port, wish)
        if mine:
            sockets = tuple(left.pop(held).dup() for held in mine)
            found.append(Reservation(wish, mine[0].port, sockets))
        else:
            found.append(None)
            missing.append(wish)
    try:
        fresh = iter(reserve(missing, ports.holder))
    except BaseException:
        for each in (each for r in found if r for each in r.sockets):
            each.close()
        raise
    rows = await ports.hold(live, service, [each or next(fresh) for each in found])
    if old is not None:
        ports.release(old)
    return rows


def matching(left: dict[Held, socket.socket], port: Port, wish: PortWish) -> list[Held]:
    """The sockets of the first port that is as wished."""
    for held in left:
        wanted = held.port in candidates(port.published) if port.published else held.target == port.target
        if wanted and (held.host_ip, held.protocol) == (wish.host_ip, wish.protocol):
            same = [each for each in left if each[:4] == held[:4] and each.target == held.target]
            return sorted(same, key=lambda each: each.number)
    return []


async def drained(core: Core, live: Live, nanoseconds: int) -> None:
    """Until nobody is connected to what it serves; not longer than `nanoseconds`, or than it is wanted."""
    operation = core.loop.operation
    with anyio.move_on_after(nanoseconds / 1e9):
        while live.plan.alive and any(connections(live.pid)):
            if operation is not None and operation.superseded:
                break
            await anyio.sleep(LOOK_AGAIN)


def connections(pid: int) -> Iterator[str]:
    """The connections that others have to ports on which a process of this network listens, by their rows."""
    rows = [
        row.split() for name in ("tcp", "tcp6") for row in text_of(f"/proc/{pid}/net/{name}").splitlines()[1:]
    ]
    listening = {row[1].rpartition(":")[2] for row in rows if row[3] == LISTENING}
    for row in rows:
        if row[3] in (ESTABLISHED, SYN_RECEIVED) and row[1].rpartition(":")[2] in listening:
            yield " ".join(row)


def text_of(path: str) -> str:
    """Empty when the process has ended."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        with os.fdopen(descriptor) as file:
            return file.read()
    except OSError:
        return ""
