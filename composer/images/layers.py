"""Unpacks a layer's archive into a directory that overlayfs can stack.

K; written for archives made by enemies.

* Every entry is created relative to a descriptor of its parent, which openat2(2) resolved inside the target;
  the last part is never followed. So `..`, absolute names and links, in any order, stay inside.
* Whiteouts become what overlayfs understands: a character device 0:0, and the attribute `opaque`. Attributes
  that steer overlayfs cannot come from an archive.
* Entries, bytes and the lengths of names are bounded; the bytes must have the digest the configuration names.
* Each thing that is wrong is one ImageError. What was unpacked until then is the caller's to throw away.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from composer.errors import ImageError
from composer.images import tar
from composer.images.layout import short
from composer.images.stream import Ahead, Read, decompressed
from composer.syscalls import open_in_root
from composer.value import Value

WHITEOUT = b".wh."
OPAQUE = b".wh..wh..opq"
_AUFS = b".wh..wh."  # other bookkeeping of aufs, which means nothing to a layer
_DIRECTORY = os.O_PATH | os.O_DIRECTORY
_DEVICES = {tar.CHARACTER: stat.S_IFCHR, tar.BLOCK_DEVICE: stat.S_IFBLK, tar.FIFO: stat.S_IFIFO}
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_PARENTS = 128  # open descriptors of directories
_MAX_LINKS = 40  # the kernel's own bound for links in one path
_MAX_XATTRS = 64 * 1024  # bytes of attributes of one entry; ext4 holds less


class Limits(Value):
    """What one layer may cost, in bytes of its archive and in entries."""

    size: int = 64 * 1024**3
    entries: int = 2_000_000


class Facts(Value):
    """What a layer turned out to be. `implicit` are directories without an entry of their own."""

    diff_id: str
    size: int
    entries: int
    implicit: tuple[str, ...] = ()


def unpack(
    read: Read,
    target: Path,
    *,
    expected: str | None = None,
    limits: Limits = Limits(),  # noqa: B008 - a frozen value
    progress: Callable[[int], None] | None = None,
    abandon: Callable[[], None] | None = None,
) -> Facts:
    """Unpack the archive behind `read`, compressed or not, into the empty directory `target`.

    `expected` is the digest that its plain bytes must have. `progress` is told how many of them were done.
    `abandon` wakes a `read` that waits, when the layer turns out to be wrong. Raises ImageError.
    """
    hasher = hashlib.sha256()
    total = 0

    def plain() -> Iterator[bytes]:
        nonlocal total
        for chunk in decompressed(read):
            hasher.update(chunk)
            total += len(chunk)
            if total > limits.size:
                raise ImageError(f"a layer unpacks to more than {limits.size} bytes")
            yield chunk

    root = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with Ahead(plain(), abandon=abandon) as ahead:
            stream = tar.Stream(ahead.take)
            unpacker = _Unpacker(root, stream, limits)
            unpacker.run(progress)
            stream.drain()
    finally:
        os.close(root)
    diff_id = f"sha256:{hasher.hexdigest()}"
    if expected is not None and expected != diff_id:
        raise ImageError(
            f"a layer has the content {short(diff_id)}; the configuration says {short(expected)}"
        )
    return Facts(diff_id, total, unpacker.entries, tuple(sorted(map(os.fsdecode, unpacker.implicit))))


@cache
def overlay_prefix() -> str:
    """The namespace of overlayfs's attributes for this process; the kernel chooses it by privilege too."""
    return "trusted.overlay." if _is_privileged() else "user.overlay."


@cache
def _is_privileged() -> bool:
    """Whether we are root outside of any user namespace."""
    return os.geteuid() == 0 and Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]


@cache
def _keeps_owners() -> bool:
    """Whether files can be given away: not by a plain user, nor where only one user is mapped."""
    mapped = sum(int(line.split()[2]) for line in Path("/proc/self/uid_map").read_text().splitlines())
    return os.geteuid() == 0 and mapped > 1


def _umask() -> int:
    """The process's umask, read without changing it under other threads."""
    with open("/proc/self/status", "rb") as status:
        return next((int(line.split()[1], 8) for line in status if line.startswith(b"Umask:")), 0o777)


class _Unpacker:
    """One layer being unpacked below the descriptor `root`."""

    def __init__(self, root: int, stream: tar.Stream, limits: Limits) -> None:
        self.entries = 0
        self.implicit: set[bytes] = set()
        self._root, self._stream, self._limits = root, stream, limits
        self._parents: dict[bytes, int] = {}
        # Directories get their metadata last: times change with content, and modes may forbid to write.
        self._directories: dict[bytes, tar.Member] = {}
        self._opaque: set[bytes] = set()
        self._owners, self._umask = _keeps_owners(), _umask()
        self._make = {
            tar.REGULAR: self._regular,
            tar.HARD_LINK: self._hard_link,
            tar.SYMBOLIC_LINK: self._symbolic_link,
            tar.CHARACTER: self._device,
            tar.BLOCK_DEVICE: self._device,
            tar.FIFO: self._device,
        }

    def run(self, progress: Callable[[int], None] | None) -> None:
        try:
            for member in tar.members(self._stream):
                self.entries += 1
                if self.entries > self._limits.entries:
                    raise ImageError(f"a layer has more than {self._limits.entries} entries")
                self._guarded(self._entry, member)
                if progress is not None and self.entries % 64 == 0:
                    progress(self._stream.position)
            for member in reversed(self._directories.values()):
                self._guarded(self._finish_directory, member)
        finally:
            self._forget()
        self.implicit -= self._directories.keys()

    def _guarded(self, step: Callable[[tar.Member], None], member: tar.Member) -> None:
        try:
            step(member)
        except OSError as error:
            hint = "free some space and try again" if error.errno in (errno.ENOSPC, errno.EDQUOT) else None
            raise ImageError(f"cannot unpack {_shown(member.name)}: {error.strerror}", hint=hint) from error

    def _entry(self, member: tar.Member) -> None:
        path = _normal(member.name)
        parent, _, leaf = path.rpartition(b"/")
        if parent.startswith(WHITEOUT) or b"/.wh." in parent:
            raise ImageError(f"a layer has something below a whiteout: {_shown(path)}")
        if member.kind == tar.DIRECTORY and not leaf.startswith(WHITEOUT):
            self._directory(path, member)
        elif not leaf:
            raise ImageError("a layer has an entry without a name")
        elif leaf == OPAQUE:
            self._hide_lower(parent)
        elif leaf.startswith(_AUFS):
            pass
        elif leaf.startswith(WHITEOUT):
            self._whiteout(parent, leaf.removeprefix(WHITEOUT))
        else:
            self._make[member.kind](self._parent(parent), leaf, path, member)

    # Directories

    def _parent(self, path: bytes) -> int:
        """A descriptor of a directory of the layer, made when no entry has made it yet."""
        if not path:
            return self._root
        descriptor = self._parents.get(path)
        if descriptor is None:
            if len(self._parents) >= _MAX_PARENTS:
                self._forget()
            self._parents[path] = descriptor = self._open(path, _MAX_LINKS)
        return descriptor

    def _open(self, path: bytes, links: int) -> int:
        try:
            return open_in_root(self._root, path, _DIRECTORY)
        except FileNotFoundError:
            pass
        above, _, leaf = path.rpartition(b"/")
        parent = self._parent(above)
        try:
            os.mkdir(leaf, 0o755, dir_fd=parent)
        except FileExistsError:
            # A link to nowhere in this layer: below, there may be a directory for it to lead to.
            if links == 0:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from None
            target = os.readlink(leaf, dir_fd=parent)
            self._open(_joined(above, target), links - 1)
            return open_in_root(self._root, path, _DIRECTORY)
        os.chmod(leaf, 0o755, dir_fd=parent)
        self.implicit.add(path)
        return open_in_root(self._root, path, _DIRECTORY)

    def _directory(self, path: bytes, member: tar.Member) -> None:
        above, _, leaf = path.rpartition(b"/")
        if path:
            parent = self._parent(above)
            try:
                os.mkdir(leaf, 0o700, dir_fd=parent)
            except FileExistsError:
                existing = os.stat(leaf, dir_fd=parent, follow_symlinks=False)
                if not stat.S_ISDIR(existing.st_mode):
                    hides = _is_whiteout(existing)
                    self._clear(parent, leaf, path)
                    os.mkdir(leaf, 0o700, dir_fd=parent)
                    if hides:
                        self._opaque.add(path)
        self._directories[path] = member._replace(name=path)

    def _finish_directory(self, member: tar.Member) -> None:
        try:
            directory = open_in_root(
                self._root, member.name or b".", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
            )
        except FileNotFoundError:
            return
        try:
            if member.name in self._opaque:
                os.setxattr(directory, f"{overlay_prefix()}opaque", b"y")
            self._metadata(directory, member, os.fstat(directory).st_mode & 0o7777)
        finally:
            os.close(directory)

    def _forget(self) -> None:
        for descriptor in self._parents.values():
            os.close(descriptor)
        self._parents.clear()

    # Whiteouts

    def _hide_lower(self, path: bytes) -> None:
        directory = self._parent(path)
        os.setxattr(f"/proc/self/fd/{directory}", f"{overlay_prefix()}opaque", b"y")

    def _whiteout(self, above: bytes, leaf: bytes) -> None:
        """Hide a name of the layers below. What this layer itself has under the name stays."""
        if leaf in (b"", b".", b".."):
            raise ImageError("a layer has a whiteout of nothing")
        parent = self._parent(above)
        try:
            os.mknod(leaf, stat.S_IFCHR, 0, dir_fd=parent)
        except FileExistsError:
            if stat.S_ISDIR(os.stat(leaf, dir_fd=parent, follow_symlinks=False).st_mode):
                self._hide_lower(above + b"/" + leaf if above else leaf)

    # Files

    def _regular(self, parent: int, leaf: bytes, path: bytes, member: tar.Member) -> None:
        try:
            file = os.open(leaf, _NEW, member.mode & 0o777, dir_fd=parent)
        except FileExistsError:
            self._clear(parent, leaf, path)
            file = os.open(leaf, _NEW, member.mode & 0o777, dir_fd=parent)
        try:
            if member.pieces is None and (small := self._stream.whole(member.stored)) is not None:
                _write(file, small)
            elif member.pieces is None:
                for view in self._stream.pieces(member.stored):
                    _write(file, view)
            else:
                for offset, length in member.pieces:
                    os.lseek(file, offset, os.SEEK_SET)
                    for view in self._stream.pieces(length):
                        _write(file, view)
                os.ftruncate(file, member.size)
            self._metadata(file, member, member.mode & 0o777 & ~self._umask)
        finally:
            os.close(file)

    def _metadata(self, file: int, member: tar.Member, mode: int) -> None:
        """Owner first (it clears set-uid and capabilities), then mode (now `mode`), attributes, times."""
        if self._owners and (member.uid or member.gid):
            self._give(file, member)
            mode = -1
        if member.mode != mode:
            os.fchmod(file, member.mode)
        if member.xattrs:
            self._attributes(file, member)
        os.utime(file, ns=(member.mtime, member.mtime))

    def _give(self, file: int | bytes, member: tar.Member, directory: int | None = None) -> None:
        try:
            os.chown(file, member.uid, member.gid, dir_fd=directory, follow_symlinks=directory is None)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise ImageError(
                f"{_shown(member.name)} belongs to {member.uid}:{member.gid}, which is not mapped here",
                hint="give the user more ids in /etc/subuid and /etc/subgid",
            ) from error

    def _attributes(self, file: int | str, member: tar.Member) -> None:
        """Keep capabilities, access lists and users' attributes; labels of the packing host mean nothing."""
        if sum(len(key) + len(value) for key, value in member.xattrs.items()) > _MAX_XATTRS:
            raise ImageError(f"{_shown(member.name)} has too many extended attributes")
        for key, value in member.xattrs.items():
            if key.startswith((b"trusted.overlay.", b"user.overlay.")):
                raise ImageError(
                    f"{_shown(member.name)} tries to steer overlayfs by the attribute {_shown(key)}"
                )
            if not key.startswith((b"user.", b"system.posix_acl_")) and key != b"security.capability":
                continue
            try:
                os.setxattr(file, key, value, follow_symlinks=isinstance(file, int))
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EPERM):
                    raise
                if key == b"security.capability" and _is_privileged():
                    raise

    def _hard_link(self, parent: int, leaf: bytes, path: bytes, member: tar.Member) -> None:
        target = _normal(member.link)
        above, _, source = target.rpartition(b"/")
        if target == path:
            return
        if not source:
            raise ImageError(f"a hard link leads nowhere: {_shown(path)}")
        try:
            directory = open_in_root(self._root, above or b".", _DIRECTORY)
        except FileNotFoundError:
            raise ImageError(
                f"{_shown(path)} is a hard link to {_shown(target)}, which is not there"
            ) from None
        try:
            self._clear_file(parent, leaf, path)
            os.link(source, leaf, src_dir_fd=directory, dst_dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            raise ImageError(
                f"{_shown(path)} is a hard link to {_shown(target)}, which is not there"
            ) from None
        finally:
            os.close(directory)

    def _symbolic_link(self, parent: int, leaf: bytes, path: bytes, member: tar.Member) -> None:
        self._clear_file(parent, leaf, path)
        os.symlink(member.link, leaf, dir_fd=parent)
        self._metadata_by_name(parent, leaf, member)

    def _device(self, parent: int, leaf: bytes, path: bytes, member: tar.Member) -> None:
        kind = {tar.CHARACTER: stat.S_IFCHR, tar.BLOCK_DEVICE: stat.S_IFBLK, tar.FIFO: stat.S_IFIFO}[
            member.kind
        ]
        self._clear_file(parent, leaf, path)
        try:
            os.mknod(leaf, kind | member.mode, os.makedev(*member.device), dir_fd=parent)
        except PermissionError:
            if _is_privileged():
                raise
            return  # the kernel forbids devices in user namespaces; containers get their own /dev anyway
        os.chmod(f"/proc/self/fd/{parent}/".encode() + leaf, member.mode)
        self._metadata_by_name(parent, leaf, member)

    def _metadata_by_name(self, parent: int, leaf: bytes, member: tar.Member) -> None:
        if self._owners and (member.uid or member.gid):
            self._give(leaf, member, parent)
        if member.xattrs:
            self._attributes(f"/proc/self/fd/{parent}/{os.fsdecode(leaf)}", member)
        os.utime(leaf, ns=(member.mtime, member.mtime), dir_fd=parent, follow_symlinks=False)

    def _clear_file(self, parent: int, leaf: bytes, path: bytes) -> None:
        try:
            os.stat(leaf, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return
        self._clear(parent, leaf, path)

    def _clear(self, parent: int, leaf: bytes, path: bytes) -> None:
        """Make room for a later entry of the same name, as tar and Docker do."""
        try:
            os.unlink(leaf, dir_fd=parent)
        except IsADirectoryError:
            shutil.rmtree(os.fsdecode(leaf), dir_fd=parent)
            below = path + b"/"
            for name in [name for name in self._directories if name == path or name.startswith(below)]:
                del self._directories[name]
            self.implicit = {name for name in self.implicit if name != path and not name.startswith(below)}
        for name in list(self._parents):
            # Any path may have led through what is gone; `parent` itself is still in use.
            if self._parents[name] != parent:
                os.close(self._parents.pop(name))


_LEADING = (b"", b".", b"/")


def _normal(name: bytes) -> bytes:
    """A name relative to the root of the layer. Raises ImageError for one that climbs."""
    if name[:1] not in _LEADING and b"//" not in name and b"/." not in name:
        return name.removesuffix(b"/")  # as nearly all are
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise ImageError(f"a layer has a name that climbs out of its directory: {_shown(name)}")
    return b"/".join(parts)


def _joined(above: bytes, target: bytes) -> bytes:
    """Where a link leads, by its text."""
    parts: list[bytes] = [] if target.startswith(b"/") else above.split(b"/") if above else []
    for part in target.split(b"/"):
        if part == b"..":
            parts = parts[:-1]
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/".join(parts) or b"."


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _write(file: int, view: memoryview) -> None:
    while view:
        view = view[os.write(file, view) :]


def _shown(name: bytes) -> str:
    """A name for a message: printable whatever the archive says, and short."""
    text = name.decode("utf-8", "backslashreplace")
    return repr(text if len(text) <= 120 else f"{text[:120]}…")
