"""The interpreter behind a read-only mount, so that no container can write to the host's through /proc.

A container may execute /proc/self/exe, or look at that of a process of ours that is inside; whoever can open
the file for writing has the host (CVE-2019-5736). A process that was started from `interpreter` shows a file
on a mount that is read-only and attached nowhere: there is no way to write to it, whatever rights one has.
"""

from __future__ import annotations

import os
import sys

from composer.runtime import linux


def interpreter() -> int:
    """A descriptor to execute instead of sys.executable: `os.execve(fd, [sys.executable, …], environment)`.

    Needs CAP_SYS_ADMIN. Raises OSError.
    """
    path = os.path.realpath(sys.executable)
    mount = linux.open_tree(linux.AT_FDCWD, path, linux.OPEN_TREE_CLONE)
    linux.mount_setattr(mount, on=linux.MOUNT_ATTR_RDONLY, propagation=linux.MS_PRIVATE, path=path)
    return mount


def protected() -> bool:
    """Whether this process was started from a read-only mount."""
    return bool(os.statvfs("/proc/self/exe").f_flag & os.ST_RDONLY)
