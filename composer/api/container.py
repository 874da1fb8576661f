"""Containers as they are known right now: values, made from the rows of a stack's record."""

from __future__ import annotations

from collections.abc import Mapping

from composer.model.stack import NOTHING
from composer.record import ContainerRow
from composer.value import Value


class Container(Value):
    """`state` is created, running, paused, restarting, exited or dead; `health` is "", starting, healthy or
    unhealthy. `reason` says why it is down, if that is known."""

    name: str
    id: str
    service: str
    number: int
    state: str
    health: str = ""
    exit_code: int = 0
    reason: str = ""
    pid: int = 0
    image: str = ""
    restarts: int = 0
    ports: tuple[Mapping[str, object], ...] = ()
    """Published ports: host_ip, published, target, protocol."""
    addresses: Mapping[str, str] = NOTHING
    """By network, without the length of the prefix."""
    labels: Mapping[str, str] = NOTHING

    @property
    def running(self) -> bool:
        return self.state in ("running", "paused")

    @property
    def address(self) -> str:
        """Its address on its first network; this host reaches it there. Empty when it has none."""
        return next(iter(self.addresses.values()), "")

    def __str__(self) -> str:
        told = f"{self.state} ({self.health})" if self.health and self.running else self.state
        if not self.running and self.state != "created":
            told += f" ({self.exit_code})" + (f": {self.reason}" if self.reason else "")
        return f"{self.name}: {told}"


class Reached(Value):
    """What containers of a stack reached for outside of it, whether they got there or not."""

    names: tuple[tuple[str, str], ...] = ()
    """Container, and name that it asked its resolver for."""
    addresses: tuple[tuple[str, str, str], ...] = ()
    """Container, address, and port/protocol. Networks that are internal have no way out to see these on."""

    def __bool__(self) -> bool:
        return bool(self.names or self.addresses)

    def __str__(self) -> str:
        return "\n".join(f"{one[0]}: {' '.join(one[1:])}" for one in (*self.names, *self.addresses))


def container_of(row: ContainerRow) -> Container:
    return Container(
        name=row["name"],
        id=row["id"],
        service=row["service"],
        number=row["number"],
        state=row["state"],
        health=row["health"],
        exit_code=row["exit_code"],
        reason=row["reason"],
        pid=row["pid"],
        image=row["image"],
        restarts=row["restarts"],
        ports=tuple(port for port in row["ports"] if port["published"]),
        addresses={
            name: place["addresses"][0].partition("/")[0]
            for name, place in row["networks"].items()
            if place["addresses"]
        },
        labels=row["labels"],
    )
