"""The keeper put together."""

from __future__ import annotations

import array
import gc
import os
import signal
import socket
from collections.abc import Callable, Iterable

from composer.keeper import API_FD, KEEPER_FD
from composer.keeper.guard import fork_guard
from composer.keeper.loop import EXIT, Loop
from composer.keeper.server import Server
from composer.keeper.supervise import Supervisor
from composer.keeper.tasks import Tasks
from composer.runtime import linux


def serve(run: str, command: list[str], pid: int, guard: tuple[int, int], limit: tuple[int, int]) -> None:
    """Keep, until told to end.

    `pid` is the supervisor's, already started by `command`; `guard` the socket and the pid of the guard;
    `limit` the number of descriptors that containers may have by default.
    """
    linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)
    with open("/proc/self/comm", "w") as comm:
        comm.write("composer-keeper")
    loop = Loop()
    tasks = Tasks(loop, limit)
    guarding = Guard(loop, *guard, tasks.held)
    tasks.on_held = guarding.add
    supervisor = Supervisor(loop, command, API_FD, pid)
    ends = _children_ends()

    def reap() -> None:
        os.read(ends, 4096)
        tasks.reap()

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
    tasks.warm()
    loop.run()
    guarding.end()


class Guard:
    """The keeper's side of the guard, which is replaced when it dies, and told of all that `held` gives."""

    def __init__(self, loop: Loop, fd: int, pid: int, held: Callable[[], Iterable[int]]) -> None:
        self._loop = loop
        self._held = held
        self._attend(fd, pid)

    def _attend(self, fd: int, pid: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(False)
        self._pid = pid
        self._loop.watch(fd, EXIT, self._replace)

    def end(self) -> None:
        """Nothing is left to guard."""
        self._socket.close()
        try:
            os.waitpid(self._pid, 0)
        except ChildProcessError:
            pass

    def _replace(self) -> None:
        self._loop.forget(self._socket.fileno())
        self._socket.close()
        guard, pid = fork_guard()
        self._attend(guard.detach(), pid)
        for pidfd in self._held():
            self.add(pidfd)

    def add(self, pidfd: int) -> None:
        """Kill this process, too, should the keeper die."""
        try:
            self._socket.sendmsg([b"+"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [pidfd]))])
        except BlockingIOError:  # it does not listen: the next one will
            os.kill(self._pid, signal.SIGKILL)
        except OSError:  # it has just died: the next one is given everything
            pass


def _children_ends() -> int:
    """A descriptor that is readable when a child has ended. From now on polite signals do nothing."""
    ours, theirs = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(theirs, warn_on_full_buffer=False)
    # Handlers, since what is ignored would be ignored in the containers, too.
    for signo in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signo, lambda *_: None)
    return ours
