"""The planner: what can be done now, why, what waits for what, and when to look again.

`step` is level-triggered: it looks at what is desired and what is, never at what happened. It returns only
independent actions that can be done at once; when one of them has changed something, it is asked again, until
nothing is left. Time is an argument, "later" a value (`wake_at`). No kernel, clock or disk may enter.

What `up` does with a container that has ended: it starts it again, as Docker Compose does, unless it is a
one-shot: some service waits for it to complete, it ended with 0, and nothing about it changed. Once it was
begun for this goal, only its restart policy decides.
"""

from __future__ import annotations

from composer.model.stack import Service
from composer.model.units import duration_text
from composer.plan import changes, prepare, restart
from composer.plan.actions import (
    Action,
    AwaitConnection,
    CreateContainer,
    FreezeContainer,
    KillContainer,
    RemoveContainer,
    RestartContainer,
    RollBack,
    RunHooks,
    RunSteps,
    StartContainer,
    StopContainer,
    TakeOver,
    UpdateContainer,
)
from composer.plan.observed import Container, Observed, Slot
from composer.plan.options import GOALS, Desired, Options
from composer.plan.partition import drifted, ended, partition
from composer.plan.phases import GOING, PENDING, Instance, Phase
from composer.plan.prepare import Need
from composer.plan.readiness import Readiness
from composer.value import Value


class Blocked(Value):
    """An instance that cannot go on now. `final`: it never will, so the wish has failed."""

    instance: str
    """As `web-1`, or the subject of a failed action."""
    service: str
    reason: str
    final: bool = False
    due: int | None = None
    """When its turn in an update comes, in nanoseconds since the epoch."""


class Step(Value):
    actions: tuple[Action, ...] = ()
    wake_at: int | None = None
    """When to look again even if nothing happens, in nanoseconds since the epoch."""
    blocked: tuple[Blocked, ...] = ()

    @property
    def settled(self) -> bool:
        """Nothing to do, nothing to wait for but restarts by policy: the wish is fulfilled or has failed."""
        return not self.actions and all(entry.final for entry in self.blocked)


def step(desired: Desired, observed: Observed, options: Options, now: int) -> Step:
    """Everything that can be done now towards the goal of `options`. `now` in nanoseconds since the epoch."""
    planner = _Planner(desired, observed, options, now)
    planner.plan()
    return Step(tuple(planner.actions), planner.wake_at, tuple(planner.blocked))


class _Planner:
    """One step being put together."""

    def __init__(self, desired: Desired, observed: Observed, options: Options, now: int) -> None:
        self.desired, self.observed, self.options, self.now = desired, observed, options, now
        self.goal = GOALS[options.goal]
        self.partition = partition(desired, observed, options, now)
        self.actions: list[Action] = []
        self.blocked: list[Blocked] = []
        self.wake_at: int | None = None
        self.needs: dict[str, Need] = {}

    def plan(self) -> None:
        if self.goal.creates:
            self._prepare()
        self.going = {i.slot.service for i in self.partition.instances() if self._goes(i)}
        self.ready = Readiness(self.desired, self.observed, self.options, self.partition.services, self.needs)
        for instance in self.partition.instances():
            self._decide(instance)
        for (kind, name), text in self.observed.failures.items():
            if kind == "service":
                self.blocked.append(Blocked(name, name, text, final=True))
        if self.goal.clears:
            for action in prepare.leftovers(self.desired, self.observed, self.options):
                self._do(action)

    def _prepare(self) -> None:
        """Ask for images, networks and volumes; remember per service the first thing it lacks."""
        desired, observed, options = self.desired, self.observed, self.options
        services = [
            desired.stack.services[name]
            for name, instances in self.partition.services.items()
            if name in self.partition.chosen and any(i.phase is not Phase.REMOVE for i in instances)
        ]
        keys = {key for service in services for key in service.networks}
        changed = drifted(desired, observed, options, self.partition.chosen)
        staying = {instance.name for instance in self.partition.others if instance.phase is Phase.LEFT}
        networks = dict(prepare.network_needs(desired, observed, changed, keys, staying))
        keys = {key for service in services for key in prepare.volume_keys(service)}
        volumes = dict(prepare.volume_needs(desired, observed, keys))
        users: dict[str, list[Service]] = {}
        for service in services:
            for image in _images(desired, service):
                users.setdefault(image, []).append(service)
        images = {
            image: prepare.image_need(desired, observed, options, image, found, self.now)
            for image, found in users.items()
        }
        for service in services:
            wants = [images[image] for image in _images(desired, service)]
            wants += [networks.get(key) for key in service.networks]
            wants += [volumes.get(key) for key in prepare.volume_keys(service)]
            lacks = [need for need in wants if need]
            if lacks:
                self.needs[service.name] = min(lacks, key=lambda need: not need.final)
        for need in (*images.values(), *networks.values(), *volumes.values()):
            if need and need.action and not self._do(need.action):
                need.reason, need.final = observed.failures[need.action.subject], True
        for action in prepare.undeclared_networks(desired, observed):
            if action.subject not in observed.failures:
                self._do(action)

    def _goes(self, instance: Instance) -> bool:
        """Whether it runs now and this plan will really stop it, so that its dependencies outlive it."""
        if instance.phase not in GOING or instance.container is None or not instance.container.alive:
            return False
        need = self.needs.get(instance.slot.service)
        hopeless = instance.phase is Phase.REPLACE and need is not None and need.final
        return not hopeless and ("container", instance.name) not in self.observed.failures

    def _do(self, action: Action) -> bool:
        """Take an action up, unless the same was tried for these options and failed."""
        failure = self.observed.failures.get(action.subject)
        if failure is None:
            self.actions.append(action)
            return True
        self.blocked.append(Blocked(" ".join(action.subject), "", failure, final=True))
        return False

    def _wait(self, instance: Instance, reason: str, *, final: bool = False) -> None:
        self.blocked.append(Blocked(str(instance.slot), instance.slot.service, reason, final))

    def _wake(self, at: int) -> None:
        self.wake_at = at if self.wake_at is None else min(at, self.wake_at)

    def _decide(self, instance: Instance) -> None:
        phase, container = instance.phase, instance.container
        need = self.needs.get(instance.slot.service)
        if instance.awaits:
            self._turn(instance, instance.awaits)
        if need and (phase in (Phase.MISSING, Phase.START) or (phase is Phase.REPLACE and not need.leaving)):
            self._wait(instance, need.reason, final=need.final)
        elif container is None:
            if phase is Phase.MISSING:
                self._create(instance)
            else:
                self._wait(
                    instance, f'service "{instance.slot.service}" has no container to start', final=True
                )
        elif phase in GOING:
            self._leave(instance, container)
        elif phase in (Phase.TURN, Phase.HELD):
            self._turn(instance, instance.because, final=phase is Phase.HELD)
        elif phase is Phase.TAKE_OVER:
            self._do(TakeOver(*_about(instance, container, "ready"), of=instance.of))
        elif phase is Phase.ROLL_BACK:
            self._roll_back(instance)
        elif phase is Phase.START:
            self._start(instance, container)
        elif phase is Phase.WAITS:
            if self._updated(instance, container) and not container.gated:
                self._do(AwaitConnection(*_about(instance, container)))
        elif container.alive:
            self._run(instance, container)
        elif self._updated(instance, container) and phase is not Phase.DONE:
            self._policy(instance, container)

    def _create(self, instance: Instance) -> None:
        desired = self.desired
        service = desired.stack.services[instance.slot.service]
        image = desired.image(service)
        known = self.observed.images.get(image)
        networks, volumes = desired.stack.networks, desired.stack.volumes
        self._do(
            CreateContainer(
                because=instance.because,
                slot=instance.slot,
                name=instance.name,
                oneoff=False,
                image=image,
                image_id=known.id if known else "",
                digests=desired.digests[service.name],
                restart=service.restart,
                networks=tuple(networks[key].name for key in service.networks if key in networks),
                volumes=tuple(volumes[key].name for key in prepare.volume_keys(service) if key in volumes),
                standby=instance.standby,
            )
        )

    def _turn(self, instance: Instance, reason: str, *, final: bool = False) -> None:
        slot, due = instance.slot, instance.wake_at
        self.blocked.append(Blocked(str(slot), slot.service, reason, final, due))
        if due is not None:
            self._wake(due)

    def _roll_back(self, instance: Instance) -> None:
        action = RollBack(instance.because, service=instance.slot.service)
        if action.subject not in self.observed.failures and action not in self.actions:
            self.actions.append(action)

    def _start(self, instance: Instance, container: Container) -> None:
        wait = self.ready.wait(instance.slot.service)
        if wait:
            self._wait(instance, wait.reason, final=wait.final)
            return
        service = self.desired.stack.services[instance.slot.service]
        if service.pre_start and not container.begun_at and "pre_start" not in container.hooks:
            self._steps(instance, container, service)
        elif self._updated(instance, container):
            awaited = self.desired.awaited.get(service.name, "")
            self._do(StartContainer(*_about(instance, container), awaited=awaited))

    def _steps(self, instance: Instance, container: Container, service: Service) -> None:
        """Steps that are not `per_replica` run with the first instance; the others wait for them."""
        first = self.partition.services[service.name][0]
        shared = any(not step.per_replica for step in service.pre_start)
        if first is not instance and shared and first.phase in PENDING and not _prepared(first):
            self._wait(instance, f"{first.slot} to run its pre_start steps")
            return
        steps = tuple(step for step in service.pre_start if step.per_replica or first is instance)
        self._do(RunSteps(*_about(instance, container, "first start"), steps=steps))

    def _run(self, instance: Instance, container: Container) -> None:
        if container.kill_at is not None:
            self._kill(instance, container, container.kill_at)
        elif restart.cured_by_restart(service := self._service(instance), container):
            self._stop(instance, container, "unhealthy", again=True)
        elif self._updated(instance, container) and service and instance.phase is Phase.HOOKS:
            self._do(RunHooks(*_about(instance, container), hooks=service.post_start))
        else:
            self._rest(instance, container, service)

    def _rest(self, instance: Instance, container: Container, service: Service | None) -> None:
        """Freeze it once nobody has used it for as long as it may idle."""
        patience = container.idle_after or (service.idle if service else 0)
        if not patience or container.gated or container.oneoff or container.state == "paused":
            return
        health = container.health
        if container.standby or (health and health.status == "starting"):
            return  # frozen it would never be ready
        at = max(container.used_at, container.started_at, health.turned if health else 0) + patience
        if at > self.now:
            self._wake(at)
        else:
            because = f"nobody used it for {duration_text(patience)}"
            self._do(FreezeContainer(*_about(instance, container, because)))

    def _updated(self, instance: Instance, container: Container) -> bool:
        """True when nothing is left to be recorded."""
        if not instance.live:
            return True
        service = self.desired.stack.services[instance.slot.service]
        because = changes.sentence(instance.live, self.observed.made.get(instance.name), service)
        about = _about(instance, container, because)
        digests = self.desired.digests[service.name]
        self._do(UpdateContainer(*about, fields=instance.live, digests=digests, restart=service.restart))
        return False

    def _policy(self, instance: Instance, container: Container) -> None:
        due = restart.next_restart(container)
        if due is None:
            return
        if due.at > self.now:
            self._wake(due.at)
            return
        about = _about(instance, container, f"{ended(container)}, {_why(container)}")
        self._do(RestartContainer(*about, restarts=due.restarts, tries=due.tries, backoff=due.backoff))

    def _leave(self, instance: Instance, container: Container) -> None:
        """Stop it, dependents first; once it has ended, remove it if it is to go."""
        if container.alive:
            if container.kill_at is not None:
                self._kill(instance, container, self._patience(container, container.kill_at))
                return
            first = sorted(self.going.intersection(self.desired.dependents.get(instance.slot.service, ())))
            if first and not container.oneoff:
                self._wait(instance, f"{', '.join(first)} to be stopped")
            else:
                self._stop(instance, container)
        elif instance.phase is Phase.STOP:
            self._stop(instance, container)
        else:
            renewed = instance.phase is Phase.REPLACE and self.options.renew_anon_volumes
            volumes = (
                renewed or container.retired or (instance.phase is Phase.REMOVE and self.options.volumes)
            )
            self._do(RemoveContainer(*_about(instance, container), volumes=volumes))

    def _service(self, instance: Instance) -> Service | None:
        """None for an orphan's."""
        return self.desired.stack.services.get(instance.slot.service)

    def _stop(
        self, instance: Instance, container: Container, because: str = "", *, again: bool = False
    ) -> None:
        service = self._service(instance)
        about = _about(instance, container, because)
        grace = self.options.timeout
        if service is None:
            self._do(StopContainer(*about, grace=grace))
            return
        if grace is None:
            grace = service.stop_grace_period
        signal, hooks = service.stop_signal, service.pre_stop
        tries = restart.tries_of(service, container)
        self._do(StopContainer(*about, signal=signal, grace=grace, hooks=hooks, again=again, tries=tries))

    def _patience(self, container: Container, kill_at: int) -> int:
        """A later wish with a shorter timeout makes an end of waiting; what this wish stopped has its own."""
        if self.options.timeout is None or kill_at - container.patience >= self.options.since:
            return kill_at
        return min(kill_at, self.options.since + self.options.timeout)

    def _kill(self, instance: Instance, container: Container, at: int) -> None:
        if at <= self.now:
            self._do(KillContainer(*_about(instance, container, "did not stop in time")))
        else:
            self._wake(at)
            self._wait(instance, "to stop")


def _why(container: Container) -> str:
    return "was unhealthy" if container.again else f"restart: {container.restart.condition}"


def _images(desired: Desired, service: Service) -> list[str]:
    """The references of a service and of its `pre_start` steps, each once."""
    steps = (step.container.image for step in service.pre_start)
    return list(dict.fromkeys([desired.image(service), *filter(None, steps)]))


def _prepared(instance: Instance) -> bool:
    container = instance.container
    return container is not None and ("pre_start" in container.hooks or container.begun_at > 0)


def _about(instance: Instance, container: Container, because: str = "") -> tuple[str, Slot, str, bool]:
    return because or instance.because, instance.slot, instance.name, container.oneoff
