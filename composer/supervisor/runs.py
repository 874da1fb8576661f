"""Runs of containers: begun, asked to stop, ended, taken up again after a crash.

Each method does one thing that a plan or a person asked for and changes the live container accordingly; when
and why is decided elsewhere.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import anyio

from composer.bundle import process
from composer.errors import ComposerError, RuntimeStepError
from composer.model.stack import Service
from composer.plan import actions as act
from composer.plan.health import Health
from composer.supervisor.faults import NOT_STARTED, exit_code_of, explained
from composer.supervisor.furnish import furnish
from composer.supervisor.groups import clear
from composer.supervisor.keeperlink import KeeperError
from composer.supervisor.logdrivers import forwarder, log_settings
from composer.supervisor.names import OWN_NETWORK
from composer.supervisor.world import Live

if TYPE_CHECKING:
    from composer.supervisor.core import Core


class Runs:
    """Works on the live containers of one core."""

    def __init__(self, core: Core) -> None:
        self.core = core

    async def start(self, name: str) -> None:
        """Begin it on purpose."""
        await self.launch(self.core.live(name), restarts=0, tries=0, backoff=0, begun_at=time.time_ns())

    async def restart(self, action: act.RestartContainer) -> None:
        """Begin it again by its policy."""
        live = self.core.live(action.name)
        counters = {"restarts": action.restarts, "tries": action.tries, "backoff": action.backoff}
        await self.launch(live, **counters)

    async def launch(self, live: Live, **fields: Any) -> None:
        """From bundle to running process. On failure nothing of it runs, and its exit code says why."""
        service = self.core.containers.service_of(live)
        live.starting = True
        try:
            await self._launch(live, service)
        except RuntimeStepError as error:
            told = explained(error, live)
            await self.give_up(live, exit_code_of(error), str(told))
            raise told from error
        except ComposerError as error:
            await self.give_up(live, NOT_STARTED, str(error))
            raise
        finally:
            live.starting = False
        self.started(live, service, fields)
        parked = live.take_parked()
        if parked is not None:
            self.ended(parked)

    def started(self, live: Live, service: Service, fields: Mapping[str, Any]) -> None:
        """Its program runs."""
        began = "begun_at" in fields
        hooks = tuple(kind for kind in live.plan.hooks if kind == "pre_start" or not began)
        live.change(
            **fields,
            state="running",
            started_at=time.time_ns(),
            finished_at=0,
            exit_code=0,
            oom=False,
            stopped=False,
            again=False,
            kill_at=None,
            health=Health(began=time.time_ns()) if self.core.inside.check(live, service) else None,
            hooks=hooks,
        )
        live.reason = ""
        self.core.inside.watch_health(live, service)
        self.core.net.touch()
        self.core.tell("start", live)
        if live.plan.gated:
            self.core.tasks.start_soon(self.core.gates.wake, live)

    async def _launch(self, live: Live, service: Service) -> None:
        core = self.core
        if core.forgettable:
            await core.settle()  # its last end is recorded and forgotten before it begins again
        image = core.images.find(live.plan.image)
        places = await core.net.places(live, core.net.wanted(live, service))
        live.networks = core.net.expected(places)
        binding = None if live.plan.standby else core.net.binding(live)
        exposed = process.exposed(image.config.get("config") or {})
        live.ports = await core.net.ports.reserve(live, service, binding, exposed)
        _, overlay = furnish(core, live, service, image)
        bundle = core.here.container_run(live.name)
        began = time.time_ns()
        answer = await core.keeper.call(
            "create",
            live.stdio,
            id=live.plan.id,
            bundle=str(bundle),
            overlay=overlay,
            log={"driver": "none"} if live.stdio else log_options(core, live, service),
            stdin=service.stdin_open and not service.tty,
            network_sockets=service.network_mode in OWN_NETWORK,
            **({"runtime": service.runtime} if service.runtime else {}),
        )
        fds: dict[str, int] = answer["fds"]
        live.pid = answer["pid"]
        live.forwarder = forwarder(core, live, service, began)
        try:
            if "netlink" in fds:
                core.net.connect(live, fds.pop("netlink"), places, service)
                core.net.names.translate(fds.pop("nfnetlink"), fds["dns-udp"], fds["dns-tcp"])
                core.net.names.answer(live, service, fds.pop("dns-udp"), fds.pop("dns-tcp"))
        finally:
            for descriptor in fds.values():
                os.close(descriptor)
        await core.net.open(live)
        await core.keeper.call("start", id=live.plan.id)

    async def give_up(self, live: Live, code: int, reason: str) -> None:
        """A start failed: whatever exists of it goes."""
        live.reason = reason
        self.core.net.forget(live)
        live.stop_forwarding()
        live.pid, live.parked = 0, None
        try:
            await self.core.keeper.call("forget", id=live.plan.id)
        except ComposerError:
            pass
        self.sweep(live)
        live.change(exit_code=code)

    async def stop(self, action: act.StopContainer) -> None:
        """Run its pre_stop hooks and send its stop signal; the kill, if need be, is the plan's next step.

        One that retires first lets the connections end that it has, for as long as it may take to stop.
        """
        live = self.core.live(action.name)
        grace = live.grace if action.grace is None else action.grace
        if live.plan.retired and live.networks:
            from composer.supervisor.handover import drained

            await drained(self.core, live, grace)
        live.change(stopped=not action.again, again=action.again)
        if action.again:
            live.change(tries=action.tries)
        if not live.plan.alive:  # it was about to be restarted by its policy, or by a connection
            self.core.containers.ungate(live)
            self.tell_stopped(live)
            return
        if live.plan.state == "paused":
            self.core.inside.pause(live, thaw=True)
        for hook in action.hooks:
            try:
                await self.core.inside.run_hook(live, hook)
            except ComposerError as error:
                self.core.notice(str(error))
        live.change(kill_at=time.time_ns() + grace, patience=grace)
        await self.core.inside.signal(live, process.signal_number(action.signal or live.stop_signal))

    async def kill(self, name: str) -> None:
        live = self.core.live(name)
        if live.plan.stopped and live.plan.kill_at is not None:
            live.reason = (
                f"killed: it did not end within {live.plan.patience / 1e9:g} s of {live.stop_signal}; "
                "`init: true` or another `stop_signal` may help"
            )
            if live.plan.patience:  # who gives it no time is not told that it needs some
                self.core.notice(f"{live.name} was {live.reason}")
        await self.core.inside.signal(live, signal.SIGKILL)
        with anyio.move_on_after(10):
            while live.plan.alive:
                await self.core.pulse()

    def ended(self, message: Mapping[str, Any]) -> None:
        """A process ended: a container's first one, or one that was run in a container."""
        code = message["code"] if "code" in message else 128 + message["signal"]
        running = self.core.inside.running.pop(message["id"], None)
        if running is not None:
            running.code, running.said = code, message.get("said", "")
            running.ended.set()
            if running.id:
                self.core.tell("exec_die", running.live, execID=running.id, exitCode=str(code))
            return
        live = self.core.world.by_id(message["id"])
        if live is not None and live.starting:
            live.parked = dict(message)
        elif live is not None:
            self.exited(live, code, message)

    async def lost(self, live: Live) -> None:
        """The keeper says that it does not run (any more): see what became of it."""
        listing = await self.core.keeper.call("list")
        exits = {entry["id"]: entry.get("exit") for entry in listing["containers"]}
        message = exits.get(live.plan.id) or {"code": 137, "time": time.time_ns()}
        if live.plan.alive and not live.starting:
            self.exited(live, exit_of(message), message)

    def exited(self, live: Live, code: int, message: Mapping[str, Any]) -> None:
        group = self.core.inside.group(live)
        oom = group.oom_kills() > 0 if group.exists() else False
        if not live.reason.startswith("killed"):
            live.reason = ""  # of its start: why it ended is another matter
        if oom and code == 137:
            live.reason = "out of memory: killed by the kernel at its memory limit"
        elif "signal" in message and not live.reason:
            how = "asked to stop" if live.plan.stopped else "not by composer"
            live.reason = f"ended by {signal.Signals(message['signal']).name} ({how})"
        live.change(
            state="exited", exit_code=code, finished_at=message["time"], oom=oom, kill_at=None, health=None
        )
        live.pid = 0
        self.tell_stopped(live)
        self.core.inside.stop_watching(live)
        self.core.net.forget(live)
        live.stop_forwarding()
        self.sweep(live)
        self.core.forgettable.add(live.plan.id)
        self.core.tell("die", live, exitCode=str(code), **({"reason": live.reason} if live.reason else {}))
        self.core.changed(live)
        if live.remove_after:
            self.core.tasks.start_soon(self.core.oneoff.discard, live)

    def tell_stopped(self, live: Live) -> None:
        """The end of what a StopContainer began, for who waits for it."""
        operation = self.core.loop.operation
        if operation is not None and live.plan.stopped:
            operation.tell({"id": f"Container {live.name}", "text": "Stopped", "state": "done"})

    def sweep(self, live: Live) -> None:
        """Its cgroup goes with it."""
        try:
            clear(self.core.inside.group(live))
        except ComposerError as error:
            self.core.notice(str(error))

    async def adopt(self, live: Live, entry: Mapping[str, Any] | None) -> None:
        """Take up a recorded container; `entry` is what the keeper knows of it."""
        if entry is None:
            if live.plan.alive:
                live.change(state="exited", exit_code=137, finished_at=time.time_ns(), health=None)
                live.reason, live.pid = "its keeper went down", 0
            self.sweep(live)
            return
        live.pid = entry["pid"]
        if entry.get("exit"):
            self.exited(live, exit_of(entry["exit"]), entry["exit"])
            return
        if entry["state"] != "running":
            await self.discard(live.plan.id)
            return
        service = self.core.containers.known(live)
        if not live.plan.alive:
            live.change(state="running", started_at=time.time_ns(), finished_at=0)
            if service is not None:  # what its start found out was not recorded any more
                places = await self.core.net.places(live, self.core.net.wanted(live, service))
                live.networks = self.core.net.expected(places)
        if service.network_mode in OWN_NETWORK if service else live.networks:
            fds = {}
            for name in ("dns-udp", "dns-tcp"):
                answer = await self.core.keeper.call("take", name=f"{live.plan.id}/{name}")
                fds[name] = next(iter(answer["fds"].values()))
            self.core.net.names.answer(live, service, fds["dns-udp"], fds["dns-tcp"])
        if service is not None:
            live.forwarder = forwarder(self.core, live, service, live.plan.started_at)
            if live.plan.state == "running":
                self.core.inside.watch_health(live, service)

    async def discard(self, identity: str) -> None:
        """Something the keeper has and nobody recorded, or that never began."""
        try:
            await self.core.keeper.call("signal", id=identity, signo=signal.SIGKILL)
        except KeeperError:
            pass
        self.core.forgettable.add(identity)


def log_options(core: Core, live: Live, service: Service) -> dict[str, Any]:
    return {"path": str(core.here.log(live.name)), **log_settings(service, core.stack)}


def exit_of(exit: Mapping[str, Any]) -> int:
    return int(exit["code"]) if "code" in exit else 128 + int(exit["signal"])
