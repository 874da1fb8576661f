"""The container's terminal: a pair from its own devpts, the other end for whoever watches.

The container owns /dev, so nothing in it is believed: the multiplexer is looked at before it is used, and the
terminal is opened from the master (TIOCGPTPEER), not by a name (CVE-2025-52565, CVE-2016-9962).
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from collections.abc import Mapping
from typing import Any

from composer.runtime import linux
from composer.runtime.errors import StepError
from composer.runtime.inroot import Root, closing, make_file


def open_pair(root: Root, size: Mapping[str, int] | None, user: Mapping[str, Any]) -> tuple[int, int]:
    """(master, terminal), the terminal owned by the user. Raises OSError, StepError."""
    master = root.open("/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
    found = os.fstat(master)
    if linux.filesystem_magic(master) != linux.DEVPTS_SUPER_MAGIC or found.st_rdev != os.makedev(5, 2):
        raise StepError("terminal", errno.ENODEV, "/dev/pts/ptmx", "is not a terminal multiplexer")
    fcntl.ioctl(master, linux.TIOCSPTLCK, struct.pack("i", 0))
    terminal = fcntl.ioctl(master, linux.TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    if size:
        fcntl.ioctl(terminal, linux.TIOCSWINSZ, struct.pack("4H", size["height"], size["width"], 0, 0))
    os.fchown(terminal, user.get("uid", 0), -1)
    return master, terminal


def bind_console(root: Root, terminal: int) -> None:
    """Show the terminal as /dev/console, as pid 1 of a machine would have it. Links are not followed."""
    node = linux.open_tree(terminal, "", linux.OPEN_TREE_CLONE | linux.AT_EMPTY_PATH)
    with closing(node), root.parent("/dev/console") as (directory, name):
        make_file(name, directory)
        with closing(linux.openat2(directory, name, linux.O_PATH | os.O_NOFOLLOW)) as target:
            kind = stat.S_IFMT(os.fstat(target).st_mode)
            if kind not in (stat.S_IFCHR, stat.S_IFREG):
                raise StepError("terminal", errno.EINVAL, "/dev/console", "is neither a device nor a file")
            linux.move_mount(node, target, "/dev/console")


def take(terminal: int) -> None:
    """Make it the controlling terminal and the three standard streams of this session leader."""
    fcntl.ioctl(terminal, linux.TIOCSCTTY, 0)
    for standard in (0, 1, 2):
        os.dup2(terminal, standard)
    os.close(terminal)
