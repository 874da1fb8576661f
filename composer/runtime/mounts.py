"""Mounts as data: what the specification asks for becomes a list of operations, which are then carried out.

`operations` is pure. Each operation works in two halves: `open` runs with the host's view and rights (bind
sources, id-mapping), `attach` inside the container's new namespaces. Between them a mount is a descriptor,
attached nowhere; so no path of the container is ever read with the host's eyes, or the other way round.

https://github.com/opencontainers/runtime-spec/blob/v1.2.0/config.md#linux-mount-options
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from composer.runtime import linux
from composer.runtime.copyup import copy_tree
from composer.runtime.errors import StepError
from composer.runtime.inroot import Root, closing
from composer.runtime.overlay import Overlay, Owner, from_options, idmap, open_overlay

_ATIME = linux.MOUNT_ATTR__ATIME
# word: (attributes to set, attributes to clear). Each exists with an "r" before it, for the whole tree.
_ATTRIBUTES = {
    "ro": (linux.MOUNT_ATTR_RDONLY, 0),
    "rw": (0, linux.MOUNT_ATTR_RDONLY),
    "nosuid": (linux.MOUNT_ATTR_NOSUID, 0),
    "suid": (0, linux.MOUNT_ATTR_NOSUID),
    "nodev": (linux.MOUNT_ATTR_NODEV, 0),
    "dev": (0, linux.MOUNT_ATTR_NODEV),
    "noexec": (linux.MOUNT_ATTR_NOEXEC, 0),
    "exec": (0, linux.MOUNT_ATTR_NOEXEC),
    "nodiratime": (linux.MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, linux.MOUNT_ATTR_NODIRATIME),
    "nosymfollow": (linux.MOUNT_ATTR_NOSYMFOLLOW, 0),
    "symfollow": (0, linux.MOUNT_ATTR_NOSYMFOLLOW),
    "noatime": (linux.MOUNT_ATTR_NOATIME, _ATIME),
    "strictatime": (linux.MOUNT_ATTR_STRICTATIME, _ATIME),
    # All of these mean the kernel's default, relatime, which is the absence of the other two.
    "atime": (linux.MOUNT_ATTR_RELATIME, _ATIME),
    "relatime": (linux.MOUNT_ATTR_RELATIME, _ATIME),
    "norelatime": (linux.MOUNT_ATTR_RELATIME, _ATIME),
    "nostrictatime": (linux.MOUNT_ATTR_RELATIME, _ATIME),
}
_PROPAGATION = {
    "private": linux.MS_PRIVATE,
    "slave": linux.MS_SLAVE,
    "shared": linux.MS_SHARED,
    "unbindable": linux.MS_UNBINDABLE,
}
# Of the whole file system, not of one mount: the kernel takes the words themselves.
_SUPERBLOCK = ("async", "dirsync", "lazytime", "mand", "nolazytime", "nomand", "sync")
# The kernel counts versions where it can, and "silent" and "loud" are only about its own messages.
_NO_EFFECT = ("defaults", "iversion", "noiversion", "silent", "loud")
_SWITCHES = {
    "bind": ("bind", 1),
    "rbind": ("bind", 2),
    "remount": ("remount", 1),
    "tmpcopyup": ("copyup", 1),
    "idmap": ("idmap", 1),
    "ridmap": ("idmap", 2),
}
WORDS = tuple(
    sorted(
        {*_ATTRIBUTES, *("r" + word for word in _ATTRIBUTES), *_PROPAGATION, *("r" + w for w in _PROPAGATION)}
        | {*_SUPERBLOCK, *_NO_EFFECT, *_SWITCHES}
    )
)
_FOREIGN = re.compile(r"/proc/(\d+)/root(/.+)")


class Options(NamedTuple):
    """What the words of `options` come to. `bind`, `idmap`: 0 no, 1 this mount, 2 the whole tree."""

    bind: int = 0
    remount: int = 0
    copyup: int = 0
    idmap: int = 0
    attributes: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))  # (set, clear): one mount, tree
    propagation: tuple[tuple[int, bool], ...] = ()  # type, recursive
    data: tuple[tuple[str, str | None], ...] = ()  # for the file system


def parse(words: Iterable[str]) -> Options:
    """The option words of one mount; later words win over earlier ones."""
    switches = {"bind": 0, "remount": 0, "copyup": 0, "idmap": 0}
    attributes = [(0, 0), (0, 0)]
    propagation: list[tuple[int, bool]] = []
    data: list[tuple[str, str | None]] = []
    for word in words:
        tree = word not in _ATTRIBUTES and word not in _PROPAGATION and word.startswith("r")
        plain = word[1:] if tree else word
        if word in _SWITCHES:
            name, value = _SWITCHES[word]
            switches[name] = value
        elif plain in _ATTRIBUTES:
            on, off = _ATTRIBUTES[plain]
            was_on, was_off = attributes[tree]
            attributes[tree] = (was_on & ~off | on, was_off & ~on | off)
        elif plain in _PROPAGATION:
            propagation.append((_PROPAGATION[plain], tree))
        elif word not in _NO_EFFECT:
            key, equals, value_text = word.partition("=")
            data.append((key, value_text if equals else None))
    return Options(
        **switches,
        attributes=(attributes[0], attributes[1]),
        propagation=tuple(propagation),
        data=tuple(data),
    )


class Host(NamedTuple):
    """What `open` may ask of the host side."""

    userns: Callable[[Any, Any], int]  # (uid mappings, gid mappings) → descriptor of such a namespace
    owner: Owner | None  # by whom the layers of overlays are shown
    groups: Mapping[str, str]  # cgroup hierarchy's mount point → the container's directory in it
    unified: str  # the mount point of cgroup v2; "" without


class Operation:
    """One mount on its way. `mount` is its descriptor between the two halves."""

    def __init__(self, destination: str, options: Options) -> None:
        self.destination = destination
        self.options = options
        self.mount = -1

    def held(self) -> list[int]:
        """The descriptors between the two halves."""
        return [self.mount] if self.mount >= 0 else []

    def open(self, host: Host) -> None:
        """Host side: open what only the host can see."""

    def attach(self, root: Root) -> None:
        """Container side: make the mount and attach it at its destination."""
        raise NotImplementedError

    def _finish(self, root: Root, *, directory: bool) -> None:
        """Apply the attributes while nobody can see the mount, then attach it."""
        set_attributes(self.mount, self.options, self.destination)
        with closing(root.ensure(self.destination, directory=directory)) as target:
            _refuse_inside_proc(target, self.mount, self.destination)
            linux.move_mount(self.mount, target, self.destination)
        os.close(self.mount)
        self.mount = -1


def open_copy(source: str, flags: int) -> int:
    """A detached copy of a mount, also of one in another container's namespace (`/proc/PID/root/…`).

    The kernel copies only mounts of the namespace one is in, open_tree(2): it is entered for that one call.
    """
    foreign = _FOREIGN.fullmatch(source)
    if not foreign:
        return linux.open_tree(linux.AT_FDCWD, source, flags)
    with (
        closing(os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)) as here,
        closing(os.open(f"/proc/{foreign[1]}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)) as there,
    ):
        linux.setns(there, linux.CLONE_NEWNS)
        try:
            return linux.open_tree(linux.AT_FDCWD, foreign[2], flags)
        finally:
            linux.setns(here, linux.CLONE_NEWNS)


class Bind(Operation):
    """A tree of the host, or of the bundle."""

    def __init__(self, destination: str, options: Options, source: str, mappings: Any) -> None:
        super().__init__(destination, options)
        self.source = source
        self.mappings = mappings

    def open(self, host: Host) -> None:
        tree = linux.AT_RECURSIVE if self.options.bind == 2 else 0
        self.mount = open_copy(self.source, linux.OPEN_TREE_CLONE | tree)
        if self.mappings:
            idmap(
                self.mount, host.userns(*self.mappings), recursive=self.options.idmap == 2, path=self.source
            )
        kinds = {kind for kind, _ in self.options.propagation}
        if linux.MS_SHARED not in kinds:
            kind = linux.MS_SLAVE if kinds else linux.MS_PRIVATE
            linux.mount_setattr(self.mount, propagation=kind, recursive=True, path=self.source)

    def attach(self, root: Root) -> None:
        self._finish(root, directory=stat.S_ISDIR(os.fstat(self.mount).st_mode))


class Filesystem(Operation):
    """A file system of its own: proc, sysfs, tmpfs, devpts, mqueue, …"""

    def __init__(self, destination: str, options: Options, fstype: str, source: str) -> None:
        super().__init__(destination, options)
        self.fstype = fstype
        self.source = source

    def attach(self, root: Root) -> None:
        self.mount = new_filesystem(self.fstype, self.source, self.options.data, self.destination)
        if self.options.copyup:
            _copy_up(root, self.destination, self.mount)
        self._finish(root, directory=True)


class Layers(Operation):
    """An overlay: the host's layers, so the host's rights make it."""

    def __init__(self, destination: str, options: Options, overlay: Overlay) -> None:
        super().__init__(destination, options)
        self.overlay = overlay

    def open(self, host: Host) -> None:
        self.mount = open_overlay(self.overlay, host.owner)

    def attach(self, root: Root) -> None:
        self._finish(root, directory=True)


class Cgroup(Operation):
    """The container's own groups: one tree with v2 alone, or if only that is asked for (`cgroup2`), else a
    tmpfs with one directory per hierarchy.
    """

    def __init__(self, destination: str, options: Options, fstype: str) -> None:
        super().__init__(destination, options)
        self.trees: list[tuple[str, int]] = []
        self.alone = fstype == "cgroup2"

    def held(self) -> list[int]:
        return [tree for _, tree in self.trees]

    def open(self, host: Host) -> None:
        if self.alone and not host.unified:
            raise StepError("mounts", errno.ENODEV, self.destination, "there is no cgroup v2 here")
        self.alone = self.alone or [*host.groups] == [host.unified]
        for mountpoint, directory in host.groups.items():
            if self.alone and mountpoint != host.unified:
                continue
            tree = linux.open_tree(linux.AT_FDCWD, directory, linux.OPEN_TREE_CLONE)
            linux.mount_setattr(tree, propagation=linux.MS_PRIVATE, path=directory)
            self.trees.append((os.path.basename(mountpoint), tree))

    def attach(self, root: Root) -> None:
        if self.alone:
            ((_, self.mount),) = self.trees
            self._finish(root, directory=True)
            return
        top = new_filesystem("tmpfs", "cgroup", (("mode", "755"),), self.destination)
        with closing(top):
            with closing(root.ensure(self.destination, directory=True)) as target:
                linux.move_mount(top, target, self.destination)
            for name, tree in self.trees:
                self._attach_one(name, tree, top)
            set_attributes(top, self.options, self.destination)

    def _attach_one(self, name: str, tree: int, top: int) -> None:
        """In our own tmpfs there is nothing to resolve."""
        set_attributes(tree, self.options, self.destination)
        os.mkdir(name, dir_fd=top)
        with closing(os.open(name, linux.O_PATH | os.O_CLOEXEC, dir_fd=top)) as target:
            linux.move_mount(tree, target, f"{self.destination}/{name}")
        os.close(tree)
        for controller in name.split(","):
            if controller != name:
                os.symlink(name, controller, dir_fd=top)


class Remount(Operation):
    """New attributes for what is mounted at the destination already."""

    def attach(self, root: Root) -> None:
        with closing(root.open(self.destination)) as target:
            set_attributes(target, self.options, self.destination)


def operations(spec: Mapping[str, Any], bundle: str) -> list[Operation]:
    """The mounts of an OCI specification, in its order. Relative sources are relative to `bundle`."""
    linux_part = spec.get("linux") or {}
    own = (linux_part.get("uidMappings"), linux_part.get("gidMappings"))
    label = linux_part.get("mountLabel")
    return [_operation(mount, bundle, own, label) for mount in spec.get("mounts") or ()]


def _operation(mount: Mapping[str, Any], bundle: str, own: tuple[Any, Any], label: str | None) -> Operation:
    destination = mount["destination"]
    if not destination.startswith("/"):
        raise StepError("mounts", errno.EINVAL, destination, "a mount's destination must be absolute")
    options = parse(mount.get("options") or ())
    fstype, source = mount.get("type") or "", mount.get("source") or ""
    if options.remount:
        return Remount(destination, options)
    if fstype == "bind" or options.bind:
        mappings: Any = (mount.get("uidMappings"), mount.get("gidMappings"))
        if not all(mappings):
            mappings = own if options.idmap else ()
        if options.idmap and not all(mappings):
            raise StepError("mounts", errno.EINVAL, destination, "idmap needs mappings, here or in linux")
        return Bind(destination, options, os.path.join(bundle, source), mappings)
    if mount.get("uidMappings") or mount.get("gidMappings") or options.idmap:
        raise StepError("mounts", errno.EINVAL, destination, "only bind mounts can be id-mapped")
    if fstype in ("cgroup", "cgroup2"):
        return Cgroup(destination, options, fstype)
    if not fstype:
        raise StepError("mounts", errno.EINVAL, destination, "neither a type nor the option bind is given")
    if label:
        options = options._replace(data=(*options.data, ("context", label)))
    if fstype == "overlay":
        return Layers(destination, options, from_options(options.data, bundle))
    return Filesystem(destination, options, fstype, source or fstype)


def new_filesystem(fstype: str, source: str, data: Iterable[tuple[str, str | None]], path: str) -> int:
    """A new instance of a file system, mounted but attached nowhere."""
    with closing(linux.fsopen(fstype)) as context:
        linux.fsconfig(context, "source", source)
        for key, value in data:
            linux.fsconfig(context, key, value)
        return linux.fsmount(context, path=path)


def set_attributes(mount: int, options: Options, path: str) -> None:
    for (on, off), recursive in zip(options.attributes, (False, True), strict=True):
        if on or off:
            linux.mount_setattr(mount, on=on, off=off, recursive=recursive, path=path)
    for kind, recursive in options.propagation:
        linux.mount_setattr(mount, propagation=kind, recursive=recursive, path=path)


# What engines (lxcfs) rightly put over files of /proc; anything else there would fool the kernel's readers.
_PROC_FILES = {
    f"/proc/{name}"
    for name in ("cpuinfo", "diskstats", "meminfo", "stat", "swaps", "uptime", "loadavg", "slabinfo")
} | {"/proc/net/dev", "/proc/sys/kernel/ns_last_pid", "/proc/sys/crypto/fips_enabled"}


def _refuse_inside_proc(target: int, mount: int, destination: str) -> None:
    """A mount over /proc would let an image or volume pose as the kernel (CVE-2019-16884, CVE-2023-27561)."""
    if linux.filesystem_magic(target) != linux.PROC_SUPER_MAGIC:
        return
    if destination in _PROC_FILES or linux.filesystem_magic(mount) == linux.PROC_SUPER_MAGIC:
        return
    raise StepError("mounts", errno.EPERM, destination, "nothing may be mounted inside /proc")


def _copy_up(root: Root, destination: str, mount: int) -> None:
    """Fill a new tmpfs with what it is about to cover."""
    try:
        below = root.open(destination, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    with closing(below), closing(os.open(".", flags, dir_fd=mount)) as top:
        copy_tree(below, top)
