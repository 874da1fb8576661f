"""What is wanted of a stack right now: a goal, its flags, and the desired state, computed once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from composer.model.stack import NOTHING, Service, Stack
from composer.plan import order
from composer.value import Value

Target = Literal["running", "stopped", "absent", "ended-absent", "as-is"]
Spread = Literal["nobody", "dependencies", "dependents"]


class Goal(Value):
    """What a verb wants of the services it selects."""

    target: Target
    spread: Spread = "nobody"
    """Whom a named service draws in."""
    passes_on: bool = False
    """Dependents that asked for it by `restart: true` begin again with their dependency."""
    creates: bool = False
    """Missing containers are made and changed ones replaced."""
    afresh: bool = False
    """What was begun before the goal was set is begun again."""
    strict: bool = False
    """A service without any container is a failure."""
    by_policy: bool = False
    """Only containers whose restart policy brings them back after a reboot are started."""
    clears: bool = False
    """Networks go too, and volumes and images if asked."""


GOALS: Mapping[str, Goal] = {
    "keep": Goal("as-is"),
    "up": Goal("running", "dependencies", passes_on=True, creates=True),
    "start": Goal("running", "dependencies", passes_on=True, strict=True),
    "restart": Goal("running", passes_on=True, afresh=True),
    "boot": Goal("running", by_policy=True),
    "stop": Goal("stopped"),
    "down": Goal("absent", "dependents", clears=True),
    "rm": Goal("ended-absent"),
}


class Options(Value):
    """One wish of a user. With the goal `keep` (nothing selected) only restart policies act.

    `since` is the time of the wish, in nanoseconds: what was created, begun or pulled later already counts as
    its fulfilment. So `--force-recreate`, `restart` and `pull: always` are conditions like any other, and a
    wish that was interrupted can simply be looked at again.
    """

    goal: str = "keep"
    since: int = 0
    services: tuple[str, ...] = ()
    """Empty: all."""
    scale: Mapping[str, int] = NOTHING
    no_deps: bool = False
    no_start: bool = False
    force_recreate: bool = False
    no_recreate: bool = False
    always_recreate_deps: bool = False
    renew_anon_volumes: bool = False
    remove_orphans: bool = False
    build: bool = False
    no_build: bool = False
    pull: str = ""
    """Stands above every service's `pull_policy`."""
    timeout: int | None = None
    """Patience after the stop signal, in nanoseconds; stands above every `stop_grace_period`."""
    volumes: bool = False
    """`down -v`, `rm -v`."""
    images: Literal["", "local", "all"] = ""
    """`down --rmi`."""


def image_of(stack: Stack, service: Service) -> str:
    """The reference a service runs: its own, or the one its build is tagged with."""
    return service.image or f"{stack.name}-{service.name}"


class Desired(Value):
    """A Stack with what planning needs of it computed once. Make it with `Desired.of`."""

    stack: Stack
    digests: Mapping[str, Mapping[str, str]]
    """Per service and field."""
    network_digests: Mapping[str, str]
    """Per key."""
    order: tuple[str, ...]
    """Services, dependencies first."""
    dependents: Mapping[str, tuple[str, ...]]
    """Per service, who depends on it."""
    builders: Mapping[str, Service]
    """Per image reference, the service that builds it."""
    awaited: Mapping[str, str]
    """Per service, the strongest condition somebody waits for."""

    @classmethod
    def of(
        cls,
        stack: Stack,
        digests: Mapping[str, Mapping[str, str]],
        network_digests: Mapping[str, str] = NOTHING,
    ) -> Desired:
        """Raises StackFileError when services depend on each other in a circle."""
        services = stack.services
        return cls(
            stack,
            digests,
            network_digests,
            order.ordered(services),
            order.dependents(services),
            {image_of(stack, service): service for service in services.values() if service.build},
            order.awaited(services),
        )

    def image(self, service: Service) -> str:
        return image_of(self.stack, service)

    def name(self, service: Service, number: int) -> str:
        return service.container_name or f"{self.stack.name}-{service.name}-{number}"
