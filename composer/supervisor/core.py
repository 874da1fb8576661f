"""The parts of a supervisor and how they hang together: what is shared, begun, settled and taken up again.

Lives in one event loop. After a crash `Core.recover` rebuilds everything from the record and the keeper.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import TaskGroup

from composer.disk import boot_id, read_json, write_json
from composer.errors import ComposerError, NotFoundError
from composer.keeper.launch import address
from composer.model.digest import from_json, load_stack, to_json
from composer.model.stack import Service, Stack
from composer.network.netlink import NetlinkError
from composer.paths import Paths, StackPaths
from composer.plan.options import Desired
from composer.plan.restart import next_restart
from composer.record import Record, damaged, empty, settle, stored_record, write_record
from composer.supervisor import crash
from composer.supervisor.containers import Containers
from composer.supervisor.desires import digests, network_digests
from composer.supervisor.events import Events
from composer.supervisor.gates import Gates
from composer.supervisor.groups import clear, stack_group
from composer.supervisor.images import Images
from composer.supervisor.inside import Inside
from composer.supervisor.keeperlink import KeeperLink
from composer.supervisor.loop import Loop
from composer.supervisor.net import Net
from composer.supervisor.oneoffs import Oneoffs
from composer.supervisor.owner import Owner
from composer.supervisor.runs import Runs
from composer.supervisor.userns import Userns
from composer.supervisor.volumes import Volumes
from composer.supervisor.wire import another_version
from composer.supervisor.world import Live, World, live_of, row

if TYPE_CHECKING:
    from composer.supervisor.injection import Injection

SAVE_EVERY = 0.1
"""Seconds between two writes of the record while many things change."""


class Core:
    """Everything of one supervisor. `tasks` lives as long as it does."""

    def __init__(self, paths: Paths, name: str, tasks: TaskGroup, userns: Userns) -> None:
        self.paths, self.name, self.tasks, self.userns = paths, name, tasks, userns
        self.here: StackPaths = paths.stack(name)
        self.world = World(self.here.container_state)
        self.events = Events(self.here.events)
        self.keeper = KeeperLink(connect(self.here.run, "keeper.sock"), self.heard)
        self.net = Net(paths, name, self.world, self.notice, self.keeper)
        self.images = Images(paths, self.world)
        self.volumes = Volumes(paths, self.world)
        self.containers = Containers(self)
        self.runs = Runs(self)
        self.inside = Inside(self)
        self.gates = Gates(self)
        self.oneoff = Oneoffs(self)
        self.loop = Loop(self.world, self.act, self.settle)
        self.owner = Owner(self)
        self.record: Record = empty(name)
        self.stack = Stack(name, {})
        self.before = self.stack
        """What was desired before `stack`, for who rolls an update back."""
        self.unsaved = False
        self.saved_at = 0.0
        self.saving = anyio.Lock(fast_acquire=True)
        self.forgettable: set[str] = set()
        self.oneoffs: dict[str, Service] = {}
        """Services of one-off containers, by container."""
        self.kept_slots: dict[str, dict[str, Any]] = {}
        """What a removed container leaves to its successor, by container name."""
        self.notices: list[str] = [userns.news] if userns.news else []
        self.injection: Injection | None = None
        """Faults on purpose; made when somebody first asks for one."""
        self._pulse = anyio.Event()

    # What everybody may use.

    def service(self, name: str) -> Service:
        """Raises NotFoundError."""
        if name not in self.stack.services:
            raise NotFoundError(f"no such service: {name}")
        return self.stack.services[name]

    def live(self, name: str) -> Live:
        """Raises NotFoundError."""
        found = self.world.containers.get(name)
        if found is None:
            raise NotFoundError(f"there is no container {name}")
        return found

    def changed(self, live: Live | None = None) -> None:
        """Something is to be recorded, and the loop is to look again."""
        self.unsaved = True
        self._pulse.set()
        self._pulse = anyio.Event()
        self.loop.wake()

    async def pulse(self) -> None:
        """Wait for the next change."""
        await self._pulse.wait()

    def notice(self, text: str) -> None:
        """Something that the next person who asks for something should read, once."""
        if text not in self.notices:
            self.notices.append(text)

    def tell(self, action: str, live: Live, **attributes: Any) -> None:
        """An event about a container."""
        self.events.tell(
            {
                "time": time.time_ns(),
                "type": "container",
                "action": action,
                "id": live.plan.id,
                "service": live.plan.slot.service,
                "container": live.name,
                "attributes": {"image": live.plan.image, **attributes},
            }
        )

    def faulty(self) -> Injection:
        """The stack's faults."""
        from composer.supervisor.injection import Injection

        if self.injection is None:
            self.injection = Injection(self)
        return self.injection

    # The loop's hands.

    async def act(self, action: Any) -> None:
        from composer.supervisor.execute import execute

        crash.point()
        await execute(self, action)
        crash.point()
        self.changed()

    async def settle(self, *, now: bool = True) -> float | None:
        """Ports and the record follow what is; without `now` the record not more often than is good.

        Seconds until it wants to be called again, if something is left.
        """
        try:
            self.net.settle()
        except NetlinkError as error:
            self.notice(f"the firewall rules are not up to date: {error}")
        if self.injection is not None:
            self.injection.follow()
        await self.net.ports.drop()
        wait = self.saved_at + SAVE_EVERY - time.monotonic()
        if self.unsaved and not (now or self.net.awaited) and wait > 0:
            return wait
        async with self.saving:
            if self.unsaved or self.forgettable:
                self.unsaved = self.net.awaited = False
                self.saved_at = time.monotonic()
                self.save()
            # What has ended is forgotten by the keeper only now that the record has it.
            async with anyio.create_task_group() as tasks:
                for identity in self.forgettable:
                    tasks.start_soon(self._forget, identity)
        return None

    async def _forget(self, identity: str) -> None:
        await self.keeper.call("forget", id=identity)
        self.forgettable.discard(identity)

    def save(self) -> None:
        """Write the record. A disk that is full or read-only costs what only the record remembers."""
        if self.loop.desired is None and not self.world.containers:
            return
        self.record["containers"] = [row(live) for live in self.world.containers.values()]
        self.record["networks"] = {name: state.digest for name, state in self.world.networks.items()}
        self.record["slots"] = self.kept_slots
        self.record["oneoffs"] = {name: to_json(service) for name, service in self.oneoffs.items()}
        try:
            write_record(self.here, self.record)
        except OSError as error:
            self.notice(f"the record of the stack cannot be written: {error}")

    # The wish.

    def desire(self, data: bytes, digest: str, origin: Mapping[str, Any]) -> None:
        """From now on the stack is to be as `data` says. Stored before anything is done about it."""
        if digest != self.record["digest"] or self.loop.desired is None:
            try:
                stack = load_stack(data)
            except ValueError as error:
                raise another_version("all of what the stack says") from error
            self.here.state.mkdir(parents=True, exist_ok=True)
            write_json(self.here.desired, {"digest": digest, "stack": json.loads(data)}, mode=0o600)
            self.before = self.stack
            self.take(stack)
        else:
            self.look()
        self.record["digest"] = digest
        self.record["working_dir"] = origin.get("working_dir") or ""
        self.record["files"] = list(origin.get("files") or ())
        self.record["name_given"] = bool(origin.get("name_given"))
        self.unsaved = True

    @staticmethod
    def parse(data: bytes) -> Stack:
        return load_stack(data)

    def forget_stack(self, *, volumes: bool) -> None:
        """After `down`: nothing of the stack is left but what is on its way out of memory."""
        if self.injection is not None:
            self.injection.forget()
        self.net.end()
        clear(stack_group(self.name))
        names = {volume.name for volume in self.stack.volumes.values()} | self.volumes.owned(self.name)
        self.volumes.end(self.name, names, forget=volumes)
        self.owner.forget()
        self.record = empty(self.name)
        self.stack, self.loop.desired = Stack(self.name, {}), None
        shutil.rmtree(self.here.state, ignore_errors=True)

    def take(self, stack: Stack) -> None:
        self.stack = stack
        self.loop.desired = Desired.of(stack, digests(stack), network_digests(stack))
        self.look()

    def look(self) -> None:
        """See again what is on the host outside of containers."""
        self.net.look(self.stack)
        self.volumes.look(volume.name for volume in self.stack.volumes.values())
        desired = self.loop.desired
        if desired is not None:
            self.images.look((desired.image(service), service) for service in self.stack.services.values())

    # Life.

    async def recover(self) -> None:
        """Take up the stack as the record and the keeper have it."""
        stored = stored_record(self.here)
        listing = await self.keeper.call("list")
        known = {entry["id"]: entry for entry in listing["containers"] if entry["kind"] == "container"}
        if stored is not None:
            if (stored["boot"], stored["keeper"]) != (boot_id(), os.getppid()):
                settle(stored, self.here.record.stat().st_mtime_ns)
                self.loop.held = True
            self.record = stored
            self.kept_slots, self.net.digests = stored["slots"], stored["networks"]
            self.oneoffs = {name: from_json(Service, data) for name, data in stored["oneoffs"].items()}
            for entry in stored["containers"]:
                live = live_of(entry)
                self.world.containers[live.name] = live
            self.owner.recover(tuple(stored.get("owner") or ()))
        elif damaged(self.here):
            self.loop.held = True
            self.notice("the record of the stack was damaged, as by a power cut: containers are made anew")
        self.record["boot"], self.record["keeper"] = boot_id(), os.getppid()
        desired = read_json(self.here.desired)
        if desired is not None:
            self.take(load_stack(json.dumps(desired["stack"]).encode()))
        for live in list(self.world.containers.values()):
            await self.runs.adopt(live, known.pop(live.plan.id, None))
        for stray in known:
            await self.runs.discard(stray)
        await self.net.ports.take_up(listing["descriptors"], self.world.containers.values())
        self.gates.recover()
        if self.here.switching.exists():
            from composer.supervisor import snapshots

            await snapshots.finish(self)
        if self.here.faults.exists():
            await self.faulty().recover()
        self.net.touch()
        self.unsaved = True

    def heard(self, message: dict[str, Any]) -> None:
        """An event of the keeper."""
        if message["event"] == "exit":
            self.runs.ended(message)
        elif message["event"] == "log":
            self.notice(f"log of {message['id'][:12]}: {message['text']}")

    @property
    def idle(self) -> bool:
        """Nothing runs, or is about to be (re)started, and nobody wants anything, or is waited for."""
        running = any(
            live.plan.alive or live.pid or live.plan.gated or next_restart(live.plan)
            for live in self.world.containers.values()
        )
        waiting = self.loop.operation is not None or self.loop.queue or self.loop.busy
        return not running and not waiting and not self.owner.process

    async def leave(self) -> None:
        """End the keeper, and with it this process."""
        self.save()
        await self.keeper.call("quit", kill=True)
        if not self.record["digest"] and not self.world.containers:
            # Somebody started early and then had nothing to ask for.
            shutil.rmtree(self.here.run, ignore_errors=True)
            if self.here.state.is_dir() and not any(self.here.state.iterdir()):
                self.here.state.rmdir()
        self.loop.ended = True
        self.loop.wake()
        self.tasks.cancel_scope.cancel()


def connect(run: Path, name: str) -> socket.socket:
    """A unix socket of the run directory, however long that directory's name is."""
    directory = os.open(run, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.connect(address(directory, name))
    except OSError as error:
        sock.close()
        raise ComposerError(f"the keeper of {run} does not answer: {error.strerror}") from error
    finally:
        os.close(directory)
    return sock
