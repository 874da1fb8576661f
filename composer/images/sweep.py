"""House-keeping of the store: mark what the index leads to, remove the rest; check every byte."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from composer.errors import ImageError
from composer.value import Value

if TYPE_CHECKING:
    from composer.images.store import Store


class Swept(Value):
    """What went: the ids of images, the digests of blobs and layers, and the bytes that became free."""

    images: tuple[str, ...]
    deleted: tuple[str, ...]
    freed: int


class Usage(Value):
    """Bytes: archives as kept, layers unpacked (by the size of their archives), and what a prune could
    free.
    """

    images: int
    active: int
    blobs: int
    layers: int
    reclaimable: int


def prune(store: Store, all_: bool, keep_size: int | None, in_use: Collection[str]) -> Swept:
    """See Store.prune."""
    summaries = store.summaries()
    doomed = {s.id for s in summaries if s.id not in in_use and (not s.names or (all_ and keep_size is None))}
    if keep_size is not None:
        rest = [s for s in summaries if s.id not in doomed]
        total = sum(s.size + s.stored for s in rest)
        for summary in sorted(rest, key=lambda s: s.used):
            if total <= keep_size:
                break
            if summary.id not in in_use:
                doomed.add(summary.id)
                total -= summary.size + summary.stored
    if doomed:
        with store.layout.changing() as entries:
            entries[:] = [entry for entry in entries if entry["annotations"]["composer.id"] not in doomed]
    swept = sweep(store, in_use, partial=True)
    return swept.replace(images=tuple(sorted(doomed)))


def sweep(store: Store, in_use: Collection[str], *, partial: bool) -> Swept:
    """Remove every blob and layer that no entry of the index leads to; with `partial`, broken downloads too.

    Without `partial` it is not worth waiting for a long pull of somebody else: the next prune sweeps.
    """
    with store.layout.sweeping(wait=partial) as held:
        if not held:
            return Swept((), (), 0)
        blobs, layers = marked(store, in_use)
        deleted, freed = [], 0
        for diff_id in [d for d in store.unpacked.ids() if d not in layers]:
            freed += store.unpacked.delete(diff_id)
            deleted.append(diff_id)
        for digest in [d for d in store.layout.digests() if d not in blobs]:
            freed += store.layout.delete(digest)
            deleted.append(digest)
        if partial:
            store.layout.sweep_partial()
            store.unpacked.sweep_unfinished()
            _sweep_builtin(store, in_use)
    return Swept((), tuple(deleted), freed)


def marked(store: Store, in_use: Collection[str]) -> tuple[set[str], set[str]]:
    """The digests of blobs, and the diff ids of layers, that the index leads to.

    A damaged image marks what can still be read of it; one that is in use raises ImageError, since its
    layers are not to be touched.
    """
    blobs: set[str] = set()
    layers: set[str] = set()
    for entry in store.layout.entries():
        blobs.add(entry["digest"])
        try:
            manifest = store.manifest(entry)
            blobs.add(manifest["config"]["digest"])
            blobs.update(layer["digest"] for layer in manifest["layers"])
            layers.update(store.config(entry)["rootfs"]["diff_ids"])
        except ImageError:
            if entry["annotations"]["composer.id"] in in_use:
                raise
    return blobs, layers


def check(store: Store) -> list[str]:
    """See Store.check."""
    complaints = []
    for entry in store.layout.entries():
        name = entry["annotations"].get("org.opencontainers.image.ref.name", entry["digest"])
        for step in (_check_blobs, _check_layers):
            try:
                step(store, entry)
            except (ImageError, OSError, ValueError, KeyError) as error:
                complaints.append(f"{name}: {error}")
                break
    return complaints


def _check_blobs(store: Store, entry: dict[str, Any]) -> None:
    manifest = store.manifest(entry)
    for blob in manifest["layers"]:
        with store.layout.open(blob["digest"], blob["size"]) as reader:
            while reader.read():
                pass


def _check_layers(store: Store, entry: dict[str, Any]) -> None:
    """Compare each unpacked layer with its archive: every file's bytes, every link's target."""
    from composer.images.compare import compare

    layers = zip(store.manifest(entry)["layers"], store.config(entry)["rootfs"]["diff_ids"], strict=True)
    for layer, diff_id in layers:
        if store.unpacked.has(diff_id):
            with store.layout.open(layer["digest"], layer["size"]) as reader:
                compare(reader.read, store.unpacked.directory(diff_id))


def usage(store: Store, in_use: Collection[str]) -> Usage:
    """See Store.usage."""
    summaries = store.summaries()
    used: set[str] = set()
    for entry in store.layout.entries():
        if entry["annotations"]["composer.id"] in in_use:
            manifest = store.manifest(entry)
            used.update((entry["digest"], manifest["config"]["digest"]))
            used.update(layer["digest"] for layer in manifest["layers"])
            used.update(store.config(entry)["rootfs"]["diff_ids"])
    blobs = {digest: store.layout.size(digest) for digest in store.layout.digests()}
    layers = {diff_id: store.unpacked.size(diff_id) for diff_id in store.unpacked.ids()}
    free = [size for digest, size in (*blobs.items(), *layers.items()) if digest not in used]
    active = sum(summary.id in in_use for summary in summaries)
    return Usage(len(summaries), active, sum(blobs.values()), sum(layers.values()), sum(free))


def _sweep_builtin(store: Store, in_use: Collection[str]) -> None:
    """Skeletons of earlier states of the host. Containers of `host` may stack any of them."""
    home = store.paths.images / "builtin"
    if "host" not in in_use and home.is_dir():
        for old in home.glob("host-*"):
            shutil.rmtree(old, ignore_errors=True)
