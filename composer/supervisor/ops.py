"""What the verbs of the door do. Each handler is a few calls on the core."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from functools import partial
from signal import SIGKILL
from typing import Any

import anyio

from composer import offline
from composer.bundle import possible
from composer.bundle.process import signal_number
from composer.errors import ComposerError, ConflictError, NotFoundError, UsageError
from composer.model.digest import from_json
from composer.model.stack import Attachment, FrozenMap, Stack
from composer.plan.actions import Action, StopContainer
from composer.plan.options import GOALS, Options
from composer.plan.partition import select
from composer.plan.predict import simulate
from composer.supervisor import switch
from composer.supervisor.api import Handler, Request
from composer.supervisor.channel import close_all
from composer.supervisor.core import Core
from composer.supervisor.desires import options_of
from composer.supervisor.facts import host_facts
from composer.supervisor.faults import NOT_STARTED
from composer.supervisor.forecast import told
from composer.supervisor.groups import limit, stack_group
from composer.supervisor.logdrivers import check as check_logging
from composer.supervisor.loop import Operation
from composer.supervisor.ready import Awaited, readiness, state, why_not
from composer.supervisor.words import LASTING, progress
from composer.supervisor.world import Live


class Ops:
    """Handlers by verb."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.taking = anyio.Lock()
        """Held while a snapshot is made or gone back to."""

    def verbs(self) -> dict[str, Handler]:
        return {
            "apply": self.apply,
            "predict": self.predict,
            "exec": self.exec,
            "run": self.run,
            "begin": self.begin,
            "attach": self.attach,
            "signal": self.signal,
            "pause": self.pause,
            "events": self.events,
            "wait": self.wait,
            "stats": self.stats,
            "top": self.top,
            "network": self.network,
            "snapshot": self.snapshot,
            "fault": self.fault,
            "clear": self.clear,
            "settle": self.settle,
            "reached": self.reached,
            "end": self.end,
            "quit": self.quit,
        }

    async def apply(self, request: Request) -> dict[str, Any]:
        core, options = self.core, self.wanted(request)
        offline.go(bool(request.fields.get("offline")))
        self.check_possible(options)
        if "owner" in request.fds:
            core.owner.take(request.fds["owner"])
        core.loop.parallel = max(int(request.fields.get("parallel") or 0), 0)
        frames: list[dict[str, Any]] = []
        arrived = anyio.Event()

        def report(action: Action, phase: str, text: str) -> None:
            if phase != "done" or not isinstance(action, LASTING):
                tell(progress(action, phase, text))

        def tell(frame: dict[str, Any]) -> None:
            frames.append(frame)
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

    def tell_moved(self, options: Options) -> None:
        """After an `up`: which tags mean another image by now; and have it found out for the next time."""
        from composer.supervisor import tags

        if options.goal == "up":
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
            data = self.stack_of(request)
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

    @staticmethod
    def stack_of(request: Request) -> bytes:
        with os.fdopen(os.dup(request.fds["stack"]), "rb") as file:
            return file.read()

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
            if not options.no_start:
                core.net.ports.check(services)

    async def predict(self, request: Request) -> dict[str, Any]:
        """What `apply` would do; the stack that is desired stays as it was."""
        core = self.core
        before, desired = core.stack, core.loop.desired
        options = options_of(request.fields.get("options") or {})
        try:
            if "stack" in request.fds:
                stack = core.parse(self.stack_of(request))
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

    async def exec(self, request: Request) -> dict[str, Any]:
        live = self.core.live(request.text("container"))
        running, fds = await self.core.inside.execute(live, request.fields["process"], request.fds)
        await request.channel.send({"id": request.number, "event": {"pid": running.pid}}, fds)
        for descriptor in fds.values():
            os.close(descriptor)
        if request.fields["process"].get("detach"):
            return {"exit": 0}
        await running.ended.wait()
        return {"exit": running.code}

    async def run(self, request: Request) -> dict[str, Any]:
        """Make a one-off once what it needs is there."""
        core, fields = self.core, request.fields
        offline.go(bool(fields.get("offline")))
        if "stack" in request.fds:
            core.desire(self.stack_of(request), request.text("digest"), fields.get("origin") or {})
        service = core.service(request.text("service"))

        def tell(frame: dict[str, Any]) -> None:
            core.tasks.start_soon(partial(request.send, progress=frame))

        core.images.report = tell
        await core.oneoff.prepare(service, pull=request.text("pull", ""), build=bool(fields.get("build")))
        if not fields.get("no_deps"):
            await core.oneoff.await_dependencies(service, tell)
        live = await core.oneoff.create_oneoff(service, fields.get("overrides") or {})
        live.remove_after = bool(fields.get("remove"))
        await core.settle()
        return {"container": live.name, "id": live.plan.id}

    async def begin(self, request: Request) -> dict[str, Any]:
        """Start a one-off, with the descriptors stdin, stdout, stderr if given, and wait for its end."""
        live = self.core.live(request.text("container"))
        live.stdio, fds = request.fds, {}
        try:
            await self.core.containers.start(live.name)
            if live.tty or (live.stdin and not live.stdio):
                fds = (await self.core.keeper.call("stream", id=live.plan.id))["fds"]
        except ComposerError as error:
            error.exit_code = live.plan.exit_code or NOT_STARTED
            if live.remove_after:
                await self.core.oneoff.discard(live)
            raise
        finally:
            # Ours must not keep a reader waiting for the end of what the container has closed.
            close_all(request.fds)
            request.fds, live.stdio = {}, {}
        self.core.changed(live)
        await self.core.settle()
        await request.channel.send({"id": request.number, "event": {"pid": live.pid}}, fds)
        close_all(fds)
        if request.fields.get("detach"):
            return {}
        code = await self.end_of([live])
        while live.remove_after and live.name in self.core.world.containers:
            await self.core.pulse()
        return {"exit": code}

    async def end_of(self, lives: list[Live]) -> int:
        while all(live.plan.alive for live in lives):
            await self.core.pulse()
        return next(live.plan.exit_code for live in lives if not live.plan.alive)

    async def attach(self, request: Request) -> dict[str, Any]:
        """Who only rests is woken. With `input`, a descriptor leads to what it reads."""
        live = self.core.live(request.text("container"))
        await self.core.inside.awake(live)
        if request.fields.get("input"):
            request.answer_fds = (await self.core.keeper.call("stream", id=live.plan.id))["fds"]
        return {}

    async def signal(self, request: Request) -> dict[str, Any]:
        """What is killed, or sent its stop signal, by a person stays down, as with Docker."""
        number = int(request.fields["signo"])
        for name in request.fields.get("containers") or ():
            live = self.core.live(name)
            if number in (SIGKILL, signal_number(live.stop_signal)):
                live.change(stopped=True)
            if live.plan.idle:
                await self.core.gates.wake(live)
            await self.core.inside.signal(live, number)
        return {}

    async def pause(self, request: Request) -> dict[str, Any]:
        """Freeze at once, or with `after` once nobody has used it for so long; or thaw."""
        thaw, after = bool(request.fields.get("thaw")), int(request.fields.get("after") or 0)
        for name in request.fields.get("containers") or ():
            live = self.core.live(name)
            if after:
                self.core.gates.used(live)
                live.change(idle_after=after, used_at=time.time_ns())
                self.core.changed(live)
                continue
            live.change(idle_after=0)
            if live.plan.idle or (thaw and live.plan.gated):
                await self.core.gates.wake(live)
            if thaw == (live.plan.state == "paused"):
                self.core.inside.pause(live, thaw=thaw)
        return {}

    async def events(self, request: Request) -> dict[str, Any]:
        """Until the client is gone."""
        sending, receiving = anyio.create_memory_object_stream[dict[str, Any]](1000)

        def hear(event: dict[str, Any]) -> None:
            try:
                sending.send_nowait(event)
            except anyio.WouldBlock:
                request.closed.set()  # a listener that does not listen is let go

        self.core.events.listeners.append(hear)
        try:
            await request.send(event=None)
            async with anyio.create_task_group() as tasks:

                async def relay() -> None:
                    async for event in receiving:
                        await request.send(event=event)

                tasks.start_soon(relay)
                await request.closed.wait()
                tasks.cancel_scope.cancel()
        finally:
            self.core.events.listeners.remove(hear)
            sending.close()
            receiving.close()
        return {}

    async def wait(self, request: Request) -> dict[str, Any]:
        lives = [self.core.live(name) for name in request.fields.get("containers") or ()]
        if not lives:
            raise NotFoundError("no containers to wait for")
        if request.fields.get("all"):
            while any(live.plan.alive for live in lives):
                await self.core.pulse()
        code = await self.end_of(lives)
        ended = next(live for live in lives if not live.plan.alive)
        return {"container": ended.name, "exit": code}

    async def stats(self, request: Request) -> dict[str, Any]:
        lives = [live for live in self.core.world.containers.values() if live.plan.alive]
        group = stack_group(self.core.name)
        total = dict(group.stats()) if group.exists() else {}
        stats = {x.name: self.core.inside.stats(x) for x in lives}
        return {"time": time.time_ns(), "stats": stats, "total": total}

    async def top(self, request: Request) -> dict[str, Any]:
        lives = [live for live in self.core.world.containers.values() if live.plan.alive]
        return {"pids": {live.name: self.core.inside.pids(live) for live in lives}}

    async def network(self, request: Request) -> dict[str, Any]:
        live, network = self.core.live(request.text("container")), request.text("network")
        if request.fields.get("connect"):
            wanted = from_json(Attachment, request.fields.get("attachment") or {})
            await switch.connect(self.core, live, network, wanted)
        else:
            await switch.disconnect(self.core, live, network)
        await self.core.settle()
        return {}

    async def fault(self, request: Request) -> dict[str, Any]:
        """Disturb the stack, until the client is gone or the time is over."""
        return await self.core.faulty().inject(request)

    async def clear(self, request: Request) -> dict[str, Any]:
        return await self.core.faulty().clear(request)

    async def snapshot(self, request: Request) -> dict[str, Any]:
        """Keep a point of the stack, or go back to one."""
        from composer.supervisor import snapshots

        core, fields = self.core, request.fields
        name, services = request.text("name"), list(fields.get("services") or ())

        def tell(frame: dict[str, Any]) -> None:
            core.tasks.start_soon(partial(request.send, progress=frame))

        async with self.taking:
            if fields.get("restore"):
                stack = request.text("stack", core.name)
                answer = await snapshots.restore(core, stack, name, services, tell)
            else:
                answer = await snapshots.create(core, name, services, fields.get("grace"), tell)
        if fields.get("wait") and answer["services"] and not answer["failures"]:
            options = Options("start", services=tuple(answer["services"]), no_deps=True)
            answer["failures"] = await self.until_ready(request, options)
        core.unsaved = True
        await core.settle()
        answer["notices"], core.notices = core.notices, []
        return answer

    async def reached(self, request: Request) -> dict[str, Any]:
        return self.core.net.reached()

    async def settle(self, request: Request) -> dict[str, Any]:
        loop = self.core.loop
        while request.fields.get("wishes") and (wish := loop.operation or next(iter(loop.queue), None)):
            await wish.finished.wait()
        await self.core.settle()
        return {}

    async def end(self, request: Request) -> dict[str, Any]:
        core, timeout = self.core, request.fields.get("timeout")
        live = core.live(request.text("container"))
        if not live.plan.oneoff:
            raise ConflictError(f"container {live.name} is one of its service's", hint="`composer stop`")
        if live.plan.alive:
            slot, grace = live.plan.slot, None if timeout is None else int(timeout)
            await core.containers.stop(StopContainer("asked for", slot, live.name, True, grace=grace))
            core.loop.wake()
            await self.end_of([live])
        if request.fields.get("remove") and live.name in core.world.containers:
            await core.oneoff.discard(live)
        await core.settle()
        return {}

    async def quit(self, request: Request) -> dict[str, Any]:
        if not self.core.idle:
            raise ComposerError("the stack still runs")
        self.core.tasks.start_soon(self.core.leave)
        return {}


def files_of(origin: Mapping[str, Any]) -> tuple[str, ...]:
    """The folder and the files that a stack is of, however they are written."""
    folder = origin.get("working_dir") or ""
    files = (file if file == "-" else os.path.join(folder, file) for file in origin.get("files") or ())
    return tuple(file if file == "-" else os.path.realpath(file) for file in (folder, *files))
