"""Stacked directories read as overlayfs would show them, without mounting anything. A leaf.

For whoever needs a file or a tree of an image, or of a container that does not run. The layers must not
change meanwhile: a running container's upper directory is in its own hands, so pause it first. What is
written is created by descriptors, never through a link.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

MAX_LINKS = 40  # as the kernel has it, path_resolution(7)
_KEPT = ("user.", "system.posix_acl_", "security.capability")
_OVERLAY = ("trusted.overlay.", "user.overlay.")


class Node(NamedTuple):
    """Something in the tree: its path there, the real places it is made of (topmost first), its status."""

    path: str
    places: tuple[str, ...]
    status: os.stat_result

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)


class Layered:
    """A tree made of overlays: (where it is in the tree, its directories from the topmost down)."""

    def __init__(self, overlays: Iterable[tuple[str, tuple[str, ...]]]) -> None:
        self._roots = {target.rstrip("/"): places for target, places in overlays}

    @property
    def root(self) -> Node:
        return self._directory("", list(self._roots[""]))

    def child(self, node: Node, name: str) -> Node | None:
        """What a directory holds under a name."""
        path = f"{node.path}/{name}"
        if path in self._roots:
            return self._directory(path, list(self._roots[path]))
        places: list[str] = []
        for place in node.places:
            here = f"{place}/{name}"
            try:
                status = os.lstat(here)
            except (FileNotFoundError, NotADirectoryError):
                continue
            if not stat.S_ISDIR(status.st_mode):
                if places or _is_whiteout(status):
                    break
                return Node(path, (here,), status)
            places.append(here)
            if _is_opaque(here):
                break
        return self._directory(path, places) if places else None

    def children(self, node: Node) -> Iterator[Node]:
        """Everything in a directory, by name."""
        names = {name for place in node.places for name in os.listdir(place)}
        names |= {
            path.rpartition("/")[2] for path in self._roots if path and path.rpartition("/")[0] == node.path
        }
        for name in sorted(names):
            if (found := self.child(node, name)) is not None:
                yield found

    def find(self, path: str, *, follow: bool = True) -> Node | None:
        """What is at `path`; links are resolved inside the tree, a last one unless `follow` is off.

        Raises OSError for a loop of links.
        """
        above: list[Node] = [self.root]
        parts = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        links = 0
        while parts:
            part = parts.pop()
            if part == "..":
                above = above[:-1] or above
                continue
            node = self.child(above[-1], part) if above[-1].is_directory else None
            if node is None:
                return None
            if stat.S_ISLNK(node.status.st_mode) and (parts or follow):
                links += 1
                if links > MAX_LINKS:
                    raise OSError(40, os.strerror(40), path)  # ELOOP
                target = os.readlink(node.places[0])
                if target.startswith("/"):
                    del above[1:]
                parts += [part for part in reversed(target.split("/")) if part not in ("", ".")]
                continue
            above.append(node)
        return above[-1]

    def _directory(self, path: str, places: list[str]) -> Node:
        return Node(path, tuple(places), os.lstat(places[0]))


def copy(tree: Layered, node: Node, target: int) -> None:
    """Copy a directory of the tree, its own owner, mode and times included, onto the open one `target`.

    Hard links stay links, attributes and devices are kept. Names that exist already raise OSError.
    """
    _copy_into(tree, node, target, target, "", {})


def copy_directories(tree: Layered, otherwise: Layered, paths: Iterable[str], target: Path) -> None:
    """Make empty ones below `target`, with owners, modes and times, of those `paths` that `tree` has.

    So are the directories on the way; what is not in `paths` follows `otherwise`.
    """
    wanted = set(paths)
    for path in sorted(wanted):
        node = tree.find(path, follow=False)
        if node is None or not node.is_directory:
            continue
        parts = path.split("/")
        for length in range(1, len(parts) + 1):
            here = "/".join(parts[:length])
            source = tree.find(here, follow=False) if here in wanted else otherwise.find(here, follow=False)
            if source is None or (target / here).exists():
                continue
            (target / here).mkdir()
            descriptor = os.open(target / here, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                _metadata(source, descriptor)
            finally:
                os.close(descriptor)


def _copy_into(
    tree: Layered, node: Node, top: int, target: int, below: str, seen: dict[tuple[int, int], str]
) -> None:
    for child in tree.children(node):
        name = child.path.rpartition("/")[2]
        if child.is_directory:
            os.mkdir(name, 0o700, dir_fd=target)
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=target)
            try:
                _copy_into(tree, child, top, inner, f"{below}{name}/", seen)
            finally:
                os.close(inner)
            continue
        identity = (child.status.st_dev, child.status.st_ino)
        if child.status.st_nlink > 1 and identity in seen:
            os.link(seen[identity], name, src_dir_fd=top, dst_dir_fd=target, follow_symlinks=False)
            continue
        seen[identity] = below + name
        _copy_one(child, name, target)
    _metadata(node, target)


def _copy_one(node: Node, name: str, target: int) -> None:
    mode, place = node.status.st_mode, node.places[0]
    if stat.S_ISREG(mode):
        from composer.syscalls import copy_content  # lazily: whoever only reads needs no ctypes

        source = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(name, flags, 0o600, dir_fd=target)
        try:
            copy_content(source, file)
            _metadata(node, file)
        finally:
            os.close(source)
            os.close(file)
    elif stat.S_ISLNK(mode):
        os.symlink(os.readlink(place), name, dir_fd=target)
        os.chown(name, node.status.st_uid, node.status.st_gid, dir_fd=target, follow_symlinks=False)
        os.utime(name, ns=_times(node), dir_fd=target, follow_symlinks=False)
    elif not stat.S_ISSOCK(mode):
        os.mknod(name, mode, node.status.st_rdev, dir_fd=target)
        os.chown(name, node.status.st_uid, node.status.st_gid, dir_fd=target, follow_symlinks=False)


def _metadata(node: Node, file: int) -> None:
    """Owner before mode and attributes: changing it clears set-uid and capabilities."""
    os.fchown(file, node.status.st_uid, node.status.st_gid)
    os.fchmod(file, stat.S_IMODE(node.status.st_mode))
    for name in os.listxattr(node.places[0], follow_symlinks=False):
        if name.startswith(_KEPT) and not name.startswith(_OVERLAY):
            os.setxattr(file, name, os.getxattr(node.places[0], name, follow_symlinks=False))
    os.utime(file, ns=_times(node))


def _times(node: Node) -> tuple[int, int]:
    return node.status.st_atime_ns, node.status.st_mtime_ns


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _is_opaque(place: str) -> bool:
    for prefix in _OVERLAY:
        try:
            if os.getxattr(place, f"{prefix}opaque", follow_symlinks=False) == b"y":
                return True
        except OSError:
            continue
    return False
