"""Pid 1 for programs that cannot be one: it reaps orphans and passes signals on.

No binary is put into the container: the process that made the container stays, with nothing left in it but
this loop. It can be neither traced nor replaced from inside: it is not dumpable, and `protect` keeps its
executable behind a read-only mount.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Collection, Mapping
from typing import Any, NoReturn

from composer.runtime import linux

ANNOTATION = "composer.init"
_CAP_KILL = 1 << 5
# Those that tell of a fault in this process itself are not for others.
_OWN = {signal.SIGCHLD, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT}
_OWN |= {signal.SIGTRAP, signal.SIGSYS, signal.SIGTTIN, signal.SIGTTOU, signal.SIGKILL, signal.SIGSTOP}


def wanted(spec: Mapping[str, Any]) -> bool:
    return (spec.get("annotations") or {}).get(ANNOTATION) == "true"


def run(program: Callable[[], None]) -> None:
    """Fork; return in the child, a session of its own, after `program`. The parent never returns."""
    signals = [number for number in signal.valid_signals() if number not in (signal.SIGKILL, signal.SIGSTOP)]
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    pid, _ = linux.clone(0)
    if pid == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.setsid()
        program()
        return
    _watch(pid, signals)


def _watch(child: int, signals: Collection[int]) -> NoReturn:
    """Until the child ends; then end as it did. Orphans that are left are the kernel's to kill."""
    linux.close_range(0)
    linux.set_name("init")
    linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    linux.capset(_CAP_KILL, _CAP_KILL, 0)
    while True:
        received = signal.sigwaitinfo(signals).si_signo
        if received == signal.SIGCHLD:
            _reap(child)
        elif received not in _OWN:
            try:
                os.kill(child, received)
            except ProcessLookupError:
                pass  # its SIGCHLD is on the way


def _reap(child: int) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == child:
            os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))
        if pid == 0:
            return
