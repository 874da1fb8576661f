"""What containers are made of: made, changed, removed. What their processes do is the matter of `runs`.

Each method does one thing that a plan or a person asked for and changes the live container accordingly; when
and why is decided elsewhere.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from composer.bundle import process, security
from composer.errors import NotFoundError
from composer.model.stack import Service
from composer.network.options import without_effect
from composer.plan import actions as act
from composer.plan.observed import Container
from composer.supervisor.describe import labels_of
from composer.supervisor.facts import host_facts
from composer.supervisor.images import foreign
from composer.supervisor.logdrivers import check as check_logging
from composer.supervisor.names import attachments, plain_network
from composer.supervisor.together import Together
from composer.supervisor.world import Live

if TYPE_CHECKING:
    from composer.supervisor.core import Core


class Containers:
    """Works on the live containers of one core."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.discarded = Together[Path, None](self._discard)
        self.discarding: dict[Path, anyio.Event] = {}

    async def create(self, action: act.CreateContainer) -> None:
        """A container that can be started: recorded, with its addresses. Nothing runs yet."""
        service = self.core.oneoffs.get(action.name) or self.core.service(action.slot.service)
        check_logging(service)
        live = Live(
            Container(
                slot=action.slot,
                name=action.name,
                id=os.urandom(32).hex(),
                digests=action.digests,
                image=action.image,
                image_id=action.image_id,
                restart=action.restart,
                networks=tuple(attachments(self.core.stack, service)),
                volumes=action.volumes,
                created_at=time.time_ns(),
                oneoff=action.oneoff,
                standby=action.standby,
            )
        )
        self.discard_files(live)  # of a namesake that was lost before it was recorded
        await self.await_discards()
        before = self.core.kept_slots.pop(action.name, None)
        if before is not None and not action.standby:
            live.anonymous, live.ports = before["anonymous"], before["ports"]
        self.describe(live, service)
        self.tell_foreign(live, service)
        if before is not None and live.anonymous:
            self.tell_hidden(live, before.get("image", ""))
        self.core.world.made.keep(live, service)
        if service.network_mode in ("bridge", "default"):
            self.core.net.ensure(plain_network(self.core.name), "")
        for option in security.without_effect(service, host_facts()):
            text = f"service {service.name}: security_opt {option} has no effect: this kernel has no SELinux"
            self.core.notice(text)
        for key, attachment in service.networks.items():
            for option in without_effect(attachment.driver_opts):
                self.core.notice(f"service {service.name}: the option {option} has no effect on {key}")
        self.core.world.containers[live.name] = live
        self.core.tell("create", live)

    def tell_hidden(self, live: Live, before: str) -> None:
        """Say which anonymous volumes of an earlier container stand before what a newer image brings."""
        from composer.supervisor.tags import hidden

        for text in hidden(self.core, live, before):
            self.core.notice(text)

    def tell_foreign(self, live: Live, service: Service) -> None:
        """Say that its image is of another machine, as it needs an emulator then."""
        config = self.core.images.find(live.plan.image).config
        there = "/".join(filter(None, (config.get(key) for key in ("os", "architecture", "variant"))))
        if config.get("architecture") and foreign(there):
            what = (
                f"service {service.name}: image {live.plan.image} is for {there}, which is not this machine"
            )
            self.core.notice(f"{what}: it needs an emulator (binfmt_misc)")

    def describe(self, live: Live, service: Service) -> None:
        """What the record says of a container because its service says so."""
        image = self.core.images.find(live.plan.image)
        config: Mapping[str, Any] = image.config.get("config") or {}
        live.plan = live.plan.replace(image_id=image.id)
        live.labels = labels_of(self.core, live, service, config)
        live.tty, live.stdin = service.tty, service.stdin_open
        live.stop_signal = process.stop_signal(service, config)
        live.grace = process.stop_grace(service)
        live.command = process.arguments(service, config)

    async def update(self, action: act.UpdateContainer) -> None:
        """Record new digests; limits that changed are written to the cgroup of what runs."""
        live = self.core.live(action.name)
        live.change(digests=action.digests, restart=action.restart)
        service = self.core.service(action.slot.service)
        self.core.world.made.keep(live, service)
        live.grace = process.stop_grace(service)
        if "resources" in action.fields and live.plan.alive:
            from composer.bundle.inputs import Place
            from composer.bundle.limits import resources
            from composer.supervisor.facts import block_devices, host_facts
            from composer.supervisor.furnish import blkio_paths

            place = Place(live.plan.id, live.name, block_devices=block_devices(blkio_paths(service)))
            self.core.inside.group(live).update(dict(resources(service, place, host_facts())))
        if "healthcheck" in action.fields and live.plan.state == "running":
            self.core.inside.watch_health(live, service)

    def service_of(self, live: Live) -> Service:
        """What it was made from. Raises NotFoundError when that is lost and no longer desired."""
        made = live.service or self.core.world.made.get(live.name)
        return made or self.core.service(live.plan.slot.service)

    def known(self, live: Live) -> Service | None:
        """As `service_of`; None when nothing says any more what it was made from."""
        try:
            return self.service_of(live)
        except NotFoundError:
            return None

    async def remove(self, action: act.RemoveContainer) -> None:
        """Everything of it goes; its slot keeps what a successor takes over."""
        live = self.core.live(action.name)
        self.ungate(live)
        if action.volumes:
            for name in live.anonymous.values():
                self.core.volumes.remove(name, self.core.name)
        elif not live.plan.oneoff:
            self.core.kept_slots[live.name] = {
                "anonymous": live.anonymous,
                "ports": live.ports,
                "image": live.plan.image_id,
            }
        self.discard_files(live)
        del self.core.world.containers[live.name]
        self.core.oneoffs.pop(live.name, None)
        desired = self.core.loop.desired
        if desired is None or live.plan.slot.service not in desired.stack.services or live.plan.oneoff:
            self.core.net.release(live)
        self.core.tell("destroy", live)

    def ungate(self, live: Live) -> None:
        """It does not run, and no connection is to start it any more."""
        if live.plan.gated:
            live.change(stopped=True)
            self.core.net.forget(live)
            self.core.tell("release", live)

    def discard_files(self, live: Live) -> None:
        """Soon, beside everything else: a disk may be slow."""
        here = self.core.here
        for folder in (here.container_run(live.name), here.container_state(live.name)):
            if folder.exists() and folder not in self.discarding:
                self.discarding[folder] = anyio.Event()
                self.core.tasks.start_soon(self.discarded.ask, [folder])

    async def _discard(self, folders: list[Path]) -> list[None]:
        """In one thread for all of a moment: many would only wait for each other."""

        def discard() -> None:
            for folder in folders:
                shutil.rmtree(folder, ignore_errors=True)

        await anyio.to_thread.run_sync(discard)
        for folder in folders:
            self.discarding.pop(folder).set()
        return [None] * len(folders)

    async def await_discards(self) -> None:
        """Until what was discarded is gone."""
        while self.discarding:
            await next(iter(self.discarding.values())).wait()
