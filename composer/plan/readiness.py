"""Whether a service's dependencies allow it to start: yes, not yet, or never, and by whose fault."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from composer.model.stack import Service
from composer.plan import restart
from composer.plan.observed import Container, Observed
from composer.plan.options import GOALS, Desired, Options
from composer.plan.partition import ended
from composer.plan.phases import PENDING, Instance, Phase
from composer.plan.prepare import Need


class Wait(NamedTuple):
    """What stands in the way. `final`: it will not go away by itself."""

    reason: str
    final: bool = False


FAILED = "dependency failed to start"


def _started(instance: Instance, container: Container, service: Service) -> Wait | None:
    return None


def _healthy(instance: Instance, container: Container, service: Service) -> Wait | None:
    name = container.name
    if not container.alive:
        return _restarting(container) or Wait(f"{FAILED}: container {name} {ended(container)}", final=True)
    if container.health is None:
        return Wait(f"{FAILED}: container {name} has no healthcheck configured", final=True)
    if container.health.status == "unhealthy":
        if restart.cured_by_restart(service, container):
            return Wait(f"{instance.slot} to be restarted")
        return Wait(f"{FAILED}: container {name} is unhealthy", final=True)
    return None if container.health.status == "healthy" else Wait(f"{instance.slot} to be healthy")


def _completed(instance: Instance, container: Container, service: Service) -> Wait | None:
    if container.alive:
        return Wait(f"{instance.slot} to complete")
    if container.exit_code == 0 and not container.stopped:
        return None
    what = f"service {instance.slot.service} didn't complete successfully: exit {container.exit_code}"
    return _restarting(container) or Wait(what, final=True)


def _restarting(container: Container) -> Wait | None:
    return Wait(f"{container.slot} to be restarted") if restart.next_restart(container) else None


CONDITIONS: Mapping[str, Callable[[Instance, Container, Service], Wait | None]] = {
    "service_started": _started,
    "service_healthy": _healthy,
    "service_completed_successfully": _completed,
}


class Readiness:
    """Answers for one step, worked out dependencies first."""

    def __init__(
        self,
        desired: Desired,
        observed: Observed,
        options: Options,
        services: Mapping[str, tuple[Instance, ...]],
        needs: Mapping[str, Need],
    ) -> None:
        self.desired, self.observed, self.services, self.needs = desired, observed, services, needs
        self.by_policy = GOALS[options.goal].by_policy
        self.waits: dict[str, Wait | None] = {}
        for name in services:
            self.waits[name] = self.wait(name)

    def wait(self, service: str) -> Wait | None:
        """Why a service's containers may not start yet; None when they may. A failure before all else.

        Only dependencies that take part are waited for. Optional ones (`required: false`) are waited for,
        too, but when they fail they are passed over.
        """
        soonest: Wait | None = None
        for name, dependency in self.desired.stack.services[service].depends_on.items():
            wait = self._dependency(name, dependency.condition)
            if wait and wait.final and dependency.required:
                return wait
            if wait and not wait.final:
                soonest = soonest or wait
        return soonest

    def _dependency(self, name: str, condition: str) -> Wait | None:
        soonest: Wait | None = None
        for instance in self.services.get(name, ()):
            wait = self._instance(instance, condition)
            if wait and wait.final:
                return wait
            soonest = soonest or wait
        return soonest

    def _instance(self, instance: Instance, condition: str) -> Wait | None:
        service, container = instance.slot.service, instance.container
        failure = self.observed.failures.get(("container", instance.name))
        if failure is not None:
            subject = f"container {instance.name}"
            return Wait(f"{FAILED}: {failure if subject in failure else f'{subject}: {failure}'}", final=True)
        need = self.needs.get(service)
        if need:
            return Wait(f"{FAILED}: {need.reason}" if need.final else need.reason, need.final)
        if instance.phase in PENDING:
            own = self.waits[service]
            return own if own and own.final else Wait(f"{instance.slot} to start")
        if instance.phase is Phase.HOOKS:
            return Wait(f"{instance.slot} to run its post_start hooks")
        if container is None:
            return Wait(f"{FAILED}: service {service} has no container", final=True)
        if instance.phase is Phase.REMOVE or (self.by_policy and not container.alive):
            return None
        return CONDITIONS[condition](instance, container, self.desired.stack.services[service])
