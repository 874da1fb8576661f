"""System calls that Python lacks, for the rooms above the runtime.

A leaf: errno in, OSError out, no policy.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os

FICLONE = 0x40049409  # ioctl_ficlone(2)
OPENAT2 = 437  # the same number on every architecture, as for all calls since 2019

NO_MAGICLINKS = 0x02
NO_SYMLINKS = 0x04
IN_ROOT = 0x10

_libc = ctypes.CDLL(None, use_errno=True)


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_in_root(root: int, path: bytes, flags: int, mode: int = 0, *, resolve: int = 0) -> int:
    """openat2(2) with RESOLVE_IN_ROOT: `..`, absolute names and links all stay below the directory `root`.

    Returns a descriptor that is closed on exec. Raises OSError; EAGAIN (a rename elsewhere) is tried again.
    """
    how = _How(flags | os.O_CLOEXEC, mode, IN_ROOT | NO_MAGICLINKS | resolve)
    for _ in range(64):
        result: int = _libc.syscall(OPENAT2, root, path, ctypes.byref(how), ctypes.sizeof(how))
        if result >= 0:
            return result
        error = ctypes.get_errno()
        if error not in (11, 4):  # EAGAIN, EINTR
            break
    raise OSError(error, os.strerror(error), os.fsdecode(path))


def syncfs(descriptor: int) -> None:
    """syncfs(2): everything written to the file system of `descriptor` is on the disk afterwards."""
    if _libc.syncfs(descriptor) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def copy_content(source: int, target: int) -> None:
    """All content of a regular file into an empty one: shared where the file system can do that (FICLONE),
    else copied, and holes stay holes where it tells of them."""
    try:
        fcntl.ioctl(target, FICLONE, source)
        return
    except OSError as error:
        if error.errno not in _NO_CLONE:
            raise
    size = os.fstat(source).st_size
    if not size:  # as those of /proc say
        while os.sendfile(target, source, None, 1 << 30):
            pass
        return
    at = 0
    while at < size:
        try:
            start = os.lseek(source, at, os.SEEK_DATA)
            end = os.lseek(source, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break
            start, end = at, size
        os.lseek(target, start, os.SEEK_SET)
        while start < end:
            sent = os.sendfile(target, source, start, end - start)
            if not sent:
                break
            start += sent
        at = end
    os.ftruncate(target, size)


_NO_CLONE = (
    errno.EOPNOTSUPP,
    errno.EXDEV,
    errno.EINVAL,
    errno.ENOTTY,
    errno.ENOSYS,
    errno.EPERM,
    errno.ETXTBSY,
)


def mount(source: str, target: os.PathLike[str], kind: str, flags: int, data: str) -> None:
    """mount(2)."""
    arguments = (
        os.fsencode(source),
        os.fsencode(target),
        kind.encode(),
        ctypes.c_ulong(flags),
        data.encode() or None,
    )
    if _libc.mount(*arguments) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), source)


def setns(descriptor: int, kind: int) -> None:
    """setns(2): this thread is in another namespace from now on."""
    if _libc.setns(descriptor, kind) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def unmount(target: os.PathLike[str]) -> None:
    """umount2(2), lazily and without following a link. What is no mount point is left alone."""
    if _libc.umount2(os.fsencode(target), 2 | 8) != 0:  # MNT_DETACH | UMOUNT_NOFOLLOW
        error = ctypes.get_errno()
        if error not in (22, 2):  # EINVAL, ENOENT: not mounted
            raise OSError(error, os.strerror(error), os.fspath(target))
