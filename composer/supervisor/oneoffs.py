"""Containers outside of the plan: those of `run`, and the steps before a container's first start."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from composer.errors import ComposerError, NotFoundError
from composer.model.stack import FrozenMap, Service
from composer.plan import actions as act
from composer.plan.observed import Slot
from composer.supervisor.world import Live

if TYPE_CHECKING:
    from composer.supervisor.core import Core


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
            await self.core.containers.start(name)
            while self.core.live(name).plan.alive:
                await self.core.pulse()
            code = self.core.live(name).plan.exit_code
            await self.core.containers.remove(act.RemoveContainer("", action.slot, name, True, volumes=True))
            if code:
                raise ComposerError(f"pre_start step {number} of {live.name} ended with {code}")
        live.change(hooks=(*live.plan.hooks, "pre_start"))

    async def create_oneoff(self, service: Service, overrides: Mapping[str, Any]) -> Live:
        """A container outside of the plan, made from a service with some fields replaced."""
        from composer.model.digest import from_json

        changed = {**from_json(Service, {"name": service.name, **overrides["fields"]}).__dict__}
        mine = service.replace(**{name: changed[name] for name in overrides["fields"]})
        name = overrides.get("name") or f"{self.core.name}-{service.name}-run-{secrets.token_hex(6)}"
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
