"""Paths inside a container's root, resolved by the kernel so that no link in them leads out.

A container (or an image) may have put any symbolic link anywhere, and may change it while we look. So nobody
joins strings: a path becomes a descriptor by openat2(2) with RESOLVE_IN_ROOT, and is used by that descriptor.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from composer.runtime import linux

_INSIDE = linux.RESOLVE_IN_ROOT | linux.RESOLVE_NO_MAGICLINKS
_MOST_LINKS = 40  # as the kernel's own limit, path_resolution(7)


@contextmanager
def closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class Root:
    """The root directory of a container, held by a descriptor."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def open(self, path: str, flags: int = linux.O_PATH) -> int:
        """A descriptor of what is at `path`, the last link followed. Raises OSError."""
        return linux.openat2(self.descriptor, path, flags, _INSIDE)

    def ensure(self, path: str, *, directory: bool) -> int:
        """As `open`; what is missing on the way is made (0755, files empty), also behind dangling links."""
        try:
            return self.open(path)
        except FileNotFoundError:
            return self.open(self._make(path, directory))

    def _make(self, path: str, directory: bool) -> str:
        waiting, done, links = path.split("/")[::-1], list[str](), 0
        while waiting:
            name = waiting.pop()
            if name in ("", "."):
                continue
            if name == "..":
                done = done[:-1]
                continue
            with closing(self.open("/".join(done) or "/", linux.O_PATH | os.O_DIRECTORY)) as parent:
                target = _link(name, parent)
                if target is None:
                    _make_one(name, parent, directory or any(waiting))
                    done.append(name)
                    continue
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            done = [] if target.startswith("/") else done
            waiting += target.split("/")[::-1]
        return "/".join(done) or "/"

    def make_node(self, path: str, mode: int, device: int, uid: int, gid: int) -> None:
        """A device node or fifo of this owner, with this mode under the umask; an equal one stays."""
        with self.parent(path) as (parent, name):
            try:
                os.mknod(name, mode, device, dir_fd=parent)
            except FileExistsError:
                found = os.stat(name, dir_fd=parent, follow_symlinks=False)
                if (stat.S_IFMT(found.st_mode), found.st_rdev) != (stat.S_IFMT(mode), device):
                    raise
            else:
                os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)

    def make_link(self, path: str, target: str) -> None:
        """A symbolic link; what is there already stays."""
        with self.parent(path) as (parent, name):
            try:
                os.symlink(target, name, dir_fd=parent)
            except FileExistsError:
                pass

    @contextmanager
    def parent(self, path: str) -> Iterator[tuple[int, str]]:
        """The directory that holds `path` (made when missing) and the last name."""
        directory, _, name = path.rstrip("/").rpartition("/")
        with closing(self.ensure(directory or "/", directory=True)) as descriptor:
            yield descriptor, name


def _link(name: str, parent: int) -> str | None:
    try:
        return os.readlink(name, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):
            return None
        raise


def _make_one(name: str, parent: int, directory: bool) -> None:
    if not directory:
        make_file(name, parent)
        return
    try:
        os.mkdir(name, 0o755, dir_fd=parent)
    except FileExistsError:
        pass


def make_file(name: str, parent: int) -> None:
    """An empty file to mount something on; what is there already stays."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        os.close(os.open(name, flags, 0o644, dir_fd=parent))
    except FileExistsError:
        pass
