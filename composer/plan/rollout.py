"""Replacing the containers of a service a few at a time: whose turn it is, judged anew at every look.

`deploy.update_config` with the words and rules of Docker's swarm mode. `stop-first` empties a slot and fills
it again; `start-first` begins the successor in another slot, and the old one leaves once the new one is well
and has taken over its published ports and its name. Nothing is remembered but what containers show.
https://docs.docker.com/reference/compose-file/deploy/#update_config
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import NamedTuple

from composer.model.stack import Service, UpdateConfig
from composer.plan import restart
from composer.plan.observed import Container, Observed
from composer.plan.phases import Instance, Phase

Make = Callable[[int, bool], Instance]
"""From a number, and whether it is a successor that stands by, to an empty slot that is to be filled."""


def overlaps(service: Service) -> bool:
    """Whether old and new may run side by side: nothing of the service can be there only once."""
    alone = service.container_name or service.mac_address
    fixed = any(a.ipv4_address or a.ipv6_address or a.mac_address for a in service.networks.values())
    config = service.update_config
    return config is not None and config.order == "start-first" and not alone and not fixed


def turns(
    service: Service,
    instances: Collection[Instance],
    scale: int,
    make: Make,
    observed: Observed,
    since: int,
    now: int,
) -> Iterator[Instance]:
    """`instances` as they are, all that are to be replaced as REPLACE, with their turns in this update."""
    assert service.update_config is not None
    rollout = _Rollout(service, service.update_config, observed, since, now)
    if overlaps(service):
        return rollout.start_first(list(instances), scale, make)
    return rollout.stop_first(list(instances), scale)


class _Progress(NamedTuple):
    """Of what this wish has made anew. `last`: when the latest of them was done."""

    under_way: int
    failed: tuple[Instance, ...]
    unsettled: tuple[Instance, ...]
    last: int


class _Rollout:
    def __init__(
        self, service: Service, config: UpdateConfig, observed: Observed, since: int, now: int
    ) -> None:
        self.service, self.config, self.observed = service, config, observed
        self.since, self.now = since, now

    # The two orders.

    def stop_first(self, instances: list[Instance], scale: int) -> Iterator[Instance]:
        waiting = [i for i in instances if _serves(i)]
        others = [i for i in instances if not _serves(i)]
        progress = self._progress(others)
        held = self._held(progress, scale)
        turns = 0 if held else self._turns(progress)
        yield from self._new(others, held, progress)
        yield from waiting[:turns]
        yield from self._waiting(waiting[turns:], held, progress)

    def start_first(self, instances: list[Instance], scale: int, make: Make) -> Iterator[Instance]:
        """Successors stand by until they are well; each then takes over from an old one, which leaves."""
        retired = [i for i in instances if _leaves(i)]
        serving = [i for i in instances if _serves(i)]
        current = [self._current(i) for i in instances if not (_serves(i) or _leaves(i))]
        progress = self._progress(current)
        held = self._held(progress, scale)
        missing = max(scale - len(current), 0)
        if serving:
            missing = 0 if held else min(missing, self._turns(progress) - len(retired))
        numbers = _free({i.slot.number for i in instances})
        yield from (make(next(numbers), bool(serving)) for _ in range(missing))

        heirs = iter(serving)
        standing = 0
        for instance in self._new(_most(current, scale), held, progress):
            container = instance.container
            if instance.phase is Phase.UP and container:
                standing += not container.standby
                if container.standby and self._well(instance):
                    of = next(heirs, None)
                    instance = instance._replace(phase=Phase.TAKE_OVER, of=of.name if of else "")
            yield instance
        surplus = min(max(standing + len(serving) - scale, 0), len(serving))
        kept = serving[: len(serving) - surplus]
        for instance in (*retired, *serving[len(kept) :]):
            yield instance._replace(phase=Phase.REMOVE)
        yield from self._waiting(kept, held, progress)

    # Their parts.

    def _current(self, instance: Instance) -> Instance:
        """A successor that an earlier wish left behind sick is made again."""
        container = instance.container
        if container and container.standby and container.created_at < self.since and _sick(container):
            return instance._replace(phase=Phase.REPLACE, because="recreate: it was never well")
        return instance

    def _turns(self, progress: _Progress) -> int:
        """How many more may begin now. A parallelism of 0 is without limit."""
        if progress.last and progress.last + self.config.delay > self.now:
            return 0
        return max((self.config.parallelism or 1_000_000) - progress.under_way, 0)

    def _held(self, progress: _Progress, scale: int) -> tuple[Phase, str] | None:
        """Why the rest of the update does not come, if too much of it failed."""
        share = len(progress.failed) / max(scale, 1)
        if not progress.failed or share <= self.config.max_failure_ratio:
            return None
        action = self.config.failure_action
        if action == "continue":
            return None
        why = f"{progress.failed[0].slot} {self._ailment(progress.failed[0])}"
        if action == "rollback":
            return Phase.ROLL_BACK, why
        return Phase.HELD, f"the update is paused: {why}"

    def _new(
        self, instances: Iterable[Instance], held: tuple[Phase, str] | None, progress: _Progress
    ) -> Iterator[Instance]:
        """Whoever may roll the update back waits for the new ones to be well."""
        for instance in instances:
            if held and held[0] is Phase.ROLL_BACK and instance in progress.failed:
                yield instance._replace(phase=Phase.ROLL_BACK, because=held[1])
            elif self.config.failure_action == "rollback" and instance in progress.unsettled:
                at = _settled_at(instance, self.config.monitor)
                yield instance._replace(awaits="to be well", wake_at=at)
            else:
                yield instance

    def _waiting(
        self, old: Iterable[Instance], held: tuple[Phase, str] | None, progress: _Progress
    ) -> Iterator[Instance]:
        """The others go on as they are."""
        phase, because = held if held and held[0] is Phase.HELD else (Phase.TURN, "its turn in the update")
        due = [progress.last + self.config.delay] if progress.last else []
        due += [at for i in progress.unsettled if (at := _settled_at(i, self.config.monitor)) is not None]
        wake_at = min((at for at in due if at > self.now), default=None)
        for instance in old:
            yield instance._replace(phase=phase, because=because, wake_at=wake_at)

    def _progress(self, instances: Iterable[Instance]) -> _Progress:
        failed, unsettled, under_way, last = [], [], 0, 0
        for instance in instances:
            container = instance.container
            if container and container.created_at < self.since and not container.standby:
                under_way += instance.phase is Phase.REPLACE
            elif self._ailment(instance):
                failed.append(instance)
            elif (at := _settled_at(instance, self.config.monitor)) is None or at > self.now:
                unsettled.append(instance)
                under_way += 1
            else:
                last = max(last, at)
                under_way += bool(container and container.standby)
        return _Progress(under_way, tuple(failed), tuple(unsettled), last)

    def _well(self, instance: Instance) -> bool:
        if self._ailment(instance):
            return self.config.failure_action == "continue"
        at = _settled_at(instance, self.config.monitor)
        return at is not None and at <= self.now

    def _ailment(self, instance: Instance) -> str:
        """What is wrong with a container that is new; "" if nothing is, or not yet."""
        failure = self.observed.failures.get(("container", instance.name))
        if failure is not None:
            return f"failed: {failure}"
        container = instance.container
        if container is None or instance.phase is Phase.REPLACE:
            return ""
        if container.health and container.health.status == "unhealthy" and container.alive:
            return "" if restart.cured_by_restart(self.service, container) else "is unhealthy"
        if container.begun_at and _ended_badly(container):
            return f"exited ({container.exit_code})"
        if container.restarts and self.service.restart_unhealthy is None:
            return f"ended, and was restarted {container.restarts} times"
        return ""


def _serves(instance: Instance) -> bool:
    """Whether it is of the old kind and goes on until its turn has come."""
    container = instance.container
    if instance.phase is not Phase.REPLACE or container is None:
        return False
    return container.alive and container.kill_at is None and not container.retired


def _leaves(instance: Instance) -> bool:
    container = instance.container
    return instance.phase is Phase.REPLACE and container is not None and container.retired


def _settled_at(instance: Instance, monitor: int) -> int | None:
    """When a new container was, or will be, well for long enough. None: it is not yet well at all."""
    container = instance.container
    if container is None or instance.phase not in (Phase.UP, Phase.DONE, Phase.ENDED):
        return None
    if not container.alive:
        return container.finished_at
    if container.health is None:
        return container.started_at + monitor
    if container.health.status != "healthy":
        return None
    return max(container.started_at, container.health.turned) + monitor


def _ended_badly(container: Container) -> bool:
    ended = container.state == "exited" and not container.stopped
    return ended and (container.exit_code != 0 or container.standby)


def _sick(container: Container) -> bool:
    unhealthy = container.health is not None and container.health.status == "unhealthy"
    return unhealthy or (container.begun_at > 0 and not container.alive)


def _most(current: list[Instance], scale: int) -> Iterator[Instance]:
    """Those beyond the scale go: first who serves nobody yet, then the highest numbers."""
    order = sorted(current, key=lambda i: (bool(i.container and i.container.standby), i.slot.number))
    yield from order[:scale]
    for instance in order[scale:]:
        yield instance._replace(phase=Phase.REMOVE, because=f"scale is {scale}")


def _free(taken: Collection[int]) -> Iterator[int]:
    number = 1
    while True:
        if number not in taken:
            yield number
        number += 1
