"""The keeper's entry: the supervisor first, everything else while that imports."""

from __future__ import annotations

import os
import resource
import sys

from composer.keeper import API_FD, KEEPER_FD, LIFE_FD
from composer.keeper.guard import fork_guard
from composer.keeper.spawn import spawn


def main() -> None:
    """Arguments: the run directory, and the supervisor's command line."""
    run, *command = sys.argv[1:]
    for fd in (LIFE_FD, KEEPER_FD, API_FD):
        os.set_inheritable(fd, False)
    os.chdir("/")
    os.umask(0o022)
    try:
        pid = spawn(command, API_FD)
    except OSError as error:
        sys.exit(f"keeper: {command[0]} cannot be started: {error.strerror}")
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit[1], limit[1]))
    guard, guard_pid = fork_guard()

    from composer.keeper.serve import serve

    serve(run, command, pid, (guard.detach(), guard_pid), limit)
    os._exit(0)  # nothing is left but memory, and `down` waits
