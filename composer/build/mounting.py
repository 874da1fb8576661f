"""A snapshot mounted as a container would see it, to be changed by one step; and what the step left. K.

Only for a process in a mount namespace of its own: whatever ends it, the mounts are gone.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from composer.build.snapshot import Snapshot
from composer.errors import ImageError
from composer.images.layers import overlay_prefix
from composer.runtime import linux
from composer.runtime.overlay import Overlay
from composer.runtime.rootfs import open_root

OPTIONS = ("redirect_dir=off", "metacopy=off", "index=off", "volatile")
"""A layer must hold whole files under their own names. It is synced when an image is made of it, not before:
what a step itself syncs would be lost in a crash together with the step."""


def alone() -> None:
    """Give this process a mount namespace of its own. Raises ImageError without the privilege."""
    if os.geteuid() != 0:
        raise ImageError("steps that change files need root", hint="run the build as root")
    linux.unshare(linux.CLONE_NEWNS)
    linux.set_propagation("/", linux.MS_PRIVATE | linux.MS_REC)


@contextmanager
def mounted(snapshot: Snapshot, place: Path) -> Iterator[Path]:
    """The tree at `place`/root, writable; what is written goes to `place`/upper0 and so on."""
    root = place / "root"
    root.mkdir()
    points: list[Path] = []
    try:
        for number, overlay in enumerate(snapshot.overlays()):
            upper, work = place / f"upper{number}", place / f"work{number}"
            upper.mkdir()
            work.mkdir()
            like(overlay.lowers[0], upper)
            mount = open_root("", "", Overlay(overlay.lowers, str(upper), str(work), OPTIONS), None)
            point = root / overlay.target.strip("/")
            target = os.open(point, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                linux.move_mount(mount, target, str(point))
            finally:
                os.close(mount)
                os.close(target)
            points.append(point)
        yield root
    finally:
        for point in reversed(points):
            linux.umount(str(point), linux.MNT_DETACH)


def like(source: str, target: Path) -> None:
    """Give an empty directory the owner, mode and times of another."""
    status = os.stat(source)
    os.chown(target, status.st_uid, status.st_gid)
    shutil.copystat(source, target)


def harvest(snapshot: Snapshot, place: Path, touched: Iterable[str] = ()) -> Path:
    """One upper directory of all that was written, when the tree is not mounted any more.

    `touched` are directories that only making room for mounts has copied up: they go when nothing is in them.
    """
    upper = place / "upper0"
    for number, overlay in enumerate(snapshot.base):
        part = place / f"upper{number}"
        if number and (any(part.iterdir()) or _is_opaque(part)):
            target = upper / overlay.target.strip("/")
            if target.is_dir():
                target.rmdir()
            part.rename(target)
    tree = snapshot.tree()
    for path in sorted(set(touched), key=len, reverse=True):
        made, was = upper / path.strip("/"), tree.find(path, follow=False)
        if path.strip("/") and was and made.is_dir() and not any(made.iterdir()) and not _is_opaque(made):
            now = made.stat()
            same = (now.st_mode, now.st_uid, now.st_gid)
            if same == (was.status.st_mode, was.status.st_uid, was.status.st_gid):
                made.rmdir()
    return upper


def _is_opaque(directory: Path) -> bool:
    try:
        return os.getxattr(directory, f"{overlay_prefix()}opaque") == b"y"
    except OSError:
        return False
