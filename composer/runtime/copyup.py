"""Fill a new directory with a copy of another one, by descriptors: `tmpcopyup`."""

from __future__ import annotations

import os
import stat

from composer.runtime.inroot import closing

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def copy_tree(source: int, target: int) -> None:
    """Directories, files and links with their modes and owners; devices, sockets and fifos are left out."""
    found = os.fstat(source)
    os.fchown(target, found.st_uid, found.st_gid)
    os.fchmod(target, stat.S_IMODE(found.st_mode))
    with os.scandir(source) as entries:
        for entry in entries:
            if entry.is_symlink():
                os.symlink(os.readlink(entry.name, dir_fd=source), entry.name, dir_fd=target)
                owner = entry.stat(follow_symlinks=False)
                os.chown(entry.name, owner.st_uid, owner.st_gid, dir_fd=target, follow_symlinks=False)
            elif entry.is_dir(follow_symlinks=False):
                os.mkdir(entry.name, dir_fd=target)
                with (
                    closing(os.open(entry.name, _OPEN_DIRECTORY, dir_fd=source)) as below,
                    closing(os.open(entry.name, _OPEN_DIRECTORY, dir_fd=target)) as new,
                ):
                    copy_tree(below, new)
            elif entry.is_file(follow_symlinks=False):
                _copy_file(source, target, entry.name)


def _copy_file(source: int, target: int, name: str) -> None:
    with (
        closing(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)) as reader,
        closing(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, dir_fd=target)) as writer,
    ):
        found = os.fstat(reader)
        os.fchown(writer, found.st_uid, found.st_gid)
        os.fchmod(writer, stat.S_IMODE(found.st_mode))
        while os.sendfile(writer, reader, None, 1 << 20):
            pass
