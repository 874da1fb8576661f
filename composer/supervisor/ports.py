"""Published ports of a container: reserved by bound sockets that the keeper holds while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from composer.model.stack import Service
from composer.network.ports import PortWish, Reservation, free
from composer.network.ports import reserve as reserve_all
from composer.record import PortRow
from composer.supervisor.world import Live

if TYPE_CHECKING:
    from composer.supervisor.core import Core


async def reserve(core: Core, live: Live, service: Service) -> list[PortRow]:
    """Reserve every port, or none. A port that was free to choose stays what it was before, if it still can.

    Raises ConflictError that names the port and its holder.
    """
    wishes = wishes_of(live, service)
    exposed = exposed_rows(service)
    if not wishes or not live.networks:
        return exposed
    await core.drop_ports()
    reservations = reserve_all(wishes)
    try:
        for reservation in reservations:
            for number, held in enumerate(reservation.sockets):
                name = hold_name(live, reservation, number)
                await core.keeper.call("put", {"socket": held.fileno()}, name=name)
                core.held_ports.setdefault(live.plan.id, []).append(name)
    finally:
        for reservation in reservations:
            free(reservation)
    return [
        row for wish, r in zip(service.ports, reservations, strict=True) for row in rows(wish, r)
    ] + exposed


def wishes_of(live: Live, service: Service) -> list[PortWish]:
    before = {(r["target"], r["protocol"]): str(r["published"]) for r in live.ports if r["published"]}
    return [
        PortWish(
            host_ip=port.host_ip,
            published=port.published or before.get((port.target, port.protocol), ""),
            protocol=port.protocol,
            owner=f"service {service.name}",
        )
        for port in service.ports
    ]


def hold_name(live: Live, reservation: Reservation, number: int) -> str:
    wish = reservation.wish
    return f"port/{live.plan.id[:12]}/{wish.host_ip}/{reservation.port}/{wish.protocol}/{number}"


def rows(port: object, reservation: Reservation) -> list[PortRow]:
    """One row per address family, as Docker shows it: 0.0.0.0 and [::] for a port on every address."""
    target = getattr(port, "target")  # noqa: B009
    addresses = [reservation.wish.host_ip] if reservation.wish.host_ip else ["0.0.0.0"]
    if not reservation.wish.host_ip and len(reservation.sockets) > 1:
        addresses.append("::")
    return [
        PortRow(
            host_ip=address,
            published=reservation.port,
            target=target,
            protocol=reservation.wish.protocol,
        )
        for address in addresses
    ]


def exposed_rows(service: Service) -> list[PortRow]:
    """Ports that are open to the networks only."""
    found = []
    for text in service.expose:
        number, _, protocol = text.partition("/")
        if number.isdecimal():
            found.append(PortRow(host_ip="", published=0, target=int(number), protocol=protocol or "tcp"))
    return found


def release(core: Core, live: Live) -> None:
    """The container has ended: others may have its ports."""
    for name in core.held_ports.pop(live.plan.id, []):
        core.droppable.append(name)
