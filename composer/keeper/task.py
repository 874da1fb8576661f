"""One process that the keeper holds, a container or what was executed in one, and all that is open for it."""

from __future__ import annotations

import fcntl
import os
from typing import Any, Final

from composer.keeper.connection import Request
from composer.keeper.drain import Clock, Stream
from composer.keeper.logfile import Log
from composer.keeper.loop import Loop
from composer.runtime.pending import Pending, Stdio

PIPE_SIZE: Final = 1 << 20


class Task:
    """A container (`container` is empty) or an exec in one. Owns every descriptor that it knows."""

    __slots__ = (
        *("asked", "bundle", "channel", "container", "exit", "fds"),
        *("id", "log", "pending", "pid", "said", "state", "streams"),
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
        """pidfd, stdin (the write end), tty (the master), and the network's sockets by their names"""
        self.log: Log | None = None
        self.said: bytearray | None = None
        """Of an exec that prints into the log of its container, whose streams those are: the end of it."""
        self.streams: list[Stream] = []
        self.pending: Pending | None = None
        self.channel = -1
        """The number of the pending's descriptor."""
        self.asked: Request | None = None
        """Who waits for the next state; for an exec, who asked for it."""

    def shown(self) -> dict[str, Any]:
        """As `list` tells it."""
        kind = "exec" if self.container else "container"
        shown: dict[str, Any] = {"id": self.id, "kind": kind, "pid": self.pid, "state": self.state}
        if self.container:
            shown["container"] = self.container
        if self.exit:
            shown["exit"] = self.exit
        return shown

    def named(self, *names: str) -> dict[str, int]:
        return {name: fd for name, fd in self.fds.items() if name in names}

    def close(self, *names: str) -> None:
        """Close descriptors, by name."""
        for name in names:
            if name in self.fds:
                os.close(self.fds.pop(name))

    def settle(self) -> None:
        """The runtime is done with it."""
        if self.pending:
            self.pending.close()
            self.pending = None

    def release(self) -> None:
        """Close everything. Nothing of it is watched any more, but for its streams."""
        self.settle()
        for stream in self.streams:
            stream.close()
        if self.log:
            self.log.close()
        self.close(*self.fds)

    def pipes(self, loop: Loop, clock: Clock, ends: list[int], *, stdin: bool) -> Stdio:
        """Make its standard streams. Their other ends go into `ends`, too, to be closed after the fork."""
        standard_input = -1
        if stdin:
            standard_input, self.fds["stdin"] = os.pipe()
            ends.append(standard_input)
        return Stdio(standard_input, *(self.outputs(loop, clock, ends) if self.log else (-1, -1)))

    def outputs(
        self, loop: Loop, clock: Clock, ends: list[int], said: bytearray | None = None
    ) -> tuple[int, ...]:
        """Two more streams into its log, or to nowhere without one. Their write ends go into `ends`, too."""
        self.streams = [stream for stream in self.streams if stream.fd >= 0]
        found = []
        for name in (b"stdout", b"stderr"):
            ours, end = os.pipe()
            found.append(end)
            ends.append(end)
            self.streams.append(Stream(loop, ours, name, self.log, clock, said))
            try:
                fcntl.fcntl(ours, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
            except OSError:  # over the user's share of pipes: it stays as it is
                pass
        return tuple(found)
