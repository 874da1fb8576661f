"""Directories of one hierarchy and the processes in them: made, listed, moved, ended, removed."""

from __future__ import annotations

import errno
import os
import posixpath
import select
import signal
import time
from collections.abc import Iterator

from composer.runtime.cgroup.events import PATIENCE, reached
from composer.runtime.cgroup.files import CgroupError, failed, read, write


def make(directory: str) -> bool:
    """Whether the directory is new. Missing ones above it are made as well."""
    try:
        os.mkdir(directory)
    except FileExistsError:
        return False
    except FileNotFoundError:
        make(posixpath.dirname(directory))
        return make(directory)
    except OSError as error:
        raise failed("making the group", error, directory) from None
    return True


def inherit_cpuset(directory: str) -> None:
    """A new v1 cpuset has no processors and no memory, and refuses processes until it has."""
    parent = posixpath.dirname(directory)
    for file in ("cpuset.cpus", "cpuset.mems"):
        if read(f"{directory}/{file}").strip():
            continue
        above = read(f"{parent}/{file}")
        if not above.strip():
            inherit_cpuset(parent)
            above = read(f"{parent}/{file}")
        write(f"{directory}/{file}", above)


def walk(directory: str) -> Iterator[str]:
    """The group and all below it, parents first."""
    yield directory
    try:
        with os.scandir(directory) as entries:
            below = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return
    for path in below:
        yield from walk(path)


def members(directory: str) -> list[int]:
    try:
        return [int(pid) for pid in read(f"{directory}/cgroup.procs").split()]
    except FileNotFoundError:
        return []
    except OSError as error:
        if error.errno == errno.ENODEV:  # Removed while it was read.
            return []
        if error.errno == errno.EOPNOTSUPP:  # A threaded group: its processes are listed by the one above.
            return []
        raise failed("reading", error, directory) from None


def inside(directory: str) -> list[int]:
    """The processes in the group and below."""
    return [pid for group in walk(directory) for pid in members(group)]


def move(path: str, pid: int) -> None:
    try:
        write(path, str(pid))
    except OSError as error:
        raise failed(f"moving process {pid or os.getpid()}", error, path) from None


def end(directory: str) -> None:
    """Kills what is in the group and below, and waits for it. Raises CgroupError for what survives."""
    deadline = time.monotonic() + PATIENCE
    while left := inside(directory):
        if time.monotonic() > deadline:
            raise CgroupError(f"processes survive being killed: {left}", path=directory)
        _end_all(directory, left, deadline)


def _end_all(directory: str, pids: list[int], deadline: float) -> None:
    descriptors: dict[int, int] = {}
    try:
        for pid in pids:
            try:
                descriptors[pid] = os.pidfd_open(pid)
            except ProcessLookupError:
                pass
        # A number that is still listed after it was opened was not given to another process in between.
        for pid in set(inside(directory)) & set(descriptors):
            try:
                signal.pidfd_send_signal(descriptors[pid], signal.SIGKILL)
            except ProcessLookupError:
                continue
            poller = select.poll()
            poller.register(descriptors[pid], select.POLLIN)
            poller.poll(max(deadline - time.monotonic(), 0) * 1000)
    finally:
        for descriptor in descriptors.values():
            os.close(descriptor)


def remove(directory: str, unified: str | None) -> None:
    """Removes one group without children. The kernel may still hold it a moment for a process that was
    reaped already: `unified` is where it tells that this is over; a v1 hierarchy alone cannot tell.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            os.rmdir(directory)
            return
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise failed("removing", error, directory) from None
        if left := members(directory):
            raise CgroupError(f"the group still holds processes: {left}", path=directory)
        if unified and os.path.isdir(unified):
            reached(unified, "populated", 0)
        os.sched_yield()
