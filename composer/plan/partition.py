"""Every container and every empty slot sorted into one of a few phases, before anything is decided.

A phase says where an instance stands on its way to the goal. What to do about each phase is `step`'s matter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import NamedTuple

from composer.model.stack import Service
from composer.plan import changes, order, restart, rollout
from composer.plan.observed import Container, Observed, Slot
from composer.plan.options import GOALS, Desired, Options
from composer.plan.phases import Instance, Phase


class Partition(NamedTuple):
    services: Mapping[str, tuple[Instance, ...]]
    """The instances of each selected service, dependencies first."""
    others: tuple[Instance, ...]
    """Orphans, one-offs, and what was not selected."""
    chosen: frozenset[str]
    """The selected services without those that were only drawn in."""

    def instances(self) -> Iterator[Instance]:
        for instances in self.services.values():
            yield from instances
        yield from self.others


class Selection(NamedTuple):
    """`chosen`: the services a goal is about. `drawn`: dependents that only begin again with one of them."""

    chosen: frozenset[str]
    drawn: frozenset[str] = frozenset()


def select(desired: Desired, observed: Observed, options: Options) -> Selection:
    """Names that are not in the stack select nothing."""
    services = desired.stack.services
    goal = GOALS[options.goal]
    if goal.target == "as-is":
        return Selection(frozenset())
    if not options.services:
        return Selection(frozenset(services))
    chosen = frozenset(options.services) & services.keys()
    if options.no_deps:
        return Selection(chosen)
    if goal.spread == "dependencies":
        chosen = order.with_dependencies(services, chosen)
    if goal.spread == "dependents":
        chosen = order.with_dependents(services, desired.dependents, chosen)
    if not goal.passes_on:
        return Selection(chosen)
    ran = {
        c.slot.service
        for c in observed.containers
        if c.alive or (c.stopped and c.finished_at >= options.since)
    }
    reached = order.with_dependents(services, desired.dependents, chosen, restarted=True)
    return Selection(chosen, (reached & ran) - chosen)


def drifted(
    desired: Desired, observed: Observed, options: Options, selected: Collection[str]
) -> frozenset[str]:
    """Names of our own networks that are to be made anew, as their definition changed.

    A network is left as it is while services that are not selected use it.
    """
    if not GOALS[options.goal].creates or options.no_recreate:
        return frozenset()
    found = set()
    for key, network in desired.stack.networks.items():
        state = observed.networks.get(network.name)
        wanted = desired.network_digests.get(key, "")
        if state and state.owner == desired.stack.name and state.digest != wanted and not network.external:
            found.add(network.name)
    for container in observed.containers:
        service = container.slot.service
        if service in desired.stack.services and service not in selected:
            found.difference_update(container.networks)
    return frozenset(found)


def partition(desired: Desired, observed: Observed, options: Options, now: int) -> Partition:
    return _Sorter(desired, observed, options, now).all()


class _Sorter:
    """One sorting. Services are taken dependencies first, as a restart may be passed on to dependents."""

    def __init__(self, desired: Desired, observed: Observed, options: Options, now: int) -> None:
        self.desired, self.observed, self.options, self.now = desired, observed, options, now
        self.goal = GOALS[options.goal]
        self.chosen, drawn = select(desired, observed, options)
        self.selected = self.chosen | drawn
        self.drifted = drifted(desired, observed, options, self.chosen)
        self.needed = self._needed()
        self.found: dict[str, tuple[Instance, ...]] = {}

    def _needed(self) -> set[str]:
        """Services that others depend on which run, or are to: these start without a connection, too."""
        found: set[str] = set()
        running = {container.slot.service for container in self.observed.containers if container.alive}
        for name in reversed(self.desired.order):
            service = self.desired.stack.services[name]
            if name in self.selected and (not service.on_connect or name in found | running):
                found.update(service.depends_on)
        return found

    def all(self) -> Partition:
        filled: dict[str, dict[int, Container]] = {}
        others: list[Instance] = []
        for container in self.observed.containers:
            service, number = container.slot
            if container.oneoff or service not in self.selected:
                others.append(self._other(container))
            elif number in filled.setdefault(service, {}):
                others.append(_instance(container, Phase.REMOVE, f"{container.slot} exists twice"))
            else:
                filled[service][number] = container
        for name in self.desired.order:
            if name in self.selected:
                instances = self._service(name, filled.get(name, {}))
                self.found[name] = tuple(sorted(instances, key=lambda instance: instance.slot.number))
        return Partition(self.found, tuple(others), self.chosen)

    def _other(self, container: Container) -> Instance:
        """Orphans and one-offs go with `--remove-orphans`; one-offs also share the end of their service."""
        service = container.slot.service
        clearing = self.goal.creates or self.goal.clears
        stack = self.desired.stack
        orphan = service not in stack.services and service not in stack.inactive
        if container.oneoff and service in self.selected and self.goal.target in ("absent", "stopped"):
            return self._leaving(container, self.goal.target)
        if (
            clearing
            and self.options.remove_orphans
            and (orphan or (container.oneoff and not container.alive))
        ):
            return _instance(container, Phase.REMOVE, "one-off" if container.oneoff else "orphan")
        return _instance(container, Phase.LEFT)

    def _service(self, name: str, filled: dict[int, Container]) -> Iterator[Instance]:
        service = self.desired.stack.services[name]
        target, creates = self.goal.target, self.goal.creates and name in self.chosen
        scale = self.options.scale.get(name, 0 if service.provider else service.scale)
        if not filled and self.goal.strict and scale:
            yield Instance(Slot(name, 1), self.desired.name(service, 1), None, Phase.LEFT)
        paced = creates and service.update_config is not None and not self.options.no_start
        paced = paced and not service.on_connect
        if paced and rollout.overlaps(service):
            found = [self._running(service, container, creates) for _, container in sorted(filled.items())]
            yield from self._in_turns(service, found, scale)
            return
        missing = [n for n in range(1, scale + 1) if n not in filled] if creates else []
        found = [self._missing(service, number) for number in missing]
        for number, container in sorted(filled.items()):
            if target != "running":
                found.append(self._leaving(container, target))
            elif number > scale and creates:
                found.append(_instance(container, Phase.REMOVE, f"scale is {scale}"))
            else:
                found.append(self._running(service, container, creates))
        yield from self._in_turns(service, found, scale) if paced else found

    def _missing(self, service: Service, number: int, standby: bool = False) -> Instance:
        slot = Slot(service.name, number)
        because = "to take over" if standby else "missing"
        return Instance(slot, self.desired.name(service, number), None, Phase.MISSING, because, (), standby)

    def _in_turns(self, service: Service, found: list[Instance], scale: int) -> Iterator[Instance]:
        """With an update_config changes come a few at a time."""
        make = partial(self._missing, service)
        return rollout.turns(service, found, scale, make, self.observed, self.options.since, self.now)

    def _leaving(self, container: Container, target: str) -> Instance:
        if target == "absent":
            return _instance(container, Phase.REMOVE, self.options.goal)
        if target == "ended-absent":
            return _instance(container, Phase.LEFT if container.alive else Phase.REMOVE, self.options.goal)
        stops = container.alive or container.gated or restart.next_restart(container)
        return _instance(container, Phase.STOP if stops else Phase.LEFT, self.options.goal)

    def _running(self, service: Service, container: Container, creates: bool) -> Instance:
        live: tuple[str, ...] = ()
        if creates:
            because, live = self._replaced(service, container)
            if because:
                return _instance(container, Phase.REPLACE, f"recreate: {because}")
        phase, because = (
            self._alive(service, container) if container.alive else self._idle(service, container)
        )
        return _instance(container, phase, because, live)

    def _replaced(self, service: Service, container: Container) -> tuple[str, tuple[str, ...]]:
        """(why it is to be replaced, the fields that only need recording)."""
        options = self.options
        if container.state == "dead":
            return "it is only half there", ()
        if options.no_recreate:
            return "", ()
        if container.created_at < options.since:
            flag = self._forced(service.name)
            if flag:
                return flag, ()
        image = self.desired.image(service)
        differing = changes.differences(container.digests, self.desired.digests[service.name])
        if "recreate" in differing:
            made = self.observed.made.get(container.name)
            return changes.sentence(differing["recreate"], made, service, (container.image, image)), ()
        known = self.observed.images.get(image)
        if known and container.image_id and known.id != container.image_id:
            return f"image {image} is a newer one", ()
        for network in container.networks:
            if network in self.drifted:
                return f"network {network} changed", ()
        return "", tuple(differing.get("live", ()))

    def _forced(self, service: str) -> str:
        options = self.options
        named = not options.services or service in options.services
        if named:
            if options.force_recreate:
                return "--force-recreate"
            return "--renew-anon-volumes" if options.renew_anon_volumes else ""
        return "--always-recreate-deps" if options.always_recreate_deps else ""

    def _alive(self, service: Service, container: Container) -> tuple[Phase, str]:
        if self.options.no_start:
            return Phase.UP, ""
        if container.kill_at is not None:
            return Phase.AGAIN, "it was being stopped"
        if self.goal.afresh and container.begun_at < self.options.since:
            return Phase.AGAIN, "restart"
        because = self._passed_on(service, container)
        if because:
            return Phase.AGAIN, because
        if service.post_start and "post_start" not in container.hooks:
            return Phase.HOOKS, "started"
        return Phase.UP, ""

    def _passed_on(self, service: Service, container: Container) -> str:
        """Why a dependency with `restart: true` makes this one begin again; "" if it does not."""
        if self.options.no_deps:
            return ""
        for name, dependency in service.depends_on.items():
            if dependency.restart and name in self.found:
                # The first instance stands for all, so that scaling a service up restarts nobody.
                first = next(iter(self.found[name]), None)
                if first and first.phase in (Phase.REPLACE, Phase.AGAIN):
                    return f"{name}: {first.because}"
                begun = first.container.begun_at if first and first.container else 0
                if begun >= self.options.since and begun > container.begun_at:
                    return f"{name} was restarted"
        return ""

    def _idle(self, service: Service, container: Container) -> tuple[Phase, str]:
        """A container that does not run. One-shots that somebody waits for to complete do not run twice."""
        if self.options.no_start:
            return Phase.LEFT, ""
        if self.goal.by_policy:
            starts = container.begun_at < self.options.since and restart.outlives_reboot(container)
            phase = Phase.WAITS if service.on_connect else Phase.START
            return (phase, f"restart: {container.restart.condition}") if starts else (Phase.LEFT, "")
        if container.begun_at and not self.goal.afresh and self._completed(service, container):
            return Phase.DONE, ""
        if container.begun_at and container.begun_at >= self.options.since and not container.stopped:
            return Phase.ENDED, ""
        if self._waits(service, container):
            return Phase.WAITS, "x-start: on-connect"
        return Phase.START, ended(container)

    def _waits(self, service: Service, container: Container) -> bool:
        """Whether it starts with a connection, not now: unless it is needed, was asked for by its name, or
        ran when a restart was asked for.
        """
        if not service.on_connect or service.name in self.needed:
            return False
        if self.goal.afresh and container.finished_at >= self.options.since:
            return False
        return self.goal.creates or not self.options.services

    def _completed(self, service: Service, container: Container) -> bool:
        return (
            self.desired.awaited.get(service.name) == order.STRENGTH[-1]
            and container.state == "exited"
            and container.exit_code == 0
            and not container.stopped
            and container.restart.condition in ("no", "on-failure")
        )


def ended(container: Container) -> str:
    """What became of a container that does not run, for people."""
    if container.state == "created":
        return "created"
    if container.oom:
        return f"out of memory ({container.exit_code})"
    return f"{'stopped' if container.stopped else 'exited'} ({container.exit_code})"


def _instance(container: Container, phase: Phase, because: str = "", live: tuple[str, ...] = ()) -> Instance:
    return Instance(container.slot, container.name, container, phase, because, live)
