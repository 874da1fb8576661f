"""A container's root directory as a descriptor, whether it runs or not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from composer.api.context import Context
from composer.api.files import Ids
from composer.errors import ComposerError
from composer.record import ContainerRow

ALIVE = ("running", "paused")


@contextmanager
def root_of(context: Context, row: ContainerRow, path: str) -> Iterator[int]:
    """An open directory in which `path` can be looked up. What runs is seen as it sees itself, with its
    mounts; what does not, by a mount of its layers that nobody else sees and that ends with the descriptor.

    Raises ComposerError, also for a path that is on a mount that only a running container has.
    """
    path = os.path.normpath("/" + path.strip("/"))
    with ExitStack() as held:
        if row["state"] in ALIVE:
            yield held.enter_context(opened(row, [("", f"/proc/{row['pid']}/root")]))[""]
            return
        check_visible(row, path)
        layers = held.enter_context(stopped(context, row))
        on = max((target for target in layers if below(path, target)), key=len)
        if on:
            raise ComposerError(
                f"container {row['name']} does not run, and {on} is only put together then",
                hint=f"`composer start {row['service']}` first",
            )
        yield layers[""]


def ids_of(row: ContainerRow) -> Ids:
    """How owners are to be read in what `root_of` opened."""
    from composer.runtime.namespaces import root_of as first_id

    try:
        return Ids(first_id(row["pid"]) if row["state"] in ALIVE else 0)
    except OSError:
        raise ComposerError(f"container {row['name']} has just ended", hint="try again") from None


@contextmanager
def own_files(context: Context, row: ContainerRow) -> Iterator[tuple[dict[str, int], frozenset[str]]]:
    """Open directories by where they belong ("" is the root), and paths in them that are other mounts."""
    with ExitStack() as held:
        if row["state"] in ALIVE:
            root = held.enter_context(opened(row, [("", f"/proc/{row['pid']}/root")]))
            yield root, mounted(row["pid"])
        else:
            yield held.enter_context(stopped(context, row)), frozenset()


@contextmanager
def opened(row: ContainerRow, places: list[tuple[str, str]]) -> Iterator[dict[str, int]]:
    found: dict[str, int] = {}
    try:
        for target, path in places:
            found[target] = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        yield found
    except FileNotFoundError:
        raise ComposerError(f"container {row['name']} has just ended", hint="try again") from None
    finally:
        for descriptor in found.values():
            os.close(descriptor)


@contextmanager
def stopped(context: Context, row: ContainerRow) -> Iterator[dict[str, int]]:
    from composer.images.store import Store
    from composer.runtime.overlay import Overlay
    from composer.runtime.rootfs import open_root
    from composer.supervisor.furnish import layers
    from composer.volumes.snapshots import SnapshotStore

    image = Store(context.paths).find(row["image_id"])
    if image is None:
        hint = f"`composer pull` fetches {row['image']}"
        raise ComposerError(f"the image of container {row['name']} is no longer here", hint=hint)
    state = context.stack_paths.container_state(row["name"])
    snapshots = SnapshotStore(context.paths)
    layers(snapshots, state, image)
    found: dict[str, int] = {}
    try:
        for number, part in enumerate(image.root):
            upper, work, kept = snapshots.overlay(state, number)
            overlay = Overlay((*kept, *part.lowers), str(upper), str(work))
            found[part.target.rstrip("/")] = open_root("", "private", overlay, None)
        yield found
    finally:
        for descriptor in found.values():
            os.close(descriptor)


def mounted(pid: int) -> frozenset[str]:
    """Where a process has something mounted that is no part of its image, proc_pid_mountinfo(5)."""
    found = set()
    for line in Path(f"/proc/{pid}/mountinfo").read_text(errors="surrogateescape").splitlines():
        left, _, right = line.partition(" - ")
        if right.partition(" ")[0] != "overlay":
            found.add(left.split()[4].replace("\\040", " ").rstrip("/"))
    return frozenset(found - {""})


def below(path: str, target: str) -> bool:
    return path == target or path.startswith(f"{target}/")


def check_visible(row: ContainerRow, path: str) -> None:
    """Raises ComposerError for a path that is on a mount, which only a running container has."""
    for mount in row["mounts"]:
        target = os.path.normpath(mount["target"])
        if below(path, target):
            raise ComposerError(
                f"container {row['name']} does not run, and {target} is a {mount['type']} mounted there",
                hint=f"`composer start {row['service']}` first, or use {mount['source']} on this host",
            )
