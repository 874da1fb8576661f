"""Trees as tar streams, both ways, with the same care as `files`: `cp … -`, `cp - …`, `export`."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable, Collection, Mapping
from typing import BinaryIO

from composer.api.files import CREATE, DEEPEST, READ, Copier, Ids, Place, make_room, reopen
from composer.cli.terminal import write_all
from composer.errors import ComposerError, UsageError
from composer.syscalls import open_in_root

SAME = Ids()
TYPES = {
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
}


def pack(
    parts: Mapping[str, int],
    out: BinaryIO,
    skipped: Callable[[str], object] = lambda name: None,
    *,
    without: Collection[str] = (),
    ids: Ids = SAME,
) -> None:
    """Write what these descriptors (O_PATH will do) are, under their names; what is in a directory goes below
    it, but for what is in directories and files at the paths `without`. `ids` is how owners are read."""
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        packer = Packer(archive, skipped, without, ids)
        for name, node in parts.items():
            packer.add(node, name, 0)


class Packer:
    def __init__(
        self,
        archive: tarfile.TarFile,
        skipped: Callable[[str], object],
        without: Collection[str],
        ids: Ids,
    ) -> None:
        self.archive, self.skipped, self.without, self.ids = archive, skipped, without, ids

    def add(self, node: int, name: str, depth: int) -> None:
        status = os.fstat(node)
        entry = tarfile.TarInfo(name)
        entry.mode, entry.mtime = stat.S_IMODE(status.st_mode), int(status.st_mtime)
        entry.uid, entry.gid = self.ids.inside(status.st_uid), self.ids.inside(status.st_gid)
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFREG:
            self.file(entry, node, 0 if name in self.without else status.st_size)
        elif kind == stat.S_IFDIR:
            entry.type = tarfile.DIRTYPE
            self.archive.addfile(entry)
            if name not in self.without:
                self.below(node, name, depth)
        elif self.special(entry, node, status):
            self.archive.addfile(entry)
        else:
            self.skipped(name)

    def file(self, entry: tarfile.TarInfo, node: int, size: int) -> None:
        entry.size = size
        with os.fdopen(reopen(node), "rb") as file:
            self.archive.addfile(entry, Exactly(file, size))

    def special(self, entry: tarfile.TarInfo, node: int, status: os.stat_result) -> bool:
        """Links, pipes and devices; False for what an archive cannot hold."""
        kind = stat.S_IFMT(status.st_mode)
        if kind not in TYPES:
            return False
        entry.type = TYPES[kind]
        if kind == stat.S_IFLNK:
            entry.linkname = os.readlink("", dir_fd=node)
        elif kind != stat.S_IFIFO:
            entry.devmajor, entry.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
        return True

    def below(self, node: int, name: str, depth: int) -> None:
        if depth > DEEPEST:
            raise ComposerError(f"there are more than {DEEPEST} directories in each other")
        directory = os.open(".", READ | os.O_DIRECTORY, dir_fd=node)
        try:
            for child in sorted(os.listdir(directory)):
                try:
                    inner = os.open(child, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
                except FileNotFoundError:
                    continue  # gone meanwhile
                try:
                    self.add(inner, f"{name}/{child}", depth + 1)
                finally:
                    os.close(inner)
        finally:
            os.close(directory)


class Exactly:
    """A file of a known size: one that shrinks meanwhile is filled with zeros, as a tar stream needs it."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.left = file, size

    def read(self, count: int = -1, /) -> bytes:
        wanted = self.left if count < 0 else min(count, self.left)
        data = self.file.read(wanted)
        self.left -= wanted
        return data + bytes(wanted - len(data))


def unpack(source: BinaryIO, target: Place, copier: Copier) -> None:
    """Make what a tar stream holds below a directory. Links are followed inside the root, as the container
    itself would. Raises UsageError for what is no archive, or leads out of it."""
    copier.target = target.ids
    try:
        with target.ids.acting(), tarfile.open(fileobj=source, mode="r|*") as archive:
            for entry in archive:
                make(archive, entry, target, copier)
    except tarfile.TarError as error:
        raise UsageError(f"standard input is no tar archive: {error}") from error
    except OSError as error:
        raise ComposerError(f"{target}: {error.strerror}") from error


def make(archive: tarfile.TarFile, entry: tarfile.TarInfo, target: Place, copier: Copier) -> None:
    parts = [part for part in entry.name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise UsageError(f"the archive leads out of itself: {entry.name!r}")
    if not parts:
        return
    into = folder(target, parts[:-1])
    name = parts[-1]
    try:
        if entry.isdir():
            make_directory(into, name)
            inner = os.open(name, READ | os.O_DIRECTORY, dir_fd=into)
            finish(inner, entry, copier)
            os.close(inner)
            return
        make_room(into, name)
        make_one(archive, entry, target, into, name, copier)
    finally:
        os.close(into)


def make_one(
    archive: tarfile.TarFile, entry: tarfile.TarInfo, target: Place, into: int, name: str, copier: Copier
) -> None:
    if entry.isreg():
        file = os.open(name, CREATE, 0o600, dir_fd=into)
        try:
            content = archive.extractfile(entry)
            while content is not None and (data := content.read(1 << 20)):
                write_all(file, data)
            finish(file, entry, copier)
        finally:
            os.close(file)
    elif entry.issym():
        os.symlink(entry.linkname, name, dir_fd=into)
        os.chown(name, *copier.owner_of(entry.uid, entry.gid), dir_fd=into, follow_symlinks=False)
    elif entry.islnk():
        path = f"{target.path}/{entry.linkname}"
        parent = target.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.link(os.path.basename(path), name, src_dir_fd=parent, dst_dir_fd=into, follow_symlinks=False)
        finally:
            os.close(parent)
    elif entry.isfifo():
        os.mkfifo(name, entry.mode & 0o7777, dir_fd=into)
    else:
        copier.skipped(entry.name)


def folder(target: Place, parts: list[str]) -> int:
    """The directory of an entry, made when missing. Raises OSError."""
    path, descriptor = target.path, target.open(target.path, os.O_RDONLY | os.O_DIRECTORY)
    for part in parts:
        path = f"{path}/{part}"
        try:
            inner = open_in_root(target.root, os.fsencode(path), os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            os.mkdir(part, 0o755, dir_fd=descriptor)
            inner = os.open(part, READ | os.O_DIRECTORY, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = inner
    return descriptor


def make_directory(into: int, name: str) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=into)
    except FileExistsError:
        pass


def finish(file: int, entry: tarfile.TarInfo, copier: Copier) -> None:
    os.fchown(file, *copier.owner_of(entry.uid, entry.gid))
    os.fchmod(file, entry.mode & 0o7777)
    os.utime(file, (entry.mtime, entry.mtime))
