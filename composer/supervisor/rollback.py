"""Taking an update back: a service is desired again as it was, and the same turns lead there.

What it was is known from its containers that the update has not reached; when there are none, from the stack
that was desired before.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from composer.disk import write_json
from composer.errors import ComposerError
from composer.model.digest import dump
from composer.model.stack import FrozenMap, Service, Stack

if TYPE_CHECKING:
    from composer.supervisor.core import Core


def roll_back(core: Core, name: str, because: str) -> None:
    """Always raises ComposerError, so that the wish stands as failed and is not rolled back a second time."""
    now = core.service(name)
    before = earlier(core, name)
    if before is None:
        raise ComposerError(f"the update failed: {because}; there is no earlier {name} to go back to")
    config = now.rollback_config or now.update_config
    assert config is not None
    if config.failure_action == "rollback":
        config = config.replace(failure_action="pause")
    stack = with_service(core.stack, core.before, before.replace(update_config=config, scale=now.scale))
    data = json.loads(dump(stack))
    write_json(core.here.desired, {"digest": "", "stack": data}, mode=0o600)
    core.record["digest"] = ""
    core.take(stack)
    raise ComposerError(f"the update was rolled back: {because}")


def earlier(core: Core, name: str) -> Service | None:
    operation = core.loop.operation
    since = operation.options.since if operation else 0
    for live in core.world.of_service(name):
        if live.plan.created_at < since and live.plan.alive and not live.plan.standby:
            return core.containers.service_of(live)
    return core.before.services.get(name)


def with_service(stack: Stack, before: Stack, service: Service) -> Stack:
    """`stack` with that service, and with what it needs of the stack before."""

    def joined(kind: str, keys: set[str]) -> FrozenMap:
        old, new = getattr(before, kind), getattr(stack, kind)
        return FrozenMap({**{key: old[key] for key in keys & old.keys()}, **new})

    volumes = {mount.source for mount in service.volumes if mount.type == "volume"}
    return stack.replace(
        services=FrozenMap({**stack.services, service.name: service}),
        networks=joined("networks", set(service.networks)),
        volumes=joined("volumes", volumes),
        secrets=joined("secrets", {grant.source for grant in service.secrets}),
        configs=joined("configs", {grant.source for grant in service.configs}),
    )
