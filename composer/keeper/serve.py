"""The keeper put together."""

from __future__ import annotations

import gc
import os
import resource
import signal
import socket

from composer.keeper import API_FD, KEEPER_FD
from composer.keeper.guard import Guard
from composer.keeper.loop import EXIT, Loop
from composer.keeper.server import Server
from composer.keeper.supervise import Supervisor
from composer.keeper.tasks import Tasks
from composer.runtime import linux


def serve(run: str, command: list[str], pid: int, guard: Guard) -> None:
    """Keep, until told to end. `pid` is the supervisor's, already started by `command`."""
    linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)
    with open("/proc/self/comm", "w") as comm:
        comm.write("composer-keeper")
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit[1], limit[1]))

    loop = Loop()
    tasks = Tasks(loop, guard.add, limit)
    guard.attend(loop, tasks.held)
    supervisor = Supervisor(loop, command, API_FD, pid)

    def reap() -> None:
        os.read(ends, 4096)
        tasks.reap()

    ends = _children_ends()
    loop.watch(ends, EXIT, reap)
    listener = socket.socket(fileno=KEEPER_FD)

    def close_sockets() -> None:
        for name in ("keeper.sock", "api.sock"):
            try:
                os.unlink(os.path.join(run, name))
            except FileNotFoundError:
                pass
        listener.close()
        os.close(API_FD)

    Server(loop, listener, tasks, supervisor, close_sockets)
    gc.collect()
    gc.freeze()  # what is forked from here on shares these pages for good
    loop.run()


def _children_ends() -> int:
    """A descriptor that is readable when a child has ended. From now on polite signals do nothing."""
    ours, theirs = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(theirs, warn_on_full_buffer=False)
    # Handlers, since what is ignored would be ignored in the containers, too.
    for signo in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signo, lambda *_: None)
    return ours
