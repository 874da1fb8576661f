"""A stack that lives as long as a process: that of a test run, which may end in any way.

The process is held by a pidfd. The record knows it by number and start time, so that a supervisor that begins
anew, or a later command, tells it from another that got the same number.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import anyio

from composer.model.stack import FrozenMap, Stack
from composer.plan.options import Options
from composer.supervisor.loop import Operation
from composer.supervisor.pidfds import find, identify

if TYPE_CHECKING:
    from composer.supervisor.core import Core


class Owner:
    """`process` is its number and its start time in ticks after boot; () when there is no owner."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.process: tuple[int, ...] = ()
        self.watch = anyio.CancelScope()

    def take(self, pidfd: int) -> None:
        """From now on the stack lives as long as this process. The descriptor stays the caller's."""
        self.process = identify(pidfd)
        self._follow(os.dup(pidfd))

    def recover(self, process: tuple[int, ...]) -> None:
        """Take up again what the record says."""
        if process:
            self.process = process
            self._follow(find(process))

    def forget(self) -> None:
        """The stack is down."""
        self.process = ()
        self.watch.cancel()

    def _follow(self, pidfd: int) -> None:
        """-1 stands for a process that has ended."""
        self.watch.cancel()
        self.watch = anyio.CancelScope()
        self.core.record["owner"] = list(self.process)
        self.core.unsaved = True
        self.core.tasks.start_soon(self._wait, pidfd, self.watch)

    async def _wait(self, pidfd: int, scope: anyio.CancelScope) -> None:
        try:
            with scope:
                if pidfd >= 0:
                    await anyio.wait_readable(pidfd)
        finally:
            if pidfd >= 0:
                os.close(pidfd)
        if not scope.cancelled_caught:
            await self._end()

    async def _end(self) -> None:
        """Everything goes: nobody is left who could want it."""
        core = self.core
        core.take((core.stack if core.loop.desired else Stack(core.name, FrozenMap())).replace(inactive=()))
        wish = Options("down", since=time.time_ns(), remove_orphans=True, volumes=True, timeout=0)
        operation = Operation(wish, lambda *_: None, lambda frame: None)
        core.loop.submit(operation)
        await operation.finished.wait()
        for entry in operation.failures:
            core.notice(f"{entry.instance} could not be taken down: {entry.reason}")
        if not operation.failures:
            await core.containers.await_discards()
            core.forget_stack(volumes=True)
        await core.settle()
        if core.idle:
            await core.leave()
