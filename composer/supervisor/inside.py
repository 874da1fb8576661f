"""Into running containers: processes by exec, probes, hooks, signals, the freezer, numbers."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import anyio

from composer.errors import ComposerError, RuntimeStepError
from composer.model.stack import Hook, Service
from composer.plan import actions as act
from composer.plan.health import Check, Health, effective
from composer.runtime import cgroup
from composer.supervisor import probes
from composer.supervisor.faults import exit_code_of, explained
from composer.supervisor.keeperlink import KeeperError
from composer.supervisor.probes import Running
from composer.supervisor.processes import exec_process
from composer.supervisor.world import Live

if TYPE_CHECKING:
    from composer.supervisor.core import Core


LAST_LINES = 5
"""Of what a failing hook printed."""

MOST_TOLD = 4096
"""Characters of a command that events tell."""


class Inside:
    """`watches`: the healthchecks that run. `running`: processes, by the id that the keeper knows."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.watches: dict[str, anyio.CancelScope] = {}
        self.running: dict[str, Running] = {}

    def check(self, live: Live, service: Service) -> Check | None:
        image = self.core.images.find(live.plan.image)
        config = image.config.get("config") or {}
        return None if live.plan.oneoff else effective(service.healthcheck, config)

    def watch_health(self, live: Live, service: Service) -> None:
        """Probe it from now on, if it has a healthcheck."""
        self.stop_watching(live)
        check = self.check(live, service)
        if check is None:
            live.change(health=None)
            return
        if live.plan.health is None:
            live.change(health=Health(began=time.time_ns()))
        scope = anyio.CancelScope()
        self.watches[live.name] = scope

        def changed(what: Live) -> None:
            assert what.plan.health is not None
            self.core.changed(what)
            self.core.tell(f"health_status: {what.plan.health.status}", what)

        async def run() -> None:
            with scope:
                await probes.watch(live, check, self.run_probe, changed)

        self.core.tasks.start_soon(run)

    def stop_watching(self, live: Live) -> None:
        old = self.watches.pop(live.name, None)
        if old is not None:
            old.cancel()

    async def run_probe(self, live: Live, argv: tuple[str, ...], output: int) -> Running:
        fds = {"stdout": output, "stderr": output}
        running, _ = await self.execute(live, {"args": list(argv)}, fds, told=False)
        return running

    async def awake(self, live: Live) -> None:
        """Thaw what only rests. Raises ComposerError for what somebody paused."""
        if live.plan.idle:
            await self.core.gates.wake(live)
        if live.plan.state == "paused":
            raise ComposerError(
                f"container {live.name} is paused", hint=f"`composer unpause {live.plan.slot.service}`"
            )

    async def execute(
        self,
        live: Live,
        wanted: Mapping[str, Any],
        fds: Mapping[str, int],
        *,
        log: bool = False,
        told: bool = True,
    ) -> tuple[Running, dict[str, int]]:
        """Run a process in a container. Raises, with Docker's exit code, when it cannot be started.

        With `log`, the container's log gets what it prints; with `told`, there are events.
        """
        if not live.plan.alive:
            raise ComposerError(f"container {live.name} is not running")
        await self.awake(live)
        number = os.urandom(32).hex()
        identity, command = f"exec-{number}", " ".join(wanted.get("args") or ())[:MOST_TOLD]
        made = exec_process(self.core, live, wanted)
        running = self.running[identity] = Running(0, live, number if told else "")
        if told:
            self.core.tell(f"exec_create: {command}", live, execID=number)
        try:
            answer = await self.core.keeper.call(
                "exec", fds, id=identity, container=live.plan.id, process=made, log=log
            )
        except RuntimeStepError as error:
            del self.running[identity]
            failed = explained(error, live, wanted.get("args") or [])
            failed.exit_code = exit_code_of(error)
            raise failed from error
        except BaseException:
            del self.running[identity]
            raise
        running.pid = answer["pid"]
        if told:
            self.core.tell(f"exec_start: {command}", live, execID=number)
        return running, answer["fds"]

    async def hooks(self, action: act.RunHooks) -> None:
        """Run the post_start hooks, in order; a failing one fails the action."""
        live = self.core.live(action.name)
        for hook in action.hooks:
            try:
                await self.run_hook(live, hook)
            except ComposerError as error:
                live.reason = f"post_start: {error}"
                self.core.changed(live)
                raise
        live.change(hooks=(*live.plan.hooks, "post_start"))

    async def run_hook(self, live: Live, hook: Hook) -> None:
        wanted = {
            "args": list(hook.command),
            "user": hook.user,
            "privileged": hook.privileged,
            "cwd": hook.working_dir,
            "env": [f"{key}={value or ''}" for key, value in hook.environment.items()],
        }
        running, _ = await self.execute(live, wanted, {}, log=True)
        await running.ended.wait()
        if running.code:
            how = f"hook {' '.join(hook.command)!r} in {live.name} ended with {running.code}"
            lines = (line.strip() for line in running.said.strip().splitlines()[-LAST_LINES:])
            said = "; ".join(filter(None, lines))
            raise ComposerError(f"{how}: {said}" if said else how)

    async def signal(self, live: Live, number: int) -> None:
        """Send a signal to its first process; one that has ended is no error."""
        try:
            await self.core.keeper.call("signal", id=live.plan.id, signo=number)
        except KeeperError:
            await self.core.runs.lost(live)
            return
        self.core.tell("kill", live, signal=str(number))

    def pause(self, live: Live, *, thaw: bool) -> None:
        group = self.group(live)
        if thaw:
            group.thaw()
        else:
            group.freeze()
        live.change(state="running" if thaw else "paused")
        service = self.core.containers.known(live)
        if not thaw:
            self.stop_watching(live)  # a probe would be frozen with it, and found to take too long
        elif service is not None:
            self.watch_health(live, service)
        self.core.net.touch()
        self.core.changed(live)
        self.core.tell("unpause" if thaw else "pause", live)

    def group(self, live: Live) -> cgroup.Group:
        service = self.core.containers.known(live)
        parent = (service.cgroup_parent if service else "") or f"/composer/{self.core.name}"
        return cgroup.open(f"/{parent.strip('/')}/{live.plan.id}")

    def stats(self, live: Live) -> dict[str, Any]:
        return dict(self.group(live).stats())

    def pids(self, live: Live) -> list[int]:
        return self.group(live).pids()
