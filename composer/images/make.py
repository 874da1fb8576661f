"""New images from what is no image: `import` and `commit`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from composer.errors import ImageError
from composer.images import config as formats
from composer.images.changes import changed
from composer.images.image import Image
from composer.images.intake import add_layer, take_layer, write_image
from composer.images.reference import Reference
from composer.images.store import stands_on_host
from composer.images.stream import CHUNK

if TYPE_CHECKING:
    from composer.images.documents import History, ImageConfig
    from composer.images.store import Store


def import_(
    store: Store, source: BinaryIO, name: Reference | None, changes: tuple[str, ...], message: str
) -> Image:
    """See Store.import_. One pass: the bytes are kept while they are unpacked."""
    with store.layout.adding():
        chunks = iter(lambda: source.read(CHUNK), b"")
        layer, facts = take_layer(store.layout, store.unpacked, chunks, keep=False)
        here, now = formats.platform(), _now()
        config: ImageConfig = {
            "architecture": here.architecture,
            "os": here.os,
            "created": now,
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [facts.diff_id]},
            "history": [{"created": now, "comment": message or "Imported from an archive"}],
        }
        if here.variant:
            config["variant"] = here.variant
        return write_image(store, changed(config, changes), [layer], name)


def commit(
    store: Store,
    base: Image,
    upper: Path,
    name: Reference | None,
    changes: tuple[str, ...],
    message: str,
    author: str,
) -> Image:
    """See Store.commit."""
    with store.layout.adding():
        entry = store.entry(base.id)
        if entry is None:
            raise ImageError(
                f"the image {base.id} has no layers that could be kept", hint="build on another image"
            )
        manifest, config = store.manifest(entry), store.config(entry)
        layer, diff_id = add_layer(store, upper)
        now = _now()
        config["created"] = now
        config["rootfs"]["diff_ids"].append(diff_id)
        step: History = {"created": now, "created_by": "composer commit"}
        if author:
            config["author"] = step["author"] = author
        if message:
            step["comment"] = message
        config["history"] = [*(config.get("history") or []), step]
        layers = [*manifest["layers"], layer]
        return write_image(store, changed(config, changes), layers, name, on_host=stands_on_host(entry))


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
