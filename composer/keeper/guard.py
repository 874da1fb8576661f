"""A process that outlives the keeper by a millisecond: when the keeper dies, it kills what the keeper held.

PR_SET_PDEATHSIG would be lost as soon as an entrypoint changes its user before it executes the real program,
as those of most databases do. The guard is forked when the keeper knows next to nothing, to cost as little,
hence the imports: `signal` and `socket` are three times as much as all the rest.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _socket
import os
import select
import sys

_FD_SIZE = 4


def fork_guard() -> tuple[_socket.socket, int]:
    """Start a guard: the socket to send it pidfds through, one at a time, and its pid.

    It lets go of everything else, above all of the lock that says that a keeper lives.
    """
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid:
        theirs.close()
        return ours, pid
    try:
        os.closerange(3, theirs.fileno())
        os.closerange(theirs.fileno() + 1, 1 << 20)
        _signal.set_wakeup_fd(-1)
        for signo in (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP):
            _signal.signal(signo, _signal.SIG_IGN)
        with open("/proc/self/comm", "w") as comm:
            comm.write("composer-guard")
        _watch(theirs)
    finally:
        os._exit(0)


def _watch(keeper: _socket.socket) -> None:
    """Hold what comes until it has ended; kill it when the keeper has."""
    held: set[int] = set()
    poll = select.epoll()
    poll.register(keeper.fileno(), select.EPOLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd != keeper.fileno():
                poll.unregister(fd)  # closing would not do: the keeper has the same open file
                held.discard(fd)
                os.close(fd)
                continue
            data, ancillary, _, _ = keeper.recvmsg(1, _socket.CMSG_SPACE(_FD_SIZE))
            for _, _, payload in ancillary:
                pidfd = int.from_bytes(payload[:_FD_SIZE], sys.byteorder)
                held.add(pidfd)
                poll.register(pidfd, select.EPOLLIN)
            if not data:
                for pidfd in held:
                    _kill(pidfd)
                return


def _kill(pidfd: int) -> None:
    try:
        _signal.pidfd_send_signal(pidfd, _signal.SIGKILL)
    except ProcessLookupError:
        pass
