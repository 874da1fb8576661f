"""The root directory: overlay or bind, /dev, masked and read-only paths, and the pivot into it.

What the host side prepares is `open_root`; everything else runs in the container's new namespaces, on a root
that is held by a descriptor, so that nothing depends on what path it has or who may walk there.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from composer.runtime import linux
from composer.runtime.errors import StepError
from composer.runtime.inroot import Root, closing
from composer.runtime.mounts import new_filesystem
from composer.runtime.overlay import Overlay, Owner, loose, open_overlay

_PROPAGATION = {
    "": linux.MS_PRIVATE,
    "private": linux.MS_PRIVATE,
    "rprivate": linux.MS_PRIVATE,
    "slave": linux.MS_SLAVE,
    "rslave": linux.MS_SLAVE,
    "shared": linux.MS_SHARED,
    "rshared": linux.MS_SHARED,
    "unbindable": linux.MS_UNBINDABLE,
    "runbindable": linux.MS_UNBINDABLE,
}

# https://github.com/opencontainers/runtime-spec/blob/v1.2.0/config-linux.md#default-devices
_DEVICES = (
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
)
_LINKS = (
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
)
_KINDS = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}


def open_root(path: str, propagation: str, overlay: Overlay | None, owner: Owner | None) -> int:
    """Host side: the root as a mount that is attached nowhere. An overlay's layers are shown as `owner`'s."""
    if propagation not in _PROPAGATION:
        raise StepError("root", errno.EINVAL, path, f"rootfsPropagation {propagation!r} is not known")
    if overlay is not None:
        return open_overlay(overlay, owner)
    mount = linux.open_tree(linux.AT_FDCWD, path, linux.OPEN_TREE_CLONE | linux.AT_RECURSIVE)
    if not stat.S_ISDIR(os.fstat(mount).st_mode):
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    # Never the host's peer: what is mounted in it would be so on the host. "shared" makes a group of its own.
    kind = linux.MS_SLAVE if _PROPAGATION[propagation] == linux.MS_SLAVE else linux.MS_PRIVATE
    linux.mount_setattr(mount, propagation=kind, recursive=True, path=path)
    return mount


def cover(mount: int) -> Root:
    """Attach the root over "/" of this mount namespace, from where `pivot` will make it the only one."""
    linux.set_propagation("/", linux.MS_SLAVE | linux.MS_REC)
    with closing(os.open("/", linux.O_PATH | os.O_CLOEXEC)) as target:
        linux.move_mount(mount, target, "/")
    return Root(mount)


def pivot(root: Root, propagation: str) -> None:
    """Make the root "/" and let go of the host's tree, pivot_root(2) "pivot_root(".", ".")"."""
    os.fchdir(root.descriptor)
    linux.pivot_root(".", ".")
    linux.umount(".", linux.MNT_DETACH)
    os.chdir("/")
    kind = _PROPAGATION[propagation]
    if kind != linux.MS_PRIVATE:
        linux.set_propagation("/", kind | (linux.MS_REC if propagation.startswith("r") else 0))


def leave(root: Root, propagation: str, outside: int) -> Root:
    """For a container in the host's mount namespace: return there, and chroot(2) into a copy of the tree.

    The copy is attached nowhere, so nothing stays on the host: it goes with the last process that is in it.
    """
    tree = linux.open_tree(
        root.descriptor, "", linux.OPEN_TREE_CLONE | linux.AT_RECURSIVE | linux.AT_EMPTY_PATH
    )
    linux.mount_setattr(tree, propagation=_PROPAGATION[propagation], recursive=True, path="/")
    linux.setns(outside, linux.CLONE_NEWNS)
    os.fchdir(tree)
    os.chroot(".")
    return Root(tree)


class Node(NamedTuple):
    """A device node or fifo: `mode` with its type, `number` as os.makedev has it."""

    path: str
    mode: int
    number: int = 0
    uid: int = 0
    gid: int = 0


def nodes(devices: Iterable[Mapping[str, Any]], *, own: bool) -> list[Node]:
    """What a container is to have; with the default ones where /dev is its `own`. Raises StepError.

    Of several with one path, as `/dev/urandom:/dev/random` beside the default one, the last counts.
    """
    found = {
        f"/dev/{name}": Node(f"/dev/{name}", stat.S_IFCHR | 0o666, os.makedev(major, minor))
        for name, major, minor in _DEVICES
        if own
    }
    for device in devices:
        path, kind = os.path.normpath(device["path"]), _KINDS.get(device["type"])
        if kind is None:
            raise StepError("devices", errno.EINVAL, path, f"type {device['type']!r} is not known")
        number = os.makedev(device.get("major", 0), device.get("minor", 0)) if kind != stat.S_IFIFO else 0
        mode = kind | (device.get("fileMode", 0o666) & 0o7777)
        found[path] = Node(path, mode, number, device.get("uid", 0), device.get("gid", 0))
    return list(found.values())


def open_nodes(wanted: Iterable[Node], owner: Owner, host_id: Callable[[str, int], int]) -> dict[str, int]:
    """Host side, for a user namespace, where nobody may make nodes: mounts of nodes of this very owner.

    `host_id` says the host's id of one in the container. Whoever may not make nodes here either binds the
    host's, after a look at their numbers.
    """
    opened: dict[str, int] = {}
    with owner.workshop(), closing(new_filesystem("tmpfs", "devices", (("mode", "755"),), "/dev")) as place:
        if not loose():
            with closing(os.open("/", linux.O_PATH | os.O_CLOEXEC)) as anywhere:
                linux.move_mount(place, anywhere, "/dev")
        for number, node in enumerate(wanted):
            if stat.S_ISFIFO(node.mode) or node.path in opened:
                continue
            name = str(number)
            try:
                os.mknod(name, node.mode, node.number, dir_fd=place)
            except PermissionError:
                opened[node.path] = _node_of_host(node)
                continue
            os.chown(name, host_id("uid", node.uid), host_id("gid", node.gid), dir_fd=place)
            os.chmod(name, stat.S_IMODE(node.mode), dir_fd=place)
            opened[node.path] = linux.open_tree(place, name, linux.OPEN_TREE_CLONE)
    return opened


def _node_of_host(node: Node) -> int:
    mount = linux.open_tree(linux.AT_FDCWD, node.path, linux.OPEN_TREE_CLONE)
    found = os.fstat(mount)
    if (stat.S_IFMT(found.st_mode), found.st_rdev) != (stat.S_IFMT(node.mode), node.number):
        raise StepError("devices", errno.ENODEV, node.path, "the host has another device under this name")
    return mount


def populate_dev(root: Root, wanted: Iterable[Node], opened: Mapping[str, int], *, own: bool) -> None:
    """Device nodes, made or, if they were `opened` before, attached; the usual links in a /dev of its own."""
    for node in wanted:
        if node.path in opened:
            with closing(root.ensure(node.path, directory=False)) as target:
                linux.move_mount(opened[node.path], target, node.path)
            continue
        try:
            root.make_node(node.path, node.mode, node.number, node.uid, node.gid)
        except OSError as error:
            raise OSError(error.errno, os.strerror(error.errno or 0), node.path) from error
    for path, target_path in _LINKS if own else ():
        root.make_link(path, target_path)


def mask(root: Root, paths: Iterable[str]) -> None:
    """Make paths read as nothing: files as the null device, directories empty. Absent paths stay absent.

    Before the pivot: the null device is the host's, looked at, never the container's.
    """
    with closing(os.open("/dev/null", linux.O_PATH | os.O_CLOEXEC)) as null:
        found = os.fstat(null)
        if not stat.S_ISCHR(found.st_mode) or found.st_rdev != os.makedev(1, 3):
            raise StepError("masked paths", errno.ENODEV, "/dev/null", "is not the null device")
        empty = -1
        for path in paths:
            try:
                target = root.open(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            with closing(target):
                if not stat.S_ISDIR(os.fstat(target).st_mode):
                    cover_with = _copy(null)
                elif empty >= 0:
                    cover_with = _copy(empty)
                else:
                    cover_with = empty = new_filesystem("tmpfs", "tmpfs", (("nr_inodes", "2"),), path)
                    linux.mount_setattr(empty, on=linux.MOUNT_ATTR_RDONLY, path=path)
                linux.move_mount(cover_with, target, path)
                if cover_with != empty:
                    os.close(cover_with)
        if empty >= 0:
            os.close(empty)


def _copy(mount: int) -> int:
    return linux.open_tree(mount, "", linux.OPEN_TREE_CLONE | linux.AT_EMPTY_PATH)


def protect(root: Root, paths: Iterable[str]) -> None:
    """Make paths, and all that is mounted below them, read-only. Absent ones stay so."""
    for path in paths:
        try:
            target = root.open(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        with closing(target):
            flags = linux.OPEN_TREE_CLONE | linux.AT_RECURSIVE | linux.AT_EMPTY_PATH
            with closing(linux.open_tree(target, "", flags)) as copy:
                linux.mount_setattr(copy, on=linux.MOUNT_ATTR_RDONLY, recursive=True, path=path)
                linux.move_mount(copy, target, path)
