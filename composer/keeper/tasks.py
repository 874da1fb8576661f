"""The processes that the keeper holds, from their making to their end."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from composer.keeper.connection import RefusalError, Request
from composer.keeper.drain import Clock, Stream
from composer.keeper.logfile import Log
from composer.keeper.loop import EXIT, STEP, Loop
from composer.keeper.task import Task
from composer.runtime.create import Overlay, Stages, create
from composer.runtime.enter import enter
from composer.runtime.errors import StepError
from composer.runtime.pending import Pending, Stdio

MOST_STAGES: Final = 4
STAGES_REST: Final = 3.0
"""Seconds without a container to make, until what makes them ends."""


class Tasks:
    """All of them, by id. `on_exit` is told each exit; `on_held` each pidfd before its process may run."""

    def __init__(self, loop: Loop, limit: tuple[int, int]) -> None:
        self._loop = loop
        self._clock = Clock()
        self._limit = limit
        self._making: set[Task] = set()
        self._stages = Stages(max(2, min(os.cpu_count() or 1, MOST_STAGES)))
        self._made_last = 0.0
        self.by_id: dict[str, Task] = {}
        self.by_pid: dict[int, Task] = {}
        self.on_held: Callable[[int], None] = lambda _: None
        self.on_failed: Callable[[], None] = lambda: None
        self.on_exit: Callable[[Task], None] = lambda _: None
        self.on_trouble: Callable[[Task, int, str, int], None] = lambda *_: None

    def create(self, request: Request) -> None:
        message = request.message
        task = Task(message["id"], message["bundle"])
        spec = _spec(task.bundle)
        terminal = spec["process"].get("terminal", False)
        self._limit_descriptors(spec["process"])
        ends: list[int] = []
        try:
            self._open_log(task, **message["log"])
            stdio = Stdio(*(message["fds"].get(name, -1) for name in ("stdin", "stdout", "stderr")))
            if not terminal and not message["fds"]:
                stdio = task.pipes(self._loop, self._clock, ends, stdin=message.get("stdin", False))
            task.pending = self._maker(message.get("runtime", ""))(
                spec,
                task.bundle,
                stdio,
                name=task.id,
                network_sockets=message.get("network_sockets", False),
                overlay=_overlay(message.get("overlay")),
            )
        except BaseException:
            task.release()
            raise
        finally:
            for fd in ends:
                os.close(fd)
        self._expect(task, request)

    def _maker(self, runtime: str) -> Callable[..., Pending]:
        if not runtime:
            return partial(create, stages=self._stages)
        from composer.runtime import foreign

        return partial(foreign.create, runtime)

    def _open_log(
        self, task: Task, *, driver: str = "file", path: str = "", max_size: int = 0, max_file: int = 1
    ) -> None:
        if driver not in ("file", "none"):
            raise RefusalError("request", f"{driver} is no driver of logs here")
        if driver == "file":
            task.log = Log(self._loop, path, max_size, max_file, self._clock.stamp)
            task.log.on_trouble = lambda *trouble: self.on_trouble(task, *trouble)

    def execute(self, request: Request) -> None:
        """The request's descriptors become the new process's; ours are closed with the request."""
        message = request.message
        container = self.by_id.get(message["container"])
        if not container or container.state != "running" or container.container:
            raise RefusalError("state" if container else "absent", f"{message['container']} is not running")
        task = Task(message["id"], container.bundle, container.id)
        self._limit_descriptors(message["process"])
        pidfd, spec, ends = container.fds["pidfd"], _spec(task.bundle), list[int]()
        stdio = Stdio(*(message["fds"].get(name, -1) for name in ("stdin", "stdout", "stderr")))
        try:
            if message.get("log"):
                task.said = bytearray()
                stdio = Stdio(-1, *container.outputs(self._loop, self._clock, ends, task.said))
            task.pending = enter(pidfd, container.pid, message["process"], stdio, spec=spec)
        finally:
            for fd in ends:
                os.close(fd)
        self._expect(task, request)

    def start(self, task: Task, request: Request) -> None:
        if task.state != "created" or not task.pending:
            raise RefusalError("state", f"{task.id} is {task.state}")
        task.state = "starting"
        task.asked = request
        self._making.add(task)
        self._loop.watch(task.channel, STEP, lambda: self._advance(task))
        task.pending.start()

    def signal(self, task: Task, signo: int) -> bool:
        """False when the task has ended."""
        if task.exit or "pidfd" not in task.fds:
            return False
        try:
            signal.pidfd_send_signal(task.fds["pidfd"], signo)
        except ProcessLookupError:
            return False
        return True

    def forget(self, task: Task) -> None:
        """Of a task that has ended, or has yet to begin: that is killed."""
        self.kill(task)
        self._discard(task)

    def kill(self, task: Task) -> None:
        """Of a task in any state."""
        if "pidfd" in task.fds:
            self.signal(task, signal.SIGKILL)
        elif task in self._making:
            self._failed(task, StepError("create", text="given up"))

    @property
    def alive(self) -> list[Task]:
        return [task for task in self.by_id.values() if not task.exit]

    def held(self) -> list[int]:
        return [task.fds["pidfd"] for task in self.alive if "pidfd" in task.fds]

    # --- making

    def _limit_descriptors(self, process: dict[str, Any]) -> None:
        """Ours are many, for many containers; that is no reason to let theirs be as many."""
        limits = process.setdefault("rlimits", [])
        if not any(limit["type"] == "RLIMIT_NOFILE" for limit in limits):
            soft, hard = self._limit
            limits.append({"type": "RLIMIT_NOFILE", "soft": soft, "hard": hard})

    def _expect(self, task: Task, request: Request) -> None:
        """Follow what the runtime tells about the task."""
        assert task.pending
        task.asked = request
        task.channel = task.pending.channel.fileno()
        self.by_id[task.id] = task
        self._making.add(task)
        self._loop.watch(task.channel, STEP, lambda: self._advance(task))

    def _advance(self, task: Task) -> None:
        pending = task.pending
        if task not in self._making or not pending:
            return
        pending.advance()
        if pending.state == "failed":
            self._failed(task, pending.error or StepError("create"))
        elif pending.state == "created":
            self._made(task)
            self._hold(task, pending)
            # Should it end before its start that is an exit like any other, which the pidfd tells.
            task.state = "created"
            self._answer(task, task.named("pidfd", *pending.sockets))
        elif pending.state == "running":
            self._made(task)
            if task.container:
                self._hold(task, pending)
            task.settle()
            task.state = "running"
            self._answer(task, task.named("tty") if task.container else {})
            if task.container:
                task.close("tty")

    def _made(self, task: Task) -> None:
        """The runtime has nothing to tell until it is asked again."""
        self._loop.forget(task.channel)
        self._making.discard(task)
        self._loop.later(0, self.reap)
        self._made_last = time.monotonic()
        self._loop.later(STAGES_REST, self._rest)

    def warm(self) -> None:
        """Be ready for the first one."""
        self._stages.warm()
        self._loop.later(STAGES_REST, self._rest)

    def _rest(self) -> None:
        if not self._making and time.monotonic() - self._made_last >= STAGES_REST:
            self._stages.rest()

    def _hold(self, task: Task, pending: Pending) -> None:
        """Take what the runtime made."""
        task.pid = pending.pid
        task.fds.update(pending.sockets, pidfd=pending.pidfd)
        self.by_pid[task.pid] = task
        self._loop.watch(pending.pidfd, EXIT, lambda: self._wait(task))
        self.on_held(pending.pidfd)
        if pending.console >= 0:
            task.fds["tty"] = pending.console
            if not task.container:
                master = os.dup(pending.console)
                task.streams.append(Stream(self._loop, master, b"stdout", task.log, self._clock))

    def _answer(self, task: Task, fds: dict[str, int]) -> None:
        assert task.asked
        task.asked.answer({"pid": task.pid}, fds)

    def _failed(self, task: Task, error: StepError) -> None:
        """The runtime has killed and reaped it, or shall: nobody is at this end of the channel any more."""
        assert task.asked and task.pending
        self._made(task)
        if "pidfd" not in task.fds:
            for fd in (task.pending.pidfd, task.pending.console, *task.pending.sockets.values()):
                if fd >= 0:
                    os.close(fd)
        task.asked.fail_step(error)
        self._discard(task)
        self.on_failed()

    def _discard(self, task: Task) -> None:
        self.by_id.pop(task.id, None)
        self.by_pid.pop(task.pid, None)
        if "pidfd" in task.fds:
            self._loop.forget(task.fds["pidfd"])
        task.release()

    # --- ending

    def reap(self) -> None:
        """Take the status of children that ended, above all of orphans, which have no pidfd here."""
        while not self._making:  # whose helpers are the runtime's to reap
            try:
                result = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)
            except ChildProcessError:
                return
            if not result:
                return
            task = self.by_pid.get(result.si_pid)
            if task:
                self._exited(task, result)

    def _wait(self, task: Task) -> None:
        if task in self._making:  # ended before its start was heard of, which comes first
            self._loop.forget(task.fds["pidfd"])
            return
        result = os.waitid(os.P_PIDFD, task.fds["pidfd"], os.WEXITED | os.WNOHANG)
        if result:
            self._exited(task, result)

    def _exited(self, task: Task, result: os.waitid_result) -> None:
        how = "code" if result.si_code == os.CLD_EXITED else "signal"
        end: dict[str, Any] = {
            how: result.si_status,
            "time": time.time_ns(),
            "monotonic": time.monotonic_ns(),
        }
        self._loop.forget(task.fds["pidfd"])
        del self.by_pid[task.pid]
        container = self.by_id.get(task.container)
        for stream in container.streams if container and task.said is not None else task.streams:
            stream.finish()
        if task.said is not None:
            end["said"] = task.said.decode(errors="replace")
        # A socket of its network would keep that network alive.
        task.close(*(name for name in task.fds if name != "pidfd"))
        task.exit = end
        task.state = "ended"
        task.settle()
        self.on_exit(task)


def _spec(bundle: str) -> Any:
    with open(f"{bundle}/config.json", "rb") as config:
        return json.load(config)


def _overlay(given: dict[str, Any] | None) -> Overlay | None:
    if given is None:
        return None
    return Overlay(tuple(given["lowers"]), given["upper"], given["work"], tuple(given.get("options", ())))
