"""Overlays: the root's layers, and whatever else a specification wants of this type.

They are made with the host's rights, also for a container in a user namespace of its own: there the layers
are shown by id-mapped mounts, so that files keep their owners on disk.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

from composer.runtime import linux
from composer.runtime.inroot import closing
from composer.runtime.users import acting_as

LONGEST_OPTION = 255  # of fsconfig(2), without the final zero
_LAYERS = ("lowerdir", "upperdir", "workdir")


class Overlay(NamedTuple):
    """Layers: `lowers` from the topmost down; `upper` and `work` on one file system, or "" for read-only."""

    lowers: tuple[str, ...]
    upper: str = ""
    work: str = ""
    options: tuple[str, ...] = ()


class Owner:
    """The root of a container's user namespace, as the host sees it; and the room to make mounts for it."""

    def __init__(self, userns: int, uid: int, gid: int) -> None:
        self.userns = userns
        self.uid = uid
        self.gid = gid
        self._shop: tuple[int, int] | None = None

    @contextmanager
    def workshop(self) -> Iterator[None]:
        """Where `loose` mounts are not enough: a mount namespace that nobody sees, to attach them in.

        Always the same one; "/" is the caller's in there, too.
        """
        if loose():
            yield
            return
        home = _where()
        if self._shop:
            _go(self._shop)
        else:
            linux.unshare(linux.CLONE_NEWNS)
            linux.set_propagation("/", linux.MS_PRIVATE | linux.MS_REC)
            self._shop = _where()
        try:
            yield
        finally:
            _go(home)
            for descriptor in home:
                os.close(descriptor)

    def close(self) -> None:
        for descriptor in self._shop or ():
            os.close(descriptor)
        self._shop = None


_loose: list[bool] = []


def loose() -> bool:
    """Whether mounts that are attached nowhere can be copied, and be layers: Linux 6.15. Asked once."""
    if not _loose:
        with closing(linux.fsopen("tmpfs")) as context, closing(linux.fsmount(context)) as mount:
            try:
                os.close(linux.open_tree(mount, "", linux.OPEN_TREE_CLONE | linux.AT_EMPTY_PATH))
                _loose.append(True)
            except OSError:
                _loose.append(False)
    return _loose[0]


def _where() -> tuple[int, int]:
    """This process's mount namespace and root directory."""
    flags = os.O_RDONLY | os.O_CLOEXEC
    return os.open("/proc/self/ns/mnt", flags), os.open("/", linux.O_PATH | os.O_CLOEXEC)


def _go(where: tuple[int, int]) -> None:
    namespace, root = where
    linux.setns(namespace, linux.CLONE_NEWNS)
    # It comes with the namespace's own root, which need not be the one.
    os.fchdir(root)
    os.chroot(".")


def from_options(data: Iterable[tuple[str, str | None]], bundle: str) -> Overlay:
    """What the options of an overlay mount say. In `lowerdir` a backslash stands before colons of names."""
    given = [(key, value or "") for key, value in data]
    layers = {key: value for key, value in given if key in _LAYERS}
    paths = re.split(r"(?<!\\):", layers["lowerdir"]) if layers.get("lowerdir") else []
    upper, work = (os.path.join(bundle, layers[key]) if key in layers else "" for key in _LAYERS[1:])
    rest = tuple(f"{key}={value}" if value else key for key, value in given if key not in _LAYERS)
    lowers = tuple(os.path.join(bundle, re.sub(r"\\(.)", r"\1", path)) for path in paths)
    return Overlay(lowers, upper, work, rest)


def open_overlay(overlay: Overlay, owner: Owner | None) -> int:
    """Mounted, attached nowhere. Raises OSError."""
    with closing(os.open(".", linux.O_PATH | os.O_CLOEXEC)) as directory:
        with owner.workshop() if owner else nullcontext():
            mount = _mounted(overlay, owner)
        os.fchdir(directory)
    return mount


def _mounted(overlay: Overlay, owner: Owner | None) -> int:
    """Layers are named by descriptor, relative to /proc/self/fd: short, any character, id-mapped or not."""
    held = [_open_layer(path, owner) for path in overlay.lowers]
    options = [*_lowerdir([str(descriptor) for descriptor in held])]
    if overlay.upper:
        # The kernel wants both below one mount.
        above = os.path.commonpath((overlay.upper, overlay.work))
        base = _open_layer(above, owner)
        upper, work = (
            linux.openat2(base, os.path.relpath(path, above), linux.O_PATH | os.O_DIRECTORY)
            for path in (overlay.upper, overlay.work)
        )
        options += [("upperdir", str(upper)), ("workdir", str(work))]
        held += [base, upper, work]
    os.chdir("/proc/self/fd")
    # An overlay writes as whoever mounted it, who must exist in mapped layers.
    actor = acting_as(owner.uid, owner.gid) if owner else nullcontext()
    with actor, closing(linux.fsopen("overlay")) as context:
        for key, value in options:
            linux.fsconfig(context, key, value)
        for word in overlay.options:
            key, equals, text = word.partition("=")
            linux.fsconfig(context, key, text if equals else None)
        mount = linux.fsmount(context, path=overlay.upper or "".join(overlay.lowers[:1]))
    for descriptor in held:
        os.close(descriptor)
    return mount


def idmap(mount: int, userns: int, *, recursive: bool, path: str) -> None:
    """Show the owners of files as the user namespace maps them (mount_setattr(2), "ID-mapped mounts")."""
    linux.mount_setattr(mount, on=linux.MOUNT_ATTR_IDMAP, userns=userns, recursive=recursive, path=path)


def _open_layer(path: str, owner: Owner | None) -> int:
    if owner is None:
        return os.open(path, linux.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    layer = linux.open_tree(linux.AT_FDCWD, path, linux.OPEN_TREE_CLONE)
    idmap(layer, owner.userns, recursive=False, path=path)
    if loose():
        return layer
    with closing(os.open("/", linux.O_PATH | os.O_CLOEXEC)) as anywhere:
        linux.move_mount(layer, anywhere, path)
    return layer


def _lowerdir(names: list[str]) -> Iterable[tuple[str, str]]:
    joined = ":".join(names)
    if len(joined) <= LONGEST_OPTION:
        return [("lowerdir", joined)]
    return [("lowerdir+", name) for name in names]  # one by one: Linux 6.7
