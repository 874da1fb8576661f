"""inotify(7): being told that files changed. A leaf; the standard library has no such thing."""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path
from typing import Final

from composer.errors import ComposerError

MODIFY: Final = 0x2
ATTRIB: Final = 0x4
CLOSE_WRITE: Final = 0x8
MOVED_FROM: Final = 0x40
MOVED_TO: Final = 0x80
CREATE: Final = 0x100
DELETE: Final = 0x200
DELETE_SELF: Final = 0x400
MOVE_SELF: Final = 0x800
OVERFLOW: Final = 0x4000
IGNORED: Final = 0x8000
"""The watch is gone: asked for, or because what was watched is."""
ONLYDIR: Final = 0x1000000
ISDIR: Final = 0x40000000

_HEAD = struct.Struct("iIII")
_libc = ctypes.CDLL(None, use_errno=True)


class Inotify:
    """Poll it for reading, then `take`. The kernel merges what is not taken, and says OVERFLOW in the end."""

    def __init__(self) -> None:
        """Raises ComposerError when the kernel gives this user no more of them."""
        self._fd: int = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._fd < 0:
            raise ComposerError(
                f"cannot watch files: {os.strerror(ctypes.get_errno())}",
                hint="raise the limit: `sysctl fs.inotify.max_user_instances=1024`",
            )

    def fileno(self) -> int:
        return self._fd

    def watch(self, path: Path, events: int) -> int:
        """A number for the watch, which the events carry. Raises OSError."""
        number: int = _libc.inotify_add_watch(self._fd, os.fsencode(path), ctypes.c_uint32(events))
        if number < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
        return number

    def forget(self, number: int) -> None:
        """End a watch; one that ended by itself is no error."""
        _libc.inotify_rm_watch(self._fd, number)

    def take(self) -> list[tuple[int, int, str]]:
        """(watch, events, name) of what happened since; name is empty for the watched thing itself."""
        try:
            data = os.read(self._fd, 1 << 16)
        except BlockingIOError:
            return []
        found, at = [], 0
        while at < len(data):
            watch, events, _, size = _HEAD.unpack_from(data, at)
            name = data[at + _HEAD.size : at + _HEAD.size + size].rstrip(b"\0")
            found.append((watch, events, os.fsdecode(name)))
            at += _HEAD.size + size
        return found

    def close(self) -> None:
        os.close(self._fd)

    def __enter__(self) -> Inotify:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
