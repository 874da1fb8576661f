"""Snapshots: the volumes and the writable layers of the stack's containers, kept, and gone back to.

Both stop what uses them, change which layers lie under what, and start again what ran. The changing itself
is a matter of milliseconds and of one pass of the event loop, so that nothing can begin in between.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import anyio

from composer.disk import keep_private, read_json, write_json
from composer.errors import ComposerError, ConflictError
from composer.model.stack import Volume
from composer.plan.observed import ALIVE
from composer.plan.options import Options
from composer.record import stacks
from composer.supervisor.core import Core
from composer.supervisor.loop import Operation
from composer.supervisor.words import progress
from composer.supervisor.world import Live
from composer.volumes.layers import Directory
from composer.volumes.snapshots import Root, Snapshot

Tell = Callable[[dict[str, Any]], None]


class Scope:
    """The services that a snapshot is about (none named: all), with their containers and volumes."""

    def __init__(self, core: Core, services: Iterable[str]) -> None:
        self.core = core
        self.services = sorted(services or core.stack.services)
        for name in self.services:
            core.service(name)
        self.lives = [
            live
            for live in core.world.containers.values()
            if live.plan.slot.service in self.services and not live.plan.oneoff
        ]
        if not self.lives:
            raise ComposerError(
                "the stack has no containers", hint="`composer up`, or `composer create`, makes them"
            )
        self.volumes = dict(self._volumes())

    def _volumes(self) -> Iterator[tuple[str, Volume]]:
        """By key; those with options of their own are somebody else's file system, and stay out of it."""
        for name in self.services:
            for mount in self.core.stack.services[name].volumes:
                if mount.type == "volume" and mount.source:
                    volume = self.core.stack.volumes[mount.source]
                    record = self.core.volumes.store.find(volume.name)
                    if record is not None and record.options:
                        self.core.notice(f"volume {volume.name} stays as it is: it has options of its own")
                    elif record is not None:
                        yield volume.key, volume

    def check(self) -> None:
        """Nobody else may be using the volumes. Raises ConflictError."""
        names = {volume.name for volume in self.volumes.values()}
        names |= {name for live in self.lives for name in live.anonymous.values()}
        folders = {str(self.core.volumes.store.folder(name)): name for name in names}
        ours = {live.name for live in self.lives}
        for record in stacks(self.core.paths):
            for row in record["containers"]:
                if row["state"] not in ALIVE or (record["stack"] == self.core.name and row["name"] in ours):
                    continue
                for mount in row["mounts"]:
                    name = next((n for f, n in folders.items() if mount["source"].startswith(f"{f}/")), "")
                    if name:
                        raise ConflictError(
                            f"the volume {name} is in use by {row['name']} of stack {record['stack']}, too",
                            hint="stop that container first, or leave the services out that use the volume",
                        )

    def idle(self) -> None:
        """Raises ConflictError when somebody started a container meanwhile."""
        for live in self.lives:
            if live.plan.alive or live.starting:
                raise ConflictError(f"container {live.name} was started meanwhile", hint="try again")

    def hide(self) -> None:
        for volume in self.volumes.values():
            self.core.volumes.store.hide(volume.name)
        for live in self.lives:
            for name in live.anonymous.values():
                self.core.volumes.store.hide(name)


async def create(core: Core, name: str, services: list[str], grace: int | None, tell: Tell) -> dict[str, Any]:
    """Keep a point. Raises ConflictError when there is one of this name, or others use a volume."""
    store = core.volumes.store.snapshots
    if store.find(core.name, name) is not None:
        raise ConflictError(
            f"stack {core.name} has a snapshot {name} already", hint=f"`composer snapshot rm {name}`"
        )
    scope = Scope(core, services)
    await settled(core)
    scope.check()
    ran = [live for live in scope.lives if live.plan.alive]
    note(scope, ran)
    try:
        if ran:
            await wish(core, Options("stop", time.time_ns(), names(ran), timeout=grace), tell)
        scope.idle()
        with core.volumes.store.locked():
            scope.hide()
            kept = keep(scope, name)
            store.write(kept)
            store.sweep()
    finally:
        began = await begin_again(core, names(ran), tell)
    core.tasks.start_soon(anyio.to_thread.run_sync, store.empty)
    return {**told(kept), "failures": began, "services": list(names(ran))}


def keep(scope: Scope, name: str) -> Snapshot:
    """Everything that was written becomes read-only layers."""
    core = scope.core
    volumes, store = core.volumes.store, core.volumes.store.snapshots

    def point(place: Directory) -> list[str]:
        store.flatten(place)  # layers of snapshots that were removed do not pile up
        return list(place.keep())

    def volume(name: str) -> list[str]:
        return point(store.volume(volumes.folder(name)))

    def root(live: Live) -> Root:
        state = core.here.container_state(live.name)
        there = [store.root(state, number) for number in overlays(state)]
        return Root(
            image=live.plan.image_id,
            roots=[point(each) for each in there],
            anonymous={t: volume(n) for t, n in live.anonymous.items() if volumes.find(n)},
        )

    return Snapshot(
        stack=core.name,
        name=name,
        created=time.time_ns(),
        volumes={key: volume(each.name) for key, each in scope.volumes.items()},
        containers={slot(live): root(live) for live in scope.lives},
    )


async def restore(core: Core, stack: str, name: str, services: list[str], tell: Tell) -> dict[str, Any]:
    """Go back to a point, of this stack or of another one made of the same files."""
    store = core.volumes.store.snapshots
    kept = store.get(stack, name)
    scope = Scope(core, services)
    await settled(core)
    scope.check()
    ran = [live for live in scope.lives if live.plan.alive]
    note(scope, ran, stack, name)
    try:
        await kill(core, ran)
        scope.idle()
        go(scope, kept)
    finally:
        began = await begin_again(core, names(ran), tell)
    core.tasks.start_soon(anyio.to_thread.run_sync, store.empty)
    return {**told(kept), "failures": began, "services": list(names(ran))}


def note(scope: Scope, ran: Iterable[Live], stack: str = "", name: str = "") -> None:
    """Whoever takes over after a crash is to know: what is gone back to, if anything, and what ran."""
    noted = {"stack": stack, "name": name, "services": scope.services, "ran": names(ran)}
    write_json(scope.core.here.switching, noted)


async def finish(core: Core) -> None:
    """After a crash: what was begun to go back goes back, and what ran is started again.

    What was being stopped may still be seen to run: it is stopped first, before anybody else is heard.
    """
    noted: Any = read_json(core.here.switching)
    ran = () if core.loop.held else tuple(noted["ran"])
    if noted["name"]:
        try:
            scope = Scope(core, noted["services"])
            await kill(core, [live for live in scope.lives if live.plan.alive])
            scope.idle()
            go(scope, core.volumes.store.snapshots.get(noted["stack"], noted["name"]))
        except ComposerError as error:
            core.notice(f"going back to snapshot {noted['name']} was cut short: {error}")
    core.tasks.start_soon(resume, core, ran)


async def resume(core: Core, services: tuple[str, ...]) -> None:
    """Stop to the end what was being stopped, and start it again."""
    if services:
        await wish(core, Options("stop", time.time_ns(), services), lambda _: None)
    await begin_again(core, services, lambda _: None)


async def begin_again(core: Core, services: tuple[str, ...], tell: Tell) -> list[list[str]]:
    """Start what ran; what could not be started."""
    options = Options("start", time.time_ns(), services, no_deps=True)
    failures = await wish(core, options, tell) if services else []
    core.here.switching.unlink(missing_ok=True)
    return failures


def told(kept: Snapshot) -> dict[str, Any]:
    anonymous = sum(len(root["anonymous"]) for root in kept["containers"].values())
    return {"volumes": len(kept["volumes"]) + anonymous, "containers": len(kept["containers"])}


def go(scope: Scope, kept: Snapshot) -> None:
    """Every volume and container is on the layers of that point. Done again, it does the same."""
    store = scope.core.volumes.store
    make(scope, kept)
    with store.locked():
        scope.hide()
        switch_volumes(scope, kept)
        for live in scope.lives:
            switch_container(scope.core, live, kept)
        store.snapshots.sweep()


def make(scope: Scope, kept: Snapshot) -> None:
    """The anonymous volumes that a container had at that point are there, under whatever name."""
    core = scope.core
    for live in scope.lives:
        for target in kept["containers"].get(slot(live), {"anonymous": {}})["anonymous"]:
            name = live.anonymous.setdefault(target, os.urandom(32).hex())
            core.volumes.ensure_anonymous(name, core.name, live.name)
    core.changed()


def switch_volumes(scope: Scope, kept: Snapshot) -> None:
    core, store = scope.core, scope.core.volumes.store
    for key, volume in scope.volumes.items():
        if key in kept["volumes"] and not (volume.external and kept["stack"] != core.name):
            store.snapshots.volume(store.folder(volume.name)).go(tuple(kept["volumes"][key]))
        else:
            core.notice(f"volume {volume.name} stays as it is: snapshot {kept['name']} does not have it")


def switch_container(core: Core, live: Live, kept: Snapshot) -> None:
    store = core.volumes.store
    entry = kept["containers"].get(slot(live))
    state = core.here.container_state(live.name)
    discard(state, store.snapshots.pool)
    if entry is None or entry["image"] != live.plan.image_id:
        why = "its image is another one now" if entry else "it is not in the snapshot"
        core.notice(f"container {live.name} begins with what its image has: {why}")
        return
    for number, layers in enumerate(entry["roots"]):
        store.snapshots.root(state, number).go(tuple(layers))
    for target, layers in entry["anonymous"].items():
        store.snapshots.volume(store.folder(live.anonymous[target])).go(tuple(layers))


def discard(state: Path, pool: Path) -> None:
    """What a container wrote goes; its folder stays."""
    if state.is_dir():
        keep_private(pool)
        os.rename(state, pool / f".removed-{os.urandom(6).hex()}")
    state.mkdir(parents=True)


def overlays(state: Path) -> range:
    """The numbers of a container's overlays; none before its first start."""
    count = 0
    while (state / f"upper{count}").exists() or (state / f"chain{count}.json").exists():
        count += 1
    return range(count)


def slot(live: Live) -> str:
    return f"{live.plan.slot.service}/{live.plan.slot.number}"


def names(lives: Iterable[Live]) -> tuple[str, ...]:
    return tuple(sorted({live.plan.slot.service for live in lives}))


async def settled(core: Core) -> None:
    """Wishes that came before are fulfilled."""
    while core.loop.operation is not None or core.loop.queue:
        await core.pulse()


async def wish(core: Core, options: Options, tell: Tell) -> list[list[str]]:
    """Have the loop fulfil a wish; what could not be done."""
    operation = Operation(options, lambda action, phase, text: tell(progress(action, phase, text)), tell)
    core.loop.submit(operation)
    await operation.finished.wait()
    return [[entry.instance, entry.reason] for entry in operation.failures]


async def kill(core: Core, lives: list[Live]) -> None:
    """End them at once: what they would still write is given up anyway."""
    for live in lives:
        if live.plan.state == "paused":
            core.inside.pause(live, thaw=True)
        live.change(stopped=True)
        await core.inside.signal(live, signal.SIGKILL)
    while any(live.plan.alive for live in lives):
        await core.pulse()
