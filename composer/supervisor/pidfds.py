"""Processes that can be told from others that got the same number: by their start time."""

from __future__ import annotations

import os
from pathlib import Path

from composer.errors import ComposerError


def identify(pidfd: int) -> tuple[int, int]:
    """The process of a pidfd, pidfd_open(2). Raises ComposerError when it has ended."""
    told = Path(f"/proc/self/fdinfo/{pidfd}").read_text()
    pid = int(dict(line.split(":", 1) for line in told.splitlines()).get("Pid", "-1"))
    started = start_time(pid)
    if started is None:
        raise ComposerError("the process that the stack was to live for has ended")
    return pid, started


def find(process: tuple[int, ...]) -> int:
    """A pidfd for what `identify` told; -1 when it has ended."""
    pid, started = process
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return -1
    if start_time(pid) == started:
        return pidfd
    os.close(pidfd)
    return -1


def start_time(pid: int) -> int | None:
    """In ticks after boot, proc_pid_stat(5); None when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(text.rpartition(")")[2].split()[19])
