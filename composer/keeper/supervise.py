"""Keeping the supervisor running."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Final

from composer.keeper.loop import EXIT, Loop, complain
from composer.keeper.spawn import spawn

STEADY: Final = 10.0
"""A supervisor that lived this many seconds failed for a new reason: the next start is immediate again."""
LONGEST_PAUSE: Final = 5.0
PATIENCE: Final = 6
"""After so many failures in a row a keeper without containers ends: there is nothing to keep."""


class Supervisor:
    """The running supervisor, started again whenever it ends, until `release`."""

    def __init__(self, loop: Loop, command: list[str], api: int, pid: int) -> None:
        self._loop = loop
        self._command = command
        self._api = api
        self._failures = 0
        self._started = time.monotonic()
        self._done: Callable[[], None] | None = None
        self.pid = pid
        """0 between two."""
        self.starts = 1
        self.on_start: Callable[[], None] = lambda: None
        self.on_despair: Callable[[], None] = lambda: None
        self._attend()

    def _attend(self) -> None:
        pidfd = os.pidfd_open(self.pid)

        def over() -> None:
            self._loop.forget(pidfd)
            try:
                os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
            except ChildProcessError:  # reaped with the orphans
                pass
            os.close(pidfd)
            self._ended()

        self._loop.watch(pidfd, EXIT, over)

    def _ended(self) -> None:
        self.pid = 0
        if self._done:
            self._done()
            return
        if time.monotonic() - self._started > STEADY:
            self._failures = 0
        pause = min(0.1 * 2**self._failures, LONGEST_PAUSE) if self._failures else 0.0
        self._failures += 1
        if self._failures >= PATIENCE:
            self.on_despair()
        self._loop.later(pause, self._start)

    def _start(self) -> None:
        if self._done:
            return
        self._started = time.monotonic()
        self.starts += 1
        try:
            self.pid = spawn(self._command, self._api)
        except OSError as error:
            complain(f"{self._command[0]} cannot be started: {error.strerror}")
            self._ended()
        else:
            self._attend()
            self.on_start()

    def release(self, done: Callable[[], None], *, patience: float, politely: bool) -> None:
        """Do not start it again; call `done` when it is gone. Killed after `patience` seconds."""
        self._done = done
        if not self.pid:
            done()
            return
        if politely:
            os.kill(self.pid, signal.SIGTERM)
        self._loop.later(patience, lambda: os.kill(self.pid, signal.SIGKILL) if self.pid else None)
