"""The processes that the keeper holds: containers, and what was executed in them."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any, Final

from composer.keeper.connection import RefusalError, Request
from composer.keeper.drain import Clock, Stream
from composer.keeper.logfile import Log
from composer.keeper.loop import EXIT, STEP, Loop
from composer.runtime.create import Overlay, create
from composer.runtime.enter import enter
from composer.runtime.errors import StepError
from composer.runtime.pending import Pending, Stdio

PIPE_SIZE: Final = 1 << 20


class Task:
    """A container (`container` is empty) or an exec in one."""

    __slots__ = (
        "asked",
        "bundle",
        "channel",
        "container",
        "exit",
        "fds",
        "id",
        "log",
        "pending",
        "pid",
        "state",
        "streams",
    )

    def __init__(self, name: str, bundle: str, container: str = "") -> None:
        self.id = name
        self.bundle = bundle
        self.container = container
        self.state = "creating"
        """creating, created, starting, running, ended"""
        self.pid = 0
        self.exit: dict[str, Any] | None = None
        self.fds: dict[str, int] = {}
        """pidfd, stdin (the write end), tty (the master), and the network sockets by their names"""
        self.log: Log | None = None
        self.streams: list[Stream] = []
        self.pending: Pending | None = None
        self.channel = -1
        self.asked: Request | None = None
        """Whoever waits for the next state; for an exec, whoever asked for it."""

    def close(self, *names: str) -> None:
        """Close descriptors by name; all of them without any."""
        for name in names or tuple(self.fds):
            if name in self.fds:
                os.close(self.fds.pop(name))


class Tasks:
    """All of them, by id. `on_exit` is told each exit; `on_held` each pidfd before its process may run."""

    def __init__(self, loop: Loop, limit: tuple[int, int]) -> None:
        self._loop = loop
        self._clock = Clock()
        self._limit = limit
        self._making: set[Task] = set()
        self.by_id: dict[str, Task] = {}
        self.by_pid: dict[int, Task] = {}
        self.on_held: Callable[[int], None] = lambda _: None
        self.on_exit: Callable[[Task], None] = lambda _: None
        self.on_trouble: Callable[[Task, int, str, int], None] = lambda *_: None

    def create(self, request: Request) -> None:
        message = request.message
        task = Task(message["id"], message["bundle"])
        spec = self._spec(task.bundle)
        if not any(limit["type"] == "RLIMIT_NOFILE" for limit in spec["process"].get("rlimits", ())):
            # Ours is raised, for many descriptors of many containers; that is no reason to raise theirs.
            soft, hard = self._limit
            spec["process"].setdefault("rlimits", []).append(
                {"type": "RLIMIT_NOFILE", "soft": soft, "hard": hard}
            )
        self._open_log(task, **message["log"])
        ends: list[int] = []
        try:
            stdio = self._stdio(
                task, ends, terminal=spec["process"].get("terminal", False), stdin=message.get("stdin", False)
            )
            task.pending = create(
                spec,
                task.bundle,
                stdio,
                network_sockets=message.get("network_sockets", False),
                overlay=_overlay(message.get("overlay")),
            )
        except BaseException:
            self._discard(task)
            raise
        finally:
            for fd in ends:
                os.close(fd)
        self._expect(task, request)

    def _open_log(
        self, task: Task, *, driver: str = "file", path: str = "", max_size: int = 0, max_file: int = 1
    ) -> None:
        if driver == "file":
            task.log = Log(self._loop, path, max_size, max_file, self._clock.stamp)
            task.log.on_trouble = lambda *trouble: self.on_trouble(task, *trouble)

    def execute(self, request: Request) -> None:
        """Descriptors of the request are used for the new process, and are closed by the caller."""
        message = request.message
        container = self.by_id.get(message["container"])
        if not container or container.state != "running" or container.container:
            raise RefusalError("state" if container else "absent", f"{message['container']} is not running")
        task = Task(message["id"], container.bundle, container.id)
        given = message["fds"]
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            stdio = Stdio(*(given.get(name, null) for name in ("stdin", "stdout", "stderr")))
            task.pending = enter(
                container.fds["pidfd"], container.pid, message["process"], stdio, spec=self._spec(task.bundle)
            )
        finally:
            os.close(null)
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
        """Of an ended task."""
        del self.by_id[task.id]
        self._discard(task)

    @property
    def alive(self) -> list[Task]:
        return [task for task in self.by_id.values() if not task.exit]

    def held(self) -> list[int]:
        return [task.fds["pidfd"] for task in self.alive if "pidfd" in task.fds]

    # --- making

    @staticmethod
    def _spec(bundle: str) -> Any:
        with open(f"{bundle}/config.json", "rb") as config:
            return json.load(config)

    def _stdio(self, task: Task, ends: list[int], *, terminal: bool, stdin: bool | None) -> Stdio:
        """The container's ends, also put in `ends` to be closed after the fork; our ends go into the task."""
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        ends.append(null)
        if terminal:
            return Stdio(null, null, null)
        standard_input = null
        if stdin:
            standard_input, task.fds["stdin"] = os.pipe()
            ends.append(standard_input)
        if not task.log:
            return Stdio(standard_input, null, null)
        outputs = []
        for name in (b"stdout", b"stderr"):
            ours, theirs = os.pipe()
            ends.append(theirs)
            outputs.append(theirs)
            task.streams.append(Stream(self._loop, ours, name, task.log, self._clock))
            try:
                fcntl.fcntl(ours, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
            except OSError:  # over the user's share of pipes: it stays as it is
                pass
        return Stdio(standard_input, outputs[0], outputs[1])

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
            self._answer(task, {n: fd for n, fd in task.fds.items() if n not in ("stdin", "tty")})
        elif pending.state == "running":
            self._made(task)
            if task.container:
                self._hold(task, pending)
            pending.channel.close()
            task.pending = None
            task.state = "running"
            if task.container:
                self._answer(task, {n: fd for n, fd in task.fds.items() if n == "tty"})
                task.close("tty")
            else:
                self._answer(task, {})

    def _made(self, task: Task) -> None:
        """The runtime has nothing to tell until it is asked again."""
        self._loop.forget(task.channel)
        self._making.discard(task)
        self._loop.later(0, self.reap)

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
        """The runtime has killed and reaped it."""
        assert task.asked and task.pending
        self._made(task)
        task.pending.channel.close()
        if "pidfd" not in task.fds:
            for fd in (task.pending.pidfd, task.pending.console, *task.pending.sockets.values()):
                if fd >= 0:
                    os.close(fd)
        self.by_pid.pop(task.pid, None)
        del self.by_id[task.id]
        task.asked.fail_step(error)
        self._discard(task)

    def _discard(self, task: Task) -> None:
        for stream in task.streams:
            stream.close()
        if task.log:
            task.log.close()
        if "pidfd" in task.fds:
            self._loop.forget(task.fds["pidfd"])
        task.close()

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
        result = os.waitid(os.P_PIDFD, task.fds["pidfd"], os.WEXITED | os.WNOHANG)
        if result:
            self._exited(task, result)

    def _exited(self, task: Task, result: os.waitid_result) -> None:
        how = "code" if result.si_code == os.CLD_EXITED else "signal"
        end = {how: result.si_status, "time": time.time_ns(), "monotonic": time.monotonic_ns()}
        self._loop.forget(task.fds["pidfd"])
        del self.by_pid[task.pid]
        for stream in task.streams:
            stream.finish()
        # A socket of its network would keep that network alive.
        task.close(*(name for name in task.fds if name != "pidfd"))
        task.exit = end
        task.state = "ended"
        if task.pending:
            task.pending.channel.close()
            task.pending = None
        self.on_exit(task)


def _overlay(given: dict[str, Any] | None) -> Overlay | None:
    if given is None:
        return None
    return Overlay(tuple(given["lowers"]), given["upper"], given["work"], tuple(given.get("options", ())))
