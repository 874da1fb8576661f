"""Copying trees between roots that do not trust each other, by descriptors only.

A path is resolved once, inside its root (openat2(2), RESOLVE_IN_ROOT). From there on every step is by name in
an open directory and never through a link, so that whoever changes the tree meanwhile leads nobody astray.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from composer.errors import ComposerError, NotFoundError
from composer.syscalls import copy_content, open_in_root

DEEPEST = 400
"""Directories in directories; each level holds two descriptors and a stack frame."""
READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


IDS = 65536
NOBODY = 65534


class Ids(NamedTuple):
    """How to read owners in a root: `first` is what this host calls its id 0. See user_namespaces(7)."""

    first: int = 0

    def inside(self, identity: int) -> int:
        """What they call an id of this host."""
        return identity - self.first if not self.first or 0 <= identity - self.first < IDS else NOBODY

    def outside(self, identity: int) -> int:
        """What this host calls one of theirs."""
        return self.first + (identity if not self.first or identity < IDS else NOBODY)

    def acting(self) -> AbstractContextManager[None]:
        """What is made there belongs to their root; this host's has no id there, and could make nothing."""
        if not self.first:
            return nullcontext()
        from composer.runtime.users import acting_as

        return acting_as(self.first, self.first)


class Place(NamedTuple):
    """A path in a root. `owner` is for messages: a container's name, "" for this host."""

    root: int
    path: str
    owner: str = ""
    ids: Ids = Ids()

    def __str__(self) -> str:
        return f"{self.owner}:{self.path}" if self.owner else self.path

    def open(self, path: str, flags: int) -> int:
        """Raises OSError."""
        return open_in_root(self.root, os.fsencode(path), flags)

    @property
    def parent(self) -> str:
        return os.path.dirname(self.path.rstrip("/")) or "/"

    @property
    def name(self) -> str:
        return os.path.basename(self.path.rstrip("/"))


class Copier:
    """`archive` keeps owners; without it what is made belongs to `owner`. `skipped` hears of what cannot be
    copied: devices and sockets."""

    def __init__(self, *, archive: bool, owner: tuple[int, int], skipped: Callable[[str], object]) -> None:
        self.archive, self.owner, self.skipped = archive, owner, skipped
        self.origin = self.target = Ids()

    def owner_of(self, uid: int, gid: int) -> tuple[int, int]:
        """Whose a copy is to be, in ids of this host, by what its owner is called where it comes from."""
        uid, gid = (uid, gid) if self.archive else self.owner
        return self.target.outside(uid), self.target.outside(gid)

    def copy(self, node: int, into: int, name: str, depth: int = 0) -> None:
        """Copy what `node` (an O_PATH descriptor) is to `name` in the directory `into`. Raises OSError."""
        status = os.fstat(node)
        if stat.S_ISDIR(status.st_mode):
            self._directory(node, into, name, depth)
        elif stat.S_ISREG(status.st_mode):
            make_room(into, name)
            self._file(node, into, name)
        elif stat.S_ISLNK(status.st_mode):
            make_room(into, name)
            os.symlink(os.readlink("", dir_fd=node), name, dir_fd=into)
            self._own(status, into, name)
        elif stat.S_ISFIFO(status.st_mode):
            make_room(into, name)
            os.mkfifo(name, stat.S_IMODE(status.st_mode), dir_fd=into)
            self._own(status, into, name)
        else:
            self.skipped(name)

    def _directory(self, node: int, into: int, name: str, depth: int) -> None:
        if depth > DEEPEST:
            raise ComposerError(f"there are more than {DEEPEST} directories in each other")
        try:
            os.mkdir(name, 0o700, dir_fd=into)
        except FileExistsError:
            pass  # it is merged into; the next line refuses whatever is no directory
        inner = os.open(name, READ | os.O_DIRECTORY, dir_fd=into)
        try:
            self.contents(node, inner, depth)
            self._finish(os.fstat(node), inner)
        finally:
            os.close(inner)

    def contents(self, node: int, inner: int, depth: int = 0) -> None:
        """Copy everything in a directory into another."""
        source = os.open(".", READ | os.O_DIRECTORY, dir_fd=node)
        try:
            for name in os.listdir(source):
                child = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
                try:
                    self.copy(child, inner, name, depth + 1)
                finally:
                    os.close(child)
        finally:
            os.close(source)

    def _file(self, node: int, into: int, name: str) -> None:
        source = reopen(node)
        target = os.open(name, CREATE, 0o600, dir_fd=into)
        try:
            copy_content(source, target)
            self._finish(os.fstat(node), target)
        finally:
            os.close(source)
            os.close(target)

    def _finish(self, status: os.stat_result, file: int) -> None:
        """Owner before mode: changing it clears set-uid."""
        os.fchown(file, *self._owner(status))
        os.fchmod(file, stat.S_IMODE(status.st_mode))
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _own(self, status: os.stat_result, into: int, name: str) -> None:
        os.chown(name, *self._owner(status), dir_fd=into, follow_symlinks=False)

    def _owner(self, status: os.stat_result) -> tuple[int, int]:
        return self.owner_of(self.origin.inside(status.st_uid), self.origin.inside(status.st_gid))


def reopen(node: int) -> int:
    """For reading, what an O_PATH descriptor of a file or directory stands for."""
    return os.open(f"/proc/self/fd/{node}", os.O_RDONLY | os.O_CLOEXEC)


def make_room(into: int, name: str) -> None:
    """What is at `name` goes, unless it is a directory."""
    try:
        status = os.stat(name, dir_fd=into, follow_symlinks=False)
    except FileNotFoundError:
        return
    if stat.S_ISDIR(status.st_mode):
        raise ComposerError(f"{name} is a directory there, and cannot be replaced by a file")
    os.unlink(name, dir_fd=into)


def source(place: Place, *, follow: bool) -> int:
    """What is at a place, as an O_PATH descriptor. Raises NotFoundError, ComposerError."""
    flags = os.O_PATH | (0 if follow or place.path.endswith(("/", "/.")) else os.O_NOFOLLOW)
    try:
        return place.open(place.path, flags)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(f"there is no {place}") from None
    except OSError as error:
        raise ComposerError(f"{place}: {error.strerror}") from error


def transfer(copier: Copier, node: int, origin: Place, target: Place) -> None:
    """Copy as cp(1) does: into a directory that is there, else to that name. Raises ComposerError."""
    copier.origin, copier.target = origin.ids, target.ids
    try:
        with target.ids.acting():
            _transfer(copier, node, origin, target)
    except OSError as error:
        raise ComposerError(f"{target}: {error.strerror}") from error


def _transfer(copier: Copier, node: int, origin: Place, target: Place) -> None:
    is_directory = stat.S_ISDIR(os.fstat(node).st_mode)
    there = directory_at(target)
    if there is not None:
        try:
            if is_directory and (origin.path.rstrip("/") == "" or origin.path.endswith("/.")):
                copier.contents(node, there)
            else:
                copier.copy(node, there, origin.name)
        finally:
            os.close(there)
        return
    if target.path.endswith("/") and not is_directory:
        raise NotFoundError(f"there is no directory {target}")
    try:
        parent = target.open(target.parent, READ & ~os.O_NOFOLLOW | os.O_DIRECTORY)
    except FileNotFoundError:
        raise NotFoundError(f"there is no directory {target._replace(path=target.parent)}") from None
    try:
        copier.copy(node, parent, target.name)
    finally:
        os.close(parent)


def directory_at(place: Place) -> int | None:
    """The directory at a place, links followed inside the root; None when there is none."""
    try:
        return place.open(place.path, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return None
