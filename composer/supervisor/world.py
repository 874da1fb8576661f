"""What the supervisor knows of its stack: the live containers, and how that becomes Observed and the record.

Everything here is memory that can be rebuilt: from the record on disk and the keeper's list. Only the event
loop's own task changes it, so nothing is locked.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from composer.model.stack import FrozenMap, RestartPolicy, Service
from composer.plan.health import Health, Result
from composer.plan.observed import Container, ImageState, NetworkState, Observed, Slot, Subject, VolumeState
from composer.plan.restart import next_restart
from composer.record import ContainerRow, NetworkRow, PortRow
from composer.supervisor.made import Made

if TYPE_CHECKING:
    from composer.logs.forward import Forwarder


class Live:
    """One container with everything that an execution knows of it. `plan` is what planning sees."""

    def __init__(self, plan: Container) -> None:
        self.plan = plan
        self.pid = 0
        self.reason = ""
        self.userns = ""
        """Why it has no user namespace of its own, or nothing."""
        self.command: list[str] = []
        self.service: Service | None = None
        """What it was made from, once somebody asked."""
        self.labels: dict[str, str] = {}
        self.tty = False
        self.stdin = False
        self.stop_signal = ""
        self.grace = 0
        self.ports: list[PortRow] = []
        self.networks: dict[str, NetworkRow] = {}
        self.mounts: list[dict[str, Any]] = []
        self.anonymous: dict[str, str] = {}
        self.remove_after = False
        self.starting = False
        """Its start is asked for and not answered yet; news of its end waits in `parked`."""
        self.parked: dict[str, Any] | None = None
        self.stdio: dict[str, int] = {}
        """What it is started with instead of pipes to its log: stdin, stdout, stderr."""
        self.heard = 0
        """Packets from others, as of the last look."""
        self.forwarder: Forwarder | None = None
        """Takes its log to somebody else while it runs."""

    def take_parked(self) -> dict[str, Any] | None:
        """The news of its end that came too early, once."""
        parked, self.parked = self.parked, None
        return parked

    def stop_forwarding(self) -> None:
        """Its writer has ended: what is left of its log still goes."""
        if self.forwarder is not None:
            self.forwarder.stop()
            self.forwarder = None

    @property
    def name(self) -> str:
        return self.plan.name

    def change(self, **fields: Any) -> None:
        """Replace fields of `plan`."""
        self.plan = self.plan.replace(**fields)


class World:
    """Containers by name; networks and volumes by host name; images by reference; failures by subject."""

    def __init__(self, folder: Callable[[str], Path]) -> None:
        """`folder`: where the state of a container is, by its name."""
        self.containers: dict[str, Live] = {}
        self.made = Made(self.containers, folder)
        self.networks: dict[str, NetworkState] = {}
        self.volumes: dict[str, VolumeState] = {}
        self.images: dict[str, ImageState] = {}
        self.failures: dict[Subject, str] = {}

    def observed(self) -> Observed:
        """A snapshot for planning."""
        return Observed(
            containers=tuple(live.plan for live in self.containers.values()),
            networks=FrozenMap(self.networks),
            volumes=FrozenMap(self.volumes),
            images=FrozenMap(self.images),
            made=self.made,
            failures=FrozenMap(self.failures),  # type: ignore[arg-type]
        )

    def by_id(self, identity: str) -> Live | None:
        return next((live for live in self.containers.values() if live.plan.id == identity), None)

    def of_service(self, service: str) -> list[Live]:
        """The numbered instances of a service, lowest number first."""
        found = [
            live
            for live in self.containers.values()
            if live.plan.slot.service == service and not live.plan.oneoff
        ]
        return sorted(found, key=lambda live: live.plan.slot.number)


def row(live: Live) -> ContainerRow:
    """A live container as the record keeps it."""
    plan = live.plan
    return ContainerRow(
        name=plan.name,
        id=plan.id,
        service=plan.slot.service,
        number=plan.slot.number,
        oneoff=plan.oneoff,
        state="restarting" if next_restart(plan) else plan.state,
        health=plan.health.status if plan.health and plan.alive else "",
        exit_code=plan.exit_code,
        reason=live.reason,
        pid=live.pid,
        image=plan.image,
        image_id=plan.image_id,
        command=live.command,
        created_at=plan.created_at,
        started_at=plan.started_at,
        finished_at=plan.finished_at,
        restarts=plan.restarts,
        tty=live.tty,
        stdin=live.stdin,
        labels=live.labels,
        ports=live.ports,
        networks=live.networks,
        mounts=live.mounts,
        anonymous=live.anonymous,
        userns=live.userns,
        plan=plan_row(live),
    )


PLAN_FIELDS = (
    "networks", "volumes", "begun_at", "oom", "tries", "backoff", "kill_at", "patience", "stopped",
    "again", "hooks", "standby", "retired", "gated", "used_at", "idle_after",
)  # fmt: skip


def plan_row(live: Live) -> dict[str, Any]:
    """What only planning needs, and what a restart of the supervisor must not forget."""
    plan = live.plan
    kept: dict[str, Any] = {name: getattr(plan, name) for name in PLAN_FIELDS}
    kept["digests"] = dict(plan.digests)
    kept["restart"] = vars(plan.restart)
    kept["health"] = health_row(plan.health)
    kept["stop_signal"], kept["grace"], kept["remove_after"] = live.stop_signal, live.grace, live.remove_after
    return kept


def health_row(health: Health | None) -> dict[str, Any] | None:
    if health is None:
        return None
    return {**vars(health), "results": [vars(result) for result in health.results]}


def health_of(kept: dict[str, Any] | None) -> Health | None:
    if kept is None:
        return None
    return Health(**{**kept, "results": tuple(Result(**result) for result in kept["results"])})


def live_of(row: ContainerRow) -> Live:
    """The inverse of `row`."""
    kept = row["plan"]
    more: Any = {n: tuple(v) if isinstance(v := kept[n], list) else v for n in PLAN_FIELDS if n in kept}
    plan = Container(
        slot=Slot(row["service"], row["number"]),
        name=row["name"],
        id=row["id"],
        state="exited" if row["state"] == "restarting" else row["state"],  # type: ignore[arg-type]
        digests=FrozenMap(kept["digests"]),
        image=row["image"],
        image_id=row["image_id"],
        restart=RestartPolicy(**kept["restart"]),
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        exit_code=row["exit_code"],
        restarts=row["restarts"],
        health=health_of(kept["health"]),
        oneoff=row["oneoff"],
        **more,
    )
    live = Live(plan)
    live.pid, live.reason = row["pid"], row["reason"]
    live.command, live.labels, live.tty, live.stdin = row["command"], row["labels"], row["tty"], row["stdin"]
    live.ports, live.networks, live.mounts = row["ports"], row["networks"], row["mounts"]
    live.anonymous, live.userns = row["anonymous"], row.get("userns", "")
    live.stop_signal, live.grace = kept["stop_signal"], kept["grace"]
    live.remove_after = kept["remove_after"]
    return live
