"""The root directory: overlay or bind, /dev, masked and read-only paths, and the pivot into it.

What the host side prepares is `open_root`; everything else runs in the container's new namespaces, on a root
that is held by a descriptor, so that nothing depends on what path it has or who may walk there.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from composer.runtime import linux
from composer.runtime.errors import StepError
from composer.runtime.inroot import Root, closing
from composer.runtime.mounts import LONGEST_OPTION, idmap, new_filesystem

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


class Overlay(NamedTuple):
    """A root of layers: `lowers` from the topmost down; `upper` and `work` on one file system."""

    lowers: tuple[str, ...]
    upper: str
    work: str
    options: tuple[str, ...] = ()


class Owner(NamedTuple):
    """A user namespace that an overlay's layers are mapped by, and the host's ids of its root."""

    userns: int
    uid: int
    gid: int


def open_root(path: str, propagation: str, overlay: Overlay | None, owner: Owner | None) -> int:
    """Host side: the root as a mount that is attached nowhere. An overlay's layers are shown as `owner`'s."""
    if propagation not in _PROPAGATION:
        raise StepError("root", errno.EINVAL, path, f"rootfsPropagation {propagation!r} is not known")
    if overlay is not None:
        return _open_overlay(overlay, owner)
    mount = linux.open_tree(linux.AT_FDCWD, path, linux.OPEN_TREE_CLONE | linux.AT_RECURSIVE)
    if not stat.S_ISDIR(os.fstat(mount).st_mode):
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    if _PROPAGATION[propagation] not in (linux.MS_SHARED, linux.MS_SLAVE):
        linux.mount_setattr(mount, propagation=linux.MS_PRIVATE, recursive=True, path=path)
    return mount


def _open_overlay(overlay: Overlay, owner: Owner | None) -> int:
    """Layers are named by descriptor, relative to /proc/self/fd: short, any character, id-mapped or not."""
    with _workshop(owner):
        held = [_open_layer(path, owner) for path in overlay.lowers]
        above = os.path.commonpath((overlay.upper, overlay.work))
        # The kernel wants both below one mount.
        base = _open_layer(above, owner)
        upper, work = (
            linux.openat2(base, os.path.relpath(path, above), linux.O_PATH | os.O_DIRECTORY)
            for path in (overlay.upper, overlay.work)
        )
        os.chdir("/proc/self/fd")
        with _acting_as(owner), closing(linux.fsopen("overlay")) as context:
            for key, value in _lowerdir([str(descriptor) for descriptor in held]):
                linux.fsconfig(context, key, value)
            linux.fsconfig(context, "upperdir", str(upper))
            linux.fsconfig(context, "workdir", str(work))
            for word in overlay.options:
                key, equals, text = word.partition("=")
                linux.fsconfig(context, key, text if equals else None)
            mount = linux.fsmount(context, path=overlay.upper)
        for descriptor in (*held, base, upper, work):
            os.close(descriptor)
        return mount


@contextmanager
def _workshop(owner: Owner | None) -> Iterator[None]:
    """Where mapped layers can be attached, as overlay wants them to be before Linux 6.15; nobody sees it."""
    with closing(os.open(".", linux.O_PATH | os.O_CLOEXEC)) as directory:
        if owner is None:
            yield
        else:
            with closing(os.open("/", linux.O_PATH | os.O_CLOEXEC)) as root:
                with closing(os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)) as host:
                    linux.unshare(linux.CLONE_NEWNS)
                    linux.set_propagation("/", linux.MS_PRIVATE | linux.MS_REC)
                    yield
                    linux.setns(host, linux.CLONE_NEWNS)
                # It came with that one's root, which need not be ours.
                os.fchdir(root)
                os.chroot(".")
        os.fchdir(directory)


@contextmanager
def _acting_as(owner: Owner | None) -> Iterator[None]:
    """An overlay writes as whoever mounted it, who must exist in mapped layers. All capabilities stay."""
    if owner is None:
        yield
        return
    _, permitted, inheritable = linux.capget()
    os.setegid(owner.gid)
    os.seteuid(owner.uid)
    try:
        linux.capset(permitted, permitted, inheritable)
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def _open_layer(path: str, owner: Owner | None) -> int:
    if owner is None:
        return os.open(path, linux.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    layer = linux.open_tree(linux.AT_FDCWD, path, linux.OPEN_TREE_CLONE)
    idmap(layer, owner.userns, recursive=False, path=path)
    with closing(os.open("/", linux.O_PATH | os.O_CLOEXEC)) as anywhere:
        linux.move_mount(layer, anywhere, path)
    return layer


def _lowerdir(names: list[str]) -> Iterable[tuple[str, str]]:
    joined = ":".join(names)
    if len(joined) <= LONGEST_OPTION:
        return [("lowerdir", joined)]
    return [("lowerdir+", name) for name in names]  # one by one: Linux 6.7


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


def populate_dev(root: Root, devices: Iterable[Mapping[str, Any]], *, mknod: bool, own: bool) -> None:
    """Device nodes; and, where /dev is the container's `own`, the default ones and links.

    Without `mknod` (a user namespace may not) the host's nodes are bound, after a look at their numbers.
    """
    if own:
        for name, major, minor in _DEVICES:
            _device(root, f"/dev/{name}", stat.S_IFCHR | 0o666, os.makedev(major, minor), 0, 0, mknod)
        for path, target in _LINKS:
            root.make_link(path, target)
    for device in devices:
        kind = _KINDS.get(device["type"])
        if kind is None:
            raise StepError("devices", errno.EINVAL, device["path"], f"type {device['type']!r} is not known")
        number = os.makedev(device.get("major", 0), device.get("minor", 0)) if kind != stat.S_IFIFO else 0
        mode = kind | (device.get("fileMode", 0o666) & 0o7777)
        may = mknod or kind == stat.S_IFIFO
        _device(root, device["path"], mode, number, device.get("uid", 0), device.get("gid", 0), may)


def _device(root: Root, path: str, mode: int, number: int, uid: int, gid: int, mknod: bool) -> None:
    if mknod:
        try:
            root.make_node(path, mode, number, uid, gid)
        except OSError as error:
            raise OSError(error.errno, os.strerror(error.errno or 0), path) from error
        return
    node = linux.open_tree(linux.AT_FDCWD, path, linux.OPEN_TREE_CLONE)
    with closing(node), closing(root.ensure(path, directory=False)) as target:
        found = os.fstat(node)
        if (stat.S_IFMT(found.st_mode), found.st_rdev) != (stat.S_IFMT(mode), number):
            raise StepError("devices", errno.ENODEV, path, "the host has another device under this name")
        linux.move_mount(node, target, path)


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
