"""Layers and images coming into being, from a stream, an upper directory, a finished configuration.

Whoever adds holds `layout.adding()` until the image is named, so that no sweep takes its parts away.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from composer.images import config as formats
from composer.images.diff import pack
from composer.images.image import Image
from composer.images.layout import Layout
from composer.images.reference import Reference
from composer.images.unpacked import Unpacked

if TYPE_CHECKING:
    from backports.zstd import ZstdCompressor

    from composer.images.documents import Descriptor, ImageConfig, Manifest
    from composer.images.layers import Facts
    from composer.images.store import Store

COMPRESSIONS = {b"\x1f\x8b": "+gzip", b"\x28\xb5\x2f\xfd": "+zstd"}
_ZSTD_LEVEL = 1


def take_layer(
    layout: Layout, unpacked: Unpacked, pieces: Iterable[bytes | memoryview], *, keep: bool
) -> tuple[Descriptor, Facts]:
    """Store and unpack a layer in one pass.

    A plain one is stored compressed, unless its bytes are to be kept.
    """
    source = iter(pieces)
    start = next(source, b"")
    kind = next((end for magic, end in COMPRESSIONS.items() if bytes(start[:4]).startswith(magic)), "")
    compressor = None if keep or kind else compression()
    with layout.scratch() as blob:

        def read(_: int) -> bytes:
            nonlocal start
            data, start = bytes(start or next(source, b"")), b""  # of bytes this is no copy
            blob.write(compressor.compress(data) if compressor else data)
            return data

        facts = unpacked.fresh(read)
        if compressor:
            blob.write(compressor.flush())
        return blob.finish(formats.OCI_LAYER + ("+zstd" if compressor else kind)), facts


def compression() -> ZstdCompressor:
    """How layers made here are stored: fast, and a quarter of the size."""
    from backports.zstd import ZstdCompressor

    return ZstdCompressor(level=_ZSTD_LEVEL)


def layer_type(layout: Layout, digest: str) -> str:
    with layout.path(digest).open("rb") as blob:
        start = blob.read(4)
    return formats.OCI_LAYER + next(
        (end for magic, end in COMPRESSIONS.items() if start.startswith(magic)), ""
    )


def write_manifest(layout: Layout, config: Descriptor, layers: list[Descriptor]) -> Descriptor:
    """Store the manifest of an image."""
    kind = formats.OCI_MANIFEST
    manifest: Manifest = {"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers}
    return layout.write(json.dumps(manifest, separators=(",", ":")).encode(), formats.OCI_MANIFEST)


def add_layer(
    store: Store, upper: Path, *, epoch: int | None = None, move: bool = False
) -> tuple[Descriptor, str]:
    """Store the upper directory of an overlay as a layer; its descriptor and diff id.

    With `move` the directory itself becomes the unpacked layer. Call it while `adding`.
    """
    plain, size = hashlib.sha256(), 0
    compressor = compression()
    with store.layout.scratch() as blob:

        def write(data: bytes) -> None:
            nonlocal size
            plain.update(data)
            size += len(data)
            blob.write(compressor.compress(data))

        pack(upper, write, epoch=epoch)
        blob.write(compressor.flush())
        layer = blob.finish(f"{formats.OCI_LAYER}+zstd")
    diff_id = f"sha256:{plain.hexdigest()}"
    if move:
        store.unpacked.adopt(diff_id, upper, size)
    else:
        store.unpack(layer, diff_id)
    return layer, diff_id


def write_image(
    store: Store,
    config: ImageConfig,
    layers: list[Descriptor],
    name: Reference | None,
    *,
    on_host: bool = False,
) -> Image:
    """Store the configuration and the manifest of an image whose layers are stored, and name it."""
    data = json.dumps(config, separators=(",", ":")).encode()
    manifest = write_manifest(store.layout, store.layout.write(data, formats.OCI_CONFIG), layers)
    return store.add(manifest, name, on_host=on_host)
