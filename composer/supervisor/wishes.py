"""Wishes for the stack: taken, judged, carried out by the loop, and what becomes of them told.

What a wish does is the plan's matter. Here is what it is about, whether it can be, and who hears of it.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Any

import anyio

from composer import offline
from composer.bundle import possible
from composer.errors import UsageError
from composer.model.stack import FrozenMap, Stack
from composer.plan.actions import Action
from composer.plan.options import GOALS, Options
from composer.plan.partition import select
from composer.plan.predict import simulate
from composer.plan.prepare import BUILT_IN
from composer.supervisor.api import Handler, Request
from composer.supervisor.core import Core
from composer.supervisor.desires import files_of, options_of, stack_of
from composer.supervisor.facts import host_facts
from composer.supervisor.forecast import told
from composer.supervisor.furnish import check_account
from composer.supervisor.groups import limit
from composer.supervisor.images import check_platform
from composer.supervisor.logdrivers import check as check_logging
from composer.supervisor.loop import Operation
from composer.supervisor.ready import Awaited, readiness, state, why_not
from composer.supervisor.words import UNTOLD, progress


class Wishes:
    """Handlers of the door by verb."""

    def __init__(self, core: Core) -> None:
        self.core = core

    def verbs(self) -> dict[str, Handler]:
        return {"apply": self.apply, "predict": self.predict}

    async def apply(self, request: Request) -> dict[str, Any]:
        core, options = self.core, self.wanted(request)
        offline.go(bool(request.fields.get("offline")))
        self.check_possible(options)
        if "owner" in request.fds:
            core.owner.take(request.fds["owner"])
        core.loop.parallel = max(int(request.fields.get("parallel") or 0), 0)
        frames: list[dict[str, Any]] = []
        told: set[str] = set()
        arrived = anyio.Event()

        def report(action: Action, phase: str, text: str) -> None:
            if phase not in UNTOLD.get(type(action), ()):
                tell(progress(action, phase, text))

        def tell(frame: dict[str, Any]) -> None:
            frames.append(frame)
            told.add(frame["id"])
            arrived.set()

        begins = GOALS[options.goal].target == "running"
        operation = Operation(options, report, tell, Awaited(core, tell).look if begins else None)
        core.images.report = tell
        core.loop.submit(operation)
        failures: list[list[str]] = []
        async with anyio.create_task_group() as tasks:

            async def relay() -> None:
                nonlocal arrived
                while True:
                    await arrived.wait()
                    arrived = anyio.Event()
                    while frames:
                        await request.send(progress=frames[0])
                        frames.pop(0)  # not before: what a cancelled send did not send is sent below

            async def stop_halfway() -> None:
                """Who wanted things to run has left (Ctrl-C): what is done stays, and no more is begun."""
                await request.closed.wait()
                core.loop.abandon(operation)
                await operation.finished.wait()
                tasks.cancel_scope.cancel()

            tasks.start_soon(relay)
            if begins:
                tasks.start_soon(stop_halfway)
            await operation.finished.wait()
            failures = [[entry.instance, entry.reason] for entry in operation.failures]
            if operation.superseded:
                failures.append(["this command", f"was ended by `{operation.superseded}`"])
            self.tell_left_alone(operation, told)
            if request.fields.get("wait") and not failures:
                failures = await self.until_ready(request, options)
            tasks.cancel_scope.cancel()
        for frame in frames:
            await request.send(progress=frame)
        left = core.world.containers or core.loop.queue or core.loop.operation
        if options.goal == "down" and not (failures or options.services or left):
            await core.containers.await_discards()
            core.forget_stack(volumes=options.volumes)
        core.unsaved = True
        await core.settle()
        self.tell_moved(options)
        notices, core.notices = core.notices, []
        return {"failures": failures, "notices": notices}

    def tell_left_alone(self, operation: Operation, told: Collection[str]) -> None:
        """What runs as `up` wants it without anything having been done: nobody is to wonder about silence."""
        core, options = self.core, operation.options
        if options.goal != "up" or operation.superseded or core.loop.desired is None:
            return
        chosen = select(core.loop.desired, core.world.observed(), options).chosen
        lives = [x for x in core.world.containers.values() if x.plan.alive and not x.plan.oneoff]
        names = {f"Container {live.name}" for live in lives if live.plan.slot.service in chosen}
        for name in sorted(names.difference(told)):
            operation.tell({"id": name, "text": "Running", "state": "done"})

    def tell_moved(self, options: Options) -> None:
        """After an `up`: which tags mean another image by now; and have it found out for the next time.

        Layers that it brought here reach the disk while nobody waits.
        """
        from composer.supervisor import tags

        if options.goal == "up":
            self.core.images.settle()
            self.core.notices += tags.moved(self.core)
            if not offline.is_offline():
                self.core.tasks.start_soon(tags.ask, self.core)

    def wanted(self, request: Request) -> Options:
        """The options of a request, and the stack they are about."""
        core = self.core
        options = options_of(request.fields.get("options") or {})
        since = request.fields.get("since")
        if isinstance(since, int):
            options = options.replace(since=min(since, options.since))
        origin = request.fields.get("origin") or {}
        if "stack" in request.fds:
            data = stack_of(request.fds)
            try:
                if self.of_others(options, origin):
                    options = self.named(core.parse(data), options)
                    core.look()
                else:
                    self.tell_move(origin)
                    core.desire(data, request.text("digest"), origin)
            except (UsageError, ValueError):
                if GOALS[options.goal].target == "running":
                    raise
                core.look()  # who wants an end need not be understood in all: what is known here ends
        elif core.loop.desired is None:
            core.take(Stack(core.name, FrozenMap()))
        elif options.goal == "down":
            core.take(core.stack.replace(inactive=()))  # who speaks of no files means all there is
        else:
            core.look()
        if GOALS[options.goal].target == "running":
            limit(core.name, core.stack.limits, core.before.limits)
        if options.goal == "up":
            core.notices += core.volumes.drift(core.stack.volumes.values())
        return options

    def of_others(self, options: Options, origin: Mapping[str, Any]) -> bool:
        """Whether a wish comes with other files than the stack was brought up from, and makes nothing.

        Then it is about what its files name; what the stack is to be stays as it was.
        """
        core = self.core
        known = core.loop.desired is not None and core.record["working_dir"]
        return bool(known and not GOALS[options.goal].creates and files_of(origin) != files_of(core.record))

    def named(self, stack: Stack, options: Options) -> Options:
        """`options`, for those services alone that the files of `stack` have; for all, if they have all."""
        if (
            options.services
            or options.remove_orphans
            or self.core.stack.services.keys() <= stack.services.keys()
        ):
            return options
        return options.replace(services=tuple(stack.services) or ("",), no_deps=True)

    def tell_move(self, origin: Mapping[str, Any]) -> None:
        """Whoever takes over what runs, by its name, should know."""
        core = self.core
        before, now = files_of(core.record)[:1], files_of(origin)[:1]
        if core.record["working_dir"] and core.world.containers and before != now:
            core.notice(f"stack {core.name} was brought up from {before[0]} before")

    def check_possible(self, options: Options) -> None:
        """Before anything of the stack was touched. Raises ConflictError for a taken port, ComposerError for
        what no container can have.
        """
        core = self.core
        assert core.loop.desired is not None
        if GOALS[options.goal].target == "running":
            chosen = select(core.loop.desired, core.world.observed(), options).chosen
            services = [core.stack.services[name] for name in sorted(chosen)]
            for service in services:
                check_logging(service)
                possible.check(core.stack, service, host_facts())
                reference = core.loop.desired.image(service)
                check_platform(service, reference)
                if reference in BUILT_IN or "never" in (options.pull, service.pull_policy):
                    check_account(core, service, core.images.known.get(reference))
            if not options.no_start:
                core.net.ports.check(services)

    async def predict(self, request: Request) -> dict[str, Any]:
        """What `apply` would do; the stack that is desired stays as it was."""
        core = self.core
        before, desired = core.stack, core.loop.desired
        options = options_of(request.fields.get("options") or {})
        try:
            if "stack" in request.fds:
                stack = core.parse(stack_of(request.fds))
                if self.of_others(options, request.fields.get("origin") or {}):
                    options = self.named(stack, options)
                else:
                    core.take(stack)
            assert core.loop.desired is not None
            actions = simulate(core.loop.desired, core.world.observed(), options, time.time_ns())
        finally:
            core.stack, core.loop.desired = before, desired
        return {"actions": told(actions)}

    async def until_ready(self, request: Request, options: Options) -> list[list[str]]:
        """Wait until every selected container runs and is healthy, or has done its work. Failures, named."""
        core = self.core
        limit = request.fields.get("wait_timeout")
        assert core.loop.desired is not None
        services = select(core.loop.desired, core.world.observed(), options).chosen
        with anyio.move_on_after(float(limit) if limit else None):
            while True:
                lives = [
                    live
                    for live in core.world.containers.values()
                    if live.plan.slot.service in services and not live.plan.oneoff
                ]
                states = {live.name: readiness(live) for live in lives}
                for live in lives:
                    await request.send(progress=state(live, states[live.name]))
                if "failed" in states.values():
                    return [[x.name, why_not(x)] for x in lives if states[x.name] == "failed"]
                if all(state == "ready" for state in states.values()):
                    return []
                await core.pulse()
        return [[live.name, f"not ready after {limit} s"] for live in lives if readiness(live) == "pending"]
