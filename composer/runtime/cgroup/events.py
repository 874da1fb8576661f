"""Waiting for what the kernel tells of a group: cgroup.events, the v1 freezer, memory that ran out."""

from __future__ import annotations

import os
import posixpath
import select
import time

from composer.runtime import linux
from composer.runtime.cgroup.files import CgroupError, keyed, read, write

# How long the kernel may take to freeze, to end or to let go of processes, in seconds.
PATIENCE = 10.0

_NR_INOTIFY_INIT1, _NR_INOTIFY_ADD_WATCH = (26, 27) if linux.ARM else (294, 254)
_IN_MODIFY = 2


def reached(directory: str, event: str, value: int) -> None:
    """Waits for a line of a v2 group's cgroup.events; the kernel signals each change of the file as an
    exceptional state. Raises CgroupError when it takes too long.
    """
    path = f"{directory}/cgroup.events"
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        poller = select.poll()
        poller.register(descriptor, select.POLLPRI)
        deadline = time.monotonic() + PATIENCE
        while keyed(os.pread(descriptor, 4096, 0).decode()).get(event, value) != value:
            left = deadline - time.monotonic()
            if left <= 0:
                raise CgroupError(f"not {event}={value} after {PATIENCE:.0f} s", path=path)
            poller.poll(left * 1000)
    finally:
        os.close(descriptor)


def settled(path: str, text: str) -> None:
    """The v1 freezer tells nobody when it is done, and wants to be told again while processes fork."""
    deadline = time.monotonic() + PATIENCE
    while read(path).strip() != text:
        if time.monotonic() > deadline:
            raise CgroupError(f"not {text.lower()} after {PATIENCE:.0f} s", path=path)
        os.sched_yield()
        write(path, text)


def _eventfd(control: str) -> int:
    """v1: the eventfd is told of each shortage that reaches memory.oom_control."""
    event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    try:
        descriptor = os.open(control, os.O_RDONLY | os.O_CLOEXEC)
        try:
            write(f"{posixpath.dirname(control)}/cgroup.event_control", f"{event} {descriptor}")
        finally:
            os.close(descriptor)
    except OSError:
        os.close(event)
        raise
    return event


def _watch(events: str) -> int:
    """v2: the kernel reports a change of memory.events as a modification of the file."""
    descriptor = linux.syscall(_NR_INOTIFY_INIT1, os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        linux.syscall(_NR_INOTIFY_ADD_WATCH, descriptor, os.fsencode(events), _IN_MODIFY, path=events)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def shortage(path: str) -> int:
    """A descriptor that becomes readable when memory ran out; `path` is memory.oom_control or
    memory.events.
    """
    return _eventfd(path) if path.endswith("oom_control") else _watch(path)
