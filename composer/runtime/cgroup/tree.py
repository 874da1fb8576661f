"""Directories of one hierarchy and the processes in them: made, listed, moved, ended, removed."""

from __future__ import annotations

import errno
import os
import posixpath
import select
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
    for file in ("cpuset.cpus", "cpuset.mems"):
        if not read(f"{directory}/{file}").strip():
            parent = posixpath.dirname(directory)
            inherit_cpuset(parent)
            write(f"{directory}/{file}", read(f"{parent}/{file}"))


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


def move(path: str, pid: int) -> None:
    try:
        write(path, str(pid))
    except OSError as error:
        raise failed(f"moving process {pid or os.getpid()}", error, path) from None


def end(directory: str) -> None:
    """Kills what is in a v1 group and waits for it, by pidfd."""
    deadline = time.monotonic() + PATIENCE
    while left := [pid for group in walk(directory) for pid in members(group)]:
        if time.monotonic() > deadline:
            raise CgroupError(f"processes survive being killed: {left}", path=directory)
        for pid in left:
            _end_one(pid, deadline)


def _end_one(pid: int, deadline: float) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        os.kill(pid, 9)
        poller.poll(max(deadline - time.monotonic(), 0) * 1000)
    except ProcessLookupError:
        pass
    finally:
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
        if inside := members(directory):
            raise CgroupError(f"the group still holds processes: {inside}", path=directory)
        if unified and os.path.isdir(unified):
            reached(unified, "populated", 0)
        os.sched_yield()
