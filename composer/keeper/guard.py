"""A process that outlives the keeper by a millisecond: when the keeper dies, it kills what the keeper held.

PR_SET_PDEATHSIG would be lost as soon as an entrypoint changes its user before it executes the real program,
as those of most databases do. The guard is a fork of the keeper, taken while that is small.
"""

from __future__ import annotations

import array
import os
import select
import signal
import socket
from collections.abc import Callable, Iterable

from composer.keeper.loop import EXIT, Loop


class Guard:
    """The keeper's side. Dying alone it is replaced, with every pidfd that `held` then gives."""

    def __init__(self) -> None:
        self._socket, self.pid = _fork()

    def attend(self, loop: Loop, held: Callable[[], Iterable[int]]) -> None:
        """Replace the guard whenever it dies."""

        def again() -> None:
            loop.forget(self._socket.fileno())
            self._socket.close()
            self._socket, self.pid = _fork()
            for pidfd in held():
                self.add(pidfd)
            self.attend(loop, held)

        loop.watch(self._socket.fileno(), EXIT, again)

    def add(self, pidfd: int) -> None:
        """Kill this process, too, when the keeper dies."""
        try:
            self._socket.sendmsg([b"+"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [pidfd]))])
        except OSError:  # it has just died: the next guard is given everything
            pass


def _fork() -> tuple[socket.socket, int]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid:
        theirs.close()
        return ours, pid
    try:
        _stand(theirs.fileno())
        _watch(theirs)
    finally:
        os._exit(0)


def _stand(kept: int) -> None:
    """Let go of everything of the keeper's, above all its lock, and of polite signals."""
    os.closerange(3, kept)
    os.closerange(kept + 1, 1 << 20)
    for signo in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signo, signal.SIG_IGN)
    signal.set_wakeup_fd(-1)
    with open("/proc/self/comm", "w") as comm:
        comm.write("composer-guard")


def _watch(keeper: socket.socket) -> None:
    held: set[int] = set()
    poll = select.epoll()
    poll.register(keeper, select.EPOLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd != keeper.fileno():
                held.discard(fd)
                os.close(fd)  # which takes it out of the epoll as well
                continue
            data, fds, _, _ = socket.recv_fds(keeper, 1, 1)
            for pidfd in fds:
                held.add(pidfd)
                poll.register(pidfd, select.EPOLLIN)
            if not data:
                for pidfd in held:
                    _kill(pidfd)
                return


def _kill(pidfd: int) -> None:
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        pass
