"""Containers outside of the plan: those of `run`, and the steps before a container's first start."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from composer.bundle import possible
from composer.errors import ComposerError, ImageError, NotFoundError
from composer.model.stack import FrozenMap, Service
from composer.plan import actions as act
from composer.plan.observed import Slot
from composer.plan.options import Options
from composer.plan.phases import Instance, Phase
from composer.plan.prepare import image_need
from composer.plan.readiness import CONDITIONS, Wait
from composer.plan.step import Blocked
from composer.supervisor.facts import host_facts
from composer.supervisor.images import check_platform
from composer.supervisor.ready import Awaited, Tell
from composer.supervisor.world import Live

if TYPE_CHECKING:
    from composer.supervisor.core import Core

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
"""Of a container: files and folders are called by it."""


class Oneoffs:
    def __init__(self, core: Core) -> None:
        self.core = core

    async def steps(self, action: act.RunSteps) -> None:
        """Run the pre_start steps, each in a container of its own; the first that fails fails the action."""
        live = self.core.live(action.name)
        service = self.core.service(action.slot.service)
        for number, first in enumerate(action.steps, 1):
            step = first.container.replace(name=service.name)
            name = f"{live.name}-pre-start-{number}"
            self.core.oneoffs[name] = step
            await self.make_oneoff(step, name, step.image or live.plan.image)
            await self.core.runs.start(name)
            while self.core.live(name).plan.alive:
                await self.core.pulse()
            code = self.core.live(name).plan.exit_code
            await self.core.containers.remove(act.RemoveContainer("", action.slot, name, True, volumes=True))
            if code:
                raise ComposerError(f"pre_start step {number} of {live.name} ended with {code}")
        live.change(hooks=(*live.plan.hooks, "pre_start"))

    async def prepare(self, service: Service, *, pull: str, build: bool) -> None:
        """Image, networks and volumes of a service are there. Raises ImageError, ConflictError."""
        core, desired = self.core, self.core.loop.desired
        assert desired is not None
        reference = desired.image(service)
        possible.check(core.stack, service, host_facts())
        check_platform(service, reference)
        core.images.look([(reference, service)])
        now = time.time_ns()
        options = Options(since=now, pull=pull, build=build)
        need = image_need(desired, core.world.observed(), options, reference, [service], now)
        if need is not None and need.action is None:
            raise ImageError(need.reason, hint=f"`composer pull {service.name}` fetches it")
        if need is not None:
            await core.act(need.action)
        for key in service.networks:
            network = core.stack.networks[key]
            if network.name not in core.world.networks:
                core.net.ensure(network, desired.network_digests[key])
        for mount in service.volumes:
            if mount.type == "volume" and mount.source:
                core.volumes.ensure(core.stack.volumes[mount.source], core.name)

    async def await_dependencies(self, service: Service, tell: Tell) -> None:
        """Until the conditions of its `depends_on` hold. Raises ComposerError when one never will."""
        awaited = Awaited(self.core, tell)
        for name, dependency in service.depends_on.items():
            for live in self.core.world.of_service(name):
                if live.plan.gated:
                    await self.core.gates.wake(live)
            while wait := self._wait(name, dependency.condition):
                if wait.final and dependency.required:
                    raise ComposerError(wait.reason, hint=f"`composer why {name}`")
                if wait.final:
                    break
                awaited.look([Blocked(service.name, service.name, wait.reason)])
                await self.core.pulse()
        awaited.look([])

    def _wait(self, name: str, condition: str) -> Wait | None:
        service = self.core.service(name)
        for live in self.core.world.of_service(name):
            instance = Instance(live.plan.slot, live.name, live.plan, Phase.UP)
            if wait := CONDITIONS[condition](instance, live.plan, service):
                return wait
        return None

    async def discard(self, live: Live) -> None:
        """It has ended, or never began, and was to go then: with its log and its anonymous volumes."""
        remove = act.RemoveContainer("run --rm", live.plan.slot, live.name, True, volumes=True)
        await self.core.containers.remove(remove)
        for path in self.core.here.logs.glob(f"{live.name}.log*"):
            path.unlink(missing_ok=True)
        self.core.changed()

    async def create_oneoff(self, service: Service, overrides: Mapping[str, Any]) -> Live:
        """A container outside of the plan, made from a service with some fields replaced."""
        from composer.model.digest import from_json

        changed = {**from_json(Service, {"name": service.name, **overrides["fields"]}).__dict__}
        mine = service.replace(**{name: changed[name] for name in overrides["fields"]})
        name = overrides.get("name") or f"{self.core.name}-{service.name}-run-{os.urandom(6).hex()}"
        if not NAME.fullmatch(name):
            hint = "use two or more letters, digits, . _ or -, the first a letter or digit"
            raise ComposerError(f"a container cannot be named {name!r}", hint=hint)
        if name in self.core.world.containers:
            raise ComposerError(f"a container named {name} exists already")
        desired = self.core.loop.desired
        if desired is None:
            raise NotFoundError(f"no such service: {service.name}")
        self.core.oneoffs[name] = mine
        return await self.make_oneoff(mine, name, desired.image(service))

    async def make_oneoff(self, service: Service, name: str, image: str) -> Live:
        """A container outside of the plan."""
        taken = {x.plan.slot.number for x in self.core.world.containers.values() if x.plan.oneoff}
        number = next(n for n in range(1, len(taken) + 2) if n not in taken)
        await self.core.containers.create(
            act.CreateContainer(
                because="asked for by run",
                slot=Slot(service.name, number),
                name=name,
                oneoff=True,
                image=image,
                image_id="",
                digests=FrozenMap(),
                restart=service.restart,
                networks=(),
                volumes=(),
            )
        )
        self.core.changed()
        return self.core.live(name)
