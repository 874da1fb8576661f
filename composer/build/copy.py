"""Writes what COPY and ADD take into a mounted tree. K; the tree may be a stranger's.

Every path is resolved by openat2(2) inside the tree, and everything is created relative to a descriptor of
its directory, so no link in an image leads anywhere else.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

from composer.build.context import Item, attributes
from composer.build.parse import Wrong
from composer.bundle.accounts import resolve
from composer.errors import ComposerError
from composer.layered import Node
from composer.syscalls import copy_content, open_in_root

_SHIFTS = {"u": 6, "g": 3, "o": 0}
_FOLDER = os.O_PATH | os.O_DIRECTORY
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
Mode = Callable[[int], int]
Owner = tuple[int, int]


class Writer:
    """Writes into the tree at `root`. `owner` None: as the source has it, or root where it does not count."""

    def __init__(self, root: Path, *, owner: Owner | None, mode: Mode | None, owners: bool) -> None:
        self.root = os.open(root, _FOLDER | os.O_CLOEXEC)
        self.path = root
        self.owner, self.mode, self.owners = owner, mode, owners
        self.seen: dict[tuple[int, int], str] = {}

    def close(self) -> None:
        os.close(self.root)

    def put(self, items: Iterable[Item], target: str) -> None:
        """All items to `target`: a directory when it ends with a slash, is one, or has to be one.

        Raises Wrong, OSError.
        """
        items = list(items)
        many = len(items) > 1 or target.endswith("/") or any(item.is_directory for item in items)
        into = many or self._is_directory(target)
        if into:
            os.close(self.directory(target))
        for item in items:
            if item.is_directory:
                self._tree(item, f"{target.rstrip('/')}/{item.name}")
            elif into:
                self._file(item, f"{target.rstrip('/')}/{item.name}")
            else:
                self._file(item, target)

    def directory(self, path: str) -> int:
        """A descriptor of a directory, made with those above it where they are missing."""
        try:
            return open_in_root(self.root, os.fsencode(path.strip("/") or "."), _FOLDER)
        except FileNotFoundError:
            pass
        except NotADirectoryError:
            raise Wrong(f"{path} is not a directory in the image") from None
        above, _, leaf = path.rstrip("/").rpartition("/")
        parent = self.directory(above)
        try:
            os.mkdir(leaf, 0o755, dir_fd=parent)
            os.chmod(f"/proc/self/fd/{parent}/{leaf}", 0o755)
            if self.owner:
                os.chown(leaf, *self.owner, dir_fd=parent, follow_symlinks=False)
        except FileExistsError:
            raise Wrong(f"{path} is a link that leads nowhere in the image") from None
        finally:
            os.close(parent)
        return open_in_root(self.root, os.fsencode(path.strip("/")), _FOLDER)

    def _is_directory(self, path: str) -> bool:
        try:
            os.close(open_in_root(self.root, os.fsencode(path.strip("/") or "."), _FOLDER))
        except OSError:
            return False
        return True

    def _tree(self, item: Item, target: str) -> None:
        """The content of a directory; the topmost one's own metadata stays behind."""
        finished: list[tuple[str, Node]] = []
        os.close(self.directory(target))
        parents: tuple[str, int] = ("", -1)
        try:
            for path, node in item.entries:
                above, _, leaf = f"{target.rstrip('/')}/{path}".rpartition("/")
                if parents[0] != above or parents[1] < 0:
                    if parents[1] >= 0:
                        os.close(parents[1])
                    parents = (above, self.directory(above))
                if node.is_directory:
                    self._folder(parents[1], leaf, f"{above}/{leaf}")
                    finished.append((f"{above}/{leaf}", node))
                else:
                    self._one(parents[1], leaf, node, f"{above}/{leaf}")
        finally:
            if parents[1] >= 0:
                os.close(parents[1])
        # Times and modes last: they change with content, or forbid to write it.
        for path, node in reversed(finished):
            folder = self.directory(path)
            try:
                self._metadata(f"/proc/self/fd/{folder}", node)
            finally:
                os.close(folder)

    def _folder(self, parent: int, leaf: str, path: str) -> None:
        try:
            os.mkdir(leaf, 0o700, dir_fd=parent)
        except FileExistsError:
            there = os.stat(leaf, dir_fd=parent, follow_symlinks=False)
            if stat.S_ISDIR(there.st_mode) or self._is_directory(path):
                return
            raise Wrong(f"{path} is a file in the image, and a directory is to be copied there") from None

    def _file(self, item: Item, target: str) -> None:
        """One file. A link at its place is followed, inside the tree, to where the file then goes."""
        above, _, leaf = target.rstrip("/").rpartition("/")
        try:
            there = open_in_root(self.root, os.fsencode(target.strip("/")), os.O_PATH)
        except OSError:
            pass
        else:
            real = os.readlink(f"/proc/self/fd/{there}")
            os.close(there)
            if real.startswith(f"{self.path}/"):
                above, _, leaf = real.removeprefix(str(self.path)).rpartition("/")
        parent = self.directory(above)
        try:
            if item.data is not None:
                self._text(parent, leaf, item.data, target)
            else:
                self._one(parent, leaf, item.entries[0][1], target)
        finally:
            os.close(parent)

    def _clear(self, parent: int, leaf: str, target: str) -> None:
        try:
            os.unlink(leaf, dir_fd=parent)
        except FileNotFoundError:
            pass
        except IsADirectoryError:
            raise Wrong(f"{target} is a directory in the image, and a file is to be copied there") from None

    def _text(self, parent: int, leaf: str, data: bytes, target: str) -> None:
        self._clear(parent, leaf, target)
        with os.fdopen(os.open(leaf, _NEW, 0o600, dir_fd=parent), "wb") as file:
            file.write(data)
            os.fchown(file.fileno(), *(self.owner or (0, 0)))
            os.fchmod(file.fileno(), self.mode(0o100644) if self.mode else 0o644)

    def _one(self, parent: int, leaf: str, node: Node, target: str) -> None:
        """Anything but a directory."""
        self._clear(parent, leaf, target)
        status, place = node.status, node.places[0]
        identity = (status.st_dev, status.st_ino)
        if status.st_nlink > 1 and identity in self.seen and self._link(self.seen[identity], parent, leaf):
            return
        by_name = f"/proc/self/fd/{parent}/{leaf}"
        if stat.S_ISREG(status.st_mode):
            source = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            file = os.open(leaf, _NEW, 0o600, dir_fd=parent)
            try:
                copy_content(source, file)
                self._metadata(file, node)
            finally:
                os.close(source)
                os.close(file)
        elif stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(place), leaf, dir_fd=parent)
            os.chown(by_name, *self._owner(node), follow_symlinks=False)
            os.utime(by_name, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)
        elif not stat.S_ISSOCK(status.st_mode):
            os.mknod(leaf, status.st_mode, status.st_rdev, dir_fd=parent)
            self._metadata(by_name, node)
        if status.st_nlink > 1:
            self.seen[identity] = target

    def _link(self, first: str, parent: int, leaf: str) -> bool:
        """Whether it could become another name of what was copied before."""
        above, _, name = first.rpartition("/")
        folder = self.directory(above)
        try:
            os.link(name, leaf, src_dir_fd=folder, dst_dir_fd=parent, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EMLINK, errno.EXDEV):
                raise
            return False
        finally:
            os.close(folder)
        return True

    def _owner(self, node: Node) -> Owner:
        if self.owner:
            return self.owner
        return (node.status.st_uid, node.status.st_gid) if self.owners else (0, 0)

    def _metadata(self, file: int | str, node: Node) -> None:
        """Owner before mode and attributes: changing it clears set-uid and capabilities."""
        os.chown(file, *self._owner(node))
        mode = stat.S_IMODE(node.status.st_mode)
        os.chmod(file, self.mode(node.status.st_mode) if self.mode else mode)
        if self.owners:
            for name, value in attributes(node).items():
                os.setxattr(file, name, value)
        os.utime(file, ns=(node.status.st_atime_ns, node.status.st_mtime_ns))


def owner_of(text: str, passwd: str, group: str) -> Owner:
    """`--chown`, by the accounts of a tree: a number alone is the group's too, a name brings its own group.

    Raises Wrong.
    """
    who, colon, which = text.partition(":")
    try:
        account = resolve(f"{who or '0'}:{which}" if which else who or "0", passwd, group)
    except ComposerError as error:
        raise Wrong(f"--chown={text}: {error.message}") from error
    if who.isdecimal() and not (colon and which):
        return account.uid, account.uid
    return account.uid, account.gid


def mode_of(text: str) -> Mode:
    """--chmod: octal, or symbolic as chmod(1) has it (`u=rwX,go=rX`). Raises Wrong."""
    if re.fullmatch(r"[0-7]{1,5}", text) and int(text, 8) <= 0o7777:
        fixed = int(text, 8)
        return lambda _: fixed
    clauses = [re.fullmatch(r"([ugoa]*)((?:[-+=](?:[rwxXst]*|[ugo]))+)", part) for part in text.split(",")]
    if not text or not all(clauses):
        raise Wrong(f"--chmod={text} is no mode", "as in 644 or u=rwX,go=rX")

    def change(mode: int) -> int:
        found = mode & 0o7777
        for clause in clauses:
            assert clause is not None
            for sign, letters in re.findall(r"([-+=])([rwxXst]*|[ugo])(?=[-+=]|$)", clause[2]):
                found = _changed(found, clause[1] or "a", sign, letters, stat.S_ISDIR(mode))
        return found

    return change


def _changed(mode: int, whom: str, sign: str, letters: str, directory: bool) -> int:
    bits = 0
    shifts = [shift for name, shift in _SHIFTS.items() if name in whom or "a" in whom]
    for letter in letters:
        if letter in _SHIFTS:  # `g=u`: as somebody else has it
            bits |= sum((mode >> _SHIFTS[letter] & 7) << shift for shift in shifts)
        elif letter == "s":
            bits |= (0o4000 if 6 in shifts else 0) | (0o2000 if 3 in shifts else 0)
        elif letter == "t":
            bits |= 0o1000
        elif letter != "X" or directory or mode & 0o111:
            bits |= sum({"r": 4, "w": 2, "x": 1, "X": 1}[letter] << shift for shift in shifts)
    if sign == "+":
        return mode | bits
    if sign == "-":
        return mode & ~bits
    return mode & ~sum(7 << shift for shift in shifts) | bits
