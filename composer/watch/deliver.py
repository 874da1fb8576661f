"""Files of this host into a container, one by one, by descriptors only: see `composer.api.files`.

A file is written beside its place and renamed into it: who reads it sees the old one or the new one, whole.
Owner is the container's own user, as far as it may be; modes and times are the host's.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from composer.api.context import Context
from composer.api.files import READ, Copier, Place, make_room, reopen
from composer.api.roots import ids_of, root_of
from composer.disk import read_json
from composer.errors import ComposerError
from composer.record import ContainerRow
from composer.syscalls import open_in_root
from composer.watch.rules import Copy, Then, then

BLOCK: Final = 1 << 18


class Delivery:
    """What one container was given. `then` is what follows."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.removed: list[str] = []
        self.failed: list[str] = []
        self.then: set[Then] = set()


def deliver(context: Context, row: ContainerRow, copies: Iterable[Copy]) -> Delivery:
    """Make a running container have what this host has. Raises ComposerError when it has just ended."""
    done = Delivery()
    with root_of(context, row, "/") as root, ids_of(row).acting():
        target = Target(Place(root, "/", row["name"]), owner_in(context, row), done)
        together: dict[str, list[Copy]] = {}
        for copy in sorted(copies, key=lambda copy: copy.target):
            together.setdefault(copy.target, []).append(copy)
        for same_place in reversed(together.values()):
            if same_place[-1].change.gone:
                target.attempt(target.remove, same_place, done.removed)
        for same_place in together.values():
            if not same_place[-1].change.gone:
                target.attempt(target.put, same_place, done.written)
    return done


class Target:
    """One container's files."""

    def __init__(self, place: Place, owner: tuple[int, int], done: Delivery) -> None:
        self.place, self.owner, self.done = place, owner, done
        self.copier = Copier(archive=False, owner=owner, skipped=self.skipped)

    def skipped(self, name: str) -> None:
        self.done.failed.append(f"{name} is a device or a socket, and was left out")

    def attempt(self, act: Callable[[Copy], bool], copies: list[Copy], said: list[str]) -> None:
        """Do what several rules may ask for; what goes wrong with it is told and stops nothing else."""
        copy = copies[-1]
        try:
            if act(copy):
                said.append(copy.target)
                self.done.then.update(*(then(each.rule) for each in copies))
        except ComposerError as error:
            self.done.failed.append(f"{copy.target}: {error.message}")
        except OSError as error:
            self.done.failed.append(f"{copy.target}: {error.strerror}")

    def remove(self, copy: Copy) -> bool:
        """A directory goes when nothing else is in it: what the container made there is its own."""
        with ExitStack() as held:
            try:
                parent = self.open(held, os.path.dirname(copy.target))
                name = os.path.basename(copy.target)
                if not is_directory(parent, name):
                    os.unlink(name, dir_fd=parent)
                    return True
                if copy.change.directory and not os.listdir(self.inner(held, parent, name)):
                    os.rmdir(name, dir_fd=parent)
            except (FileNotFoundError, NotADirectoryError):
                pass  # it is gone there, too
        return False

    def put(self, copy: Copy) -> bool:
        """False when it is there already, as it should be, or no longer here."""
        with ExitStack() as held:
            try:
                node = os.open(copy.source, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            except (FileNotFoundError, NotADirectoryError):
                return False
            held.callback(os.close, node)
            folder, name = os.path.split(copy.target)
            parent = self.folder(held, folder)
            status = os.fstat(node)
            if stat.S_ISDIR(status.st_mode):
                return self.directory(parent, copy.target, stat.S_IMODE(status.st_mode))
            if same(node, status, parent, name):
                return False
            beside = f".{name[:200]}.composer"
            make_room(parent, beside)
            self.copier.copy(node, parent, beside)
            if is_directory(parent, name):
                os.rmdir(name, dir_fd=parent)
            try:
                os.rename(beside, name, src_dir_fd=parent, dst_dir_fd=parent)
            except FileNotFoundError:
                return False  # a device or a socket, which is not copied
            except OSError:
                os.unlink(beside, dir_fd=parent)
                raise
            return True

    def directory(self, parent: int, path: str, mode: int) -> bool:
        """False when there is one; a link to one of the container's own is as good."""
        name = os.path.basename(path)
        with ExitStack() as held:
            try:
                self.open(held, path)
            except OSError:
                make_room(parent, name)
            else:
                return False
            os.mkdir(name, 0o700, dir_fd=parent)
            inner = self.inner(held, parent, name)
            os.fchown(inner, *self.owner)
            os.fchmod(inner, mode)
        return True

    def inner(self, held: ExitStack, parent: int, name: str) -> int:
        descriptor = os.open(name, READ | os.O_DIRECTORY, dir_fd=parent)
        held.callback(os.close, descriptor)
        return descriptor

    def folder(self, held: ExitStack, path: str) -> int:
        """A directory of the container, made with those above it when it is not there."""
        try:
            return self.open(held, path)
        except FileNotFoundError:
            above = os.path.dirname(path)
            self.directory(self.folder(held, above), path, 0o755)
            return self.open(held, path)

    def open(self, held: ExitStack, path: str) -> int:
        descriptor = open_in_root(self.place.root, os.fsencode(path), os.O_RDONLY | os.O_DIRECTORY)
        held.callback(os.close, descriptor)
        return descriptor


def is_directory(parent: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def same(node: int, status: os.stat_result, parent: int, name: str) -> bool:
    """Whether what is there has the kind, mode and content of what is here."""
    with ExitStack() as held:
        try:
            other = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        except FileNotFoundError:
            return False
        held.callback(os.close, other)
        return alike(node, status, other)


def alike(node: int, status: os.stat_result, other: int) -> bool:
    """`same` for what two O_PATH descriptors stand for: nobody can put a device in its place meanwhile."""
    there = os.fstat(other)
    if there.st_mode != status.st_mode:
        return False
    if stat.S_ISLNK(status.st_mode):
        return os.readlink("", dir_fd=other) == os.readlink("", dir_fd=node)
    if not stat.S_ISREG(status.st_mode) or there.st_size != status.st_size:
        return False
    if there.st_mtime_ns == status.st_mtime_ns:
        return True
    with open(reopen(node), "rb") as mine, open(reopen(other), "rb") as theirs:
        while block := mine.read(BLOCK):
            if theirs.read(BLOCK) != block:
                return False
    return True


def owner_in(context: Context, row: ContainerRow) -> tuple[int, int]:
    """The ids on this host of the user that the container runs as; user_namespaces(7)."""
    config = read_json(context.stack_paths.container_run(row["name"]) / "config.json") or {}
    user = config.get("process", {}).get("user", {})
    return (
        outside(Path(f"/proc/{row['pid']}/uid_map"), user.get("uid", 0)),
        outside(Path(f"/proc/{row['pid']}/gid_map"), user.get("gid", 0)),
    )


def outside(mapping: Path, inner: int) -> int:
    """Raises ComposerError for an id that its user namespace does not have."""
    try:
        lines = mapping.read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        raise ComposerError("the container has just ended") from None
    for line in lines:
        first, parent, count = map(int, line.split())
        if first <= inner < first + count:
            return parent + inner - first
    raise ComposerError(f"id {inner} does not exist in the container's user namespace")
