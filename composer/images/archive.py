"""Images in files: save and load.

Docker's archive: `manifest.json` names a configuration and the layers of each image. The OCI archive: a tar
of an OCI layout. Many are both, and then the OCI part is taken, because it keeps the digests. An archive is
read once, so it may come from a pipe.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO

from composer.errors import ImageError, NotFoundError
from composer.images import config as formats
from composer.images import tar
from composer.images.diff import header
from composer.images.image import Image, Progress
from composer.images.intake import COMPRESSIONS, layer_type, take_layer, write_manifest
from composer.images.layout import Layout
from composer.images.reference import Reference, is_digest, parse
from composer.images.store import check_portable
from composer.images.stream import Ahead, decompressed
from composer.images.unpacked import Unpacked

if TYPE_CHECKING:
    from composer.images.documents import Descriptor
    from composer.images.store import Entry, Report, Store

CONTAINERD_NAME = "io.containerd.image.name"
MAX_FILES = 10_000
MAX_OTHER = 1 << 30  # bytes of a file that is not a layer, as a bill of materials may be
_BLOB = re.compile(r"blobs/([a-z0-9]+)/([0-9a-f]+)")
_AT_ONCE = 2  # layers unpacked side by side; more only seek more


# Writing


def save(store: Store, references: list[str], out: BinaryIO, *, oci: bool) -> None:
    """See Store.save."""
    entries = []
    for reference in references:
        entry = store.entry(reference)
        if entry is None:
            raise NotFoundError(f"there is no image {reference!r}")
        check_portable(entry, reference)
        entries.append(entry)
    (_save_oci if oci else _save_docker)(store, entries, out)
    out.write(bytes(2 * tar.BLOCK))
    out.flush()


def _save_oci(store: Store, entries: list[Entry], out: BinaryIO) -> None:
    written: set[str] = set()
    for entry in entries:
        manifest = store.manifest(entry)
        for digest in (
            entry["digest"],
            manifest["config"]["digest"],
            *(x["digest"] for x in manifest["layers"]),
        ):
            if digest not in written:
                written.add(digest)
                _copy_blob(store.layout, digest, f"blobs/{digest.replace(':', '/')}", out)
    index = {
        "schemaVersion": 2,
        "mediaType": formats.OCI_INDEX,
        "manifests": [_public(entry) for entry in entries],
    }
    _file(out, "index.json", json.dumps(index).encode())
    _file(out, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')


def _public(entry: Entry) -> Entry:
    """An index entry without what only concerns this store."""
    name = entry["annotations"].get("org.opencontainers.image.ref.name")
    notes = {"org.opencontainers.image.ref.name": name, CONTAINERD_NAME: name} if name else {}
    return {**entry, "annotations": notes}


def _save_docker(store: Store, entries: list[Entry], out: BinaryIO) -> None:
    written: set[str] = set()
    images: dict[str, dict[str, Any]] = {}
    for entry in entries:
        manifest, config = store.manifest(entry), store.config(entry)
        identity = manifest["config"]["digest"]
        names = []
        for layer, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True):
            names.append(f"{_digits(diff_id)}.tar")
            if diff_id not in written:
                written.add(diff_id)
                _copy_layer(store, layer, diff_id, names[-1], out)
        tags = images.setdefault(
            identity, {"Config": f"{_digits(identity)}.json", "RepoTags": [], "Layers": names}
        )
        if name := entry["annotations"].get("org.opencontainers.image.ref.name"):
            tags["RepoTags"].append(name)  # in full: podman takes short ones for its own
        if identity not in written:
            written.add(identity)
            _copy_blob(store.layout, identity, f"{_digits(identity)}.json", out)
    _file(out, "manifest.json", json.dumps(list(images.values())).encode())


def _digits(digest: str) -> str:
    return digest.partition(":")[2]


def _copy_blob(layout: Layout, digest: str, name: str, out: BinaryIO) -> None:
    size = layout.size(digest)
    out.write(header(name.encode(), "0", size=size))
    with layout.open(digest, size) as reader:
        while chunk := reader.read():
            out.write(chunk)
    out.write(bytes(-size % tar.BLOCK))


def _copy_layer(store: Store, layer: Descriptor, diff_id: str, name: str, out: BinaryIO) -> None:
    """A layer in its plain form, which every reader of Docker's archives takes."""
    size = store.unpacked.size(diff_id)
    out.write(header(name.encode(), "0", size=size))
    with (
        store.layout.open(layer["digest"], layer["size"]) as reader,
        Ahead(decompressed(reader.read)) as ahead,
    ):
        while chunk := ahead.take():
            out.write(chunk)
    out.write(bytes(-size % tar.BLOCK))


def _file(out: BinaryIO, name: str, data: bytes) -> None:
    out.write(header(name.encode(), "0", size=len(data)) + data + bytes(-len(data) % tar.BLOCK))


# Reading


def load(store: Store, source: BinaryIO, report: Report) -> list[Image]:
    """See Store.load."""
    with store.layout.adding():
        files = _spool(store.layout, store.unpacked, source, report)
        if "index.json" in files:
            found = _from_oci(store.layout, files)
        elif "manifest.json" in files:
            found = _from_docker(store.layout, files)
        else:
            raise ImageError(
                "the archive holds no image: neither index.json nor manifest.json is in it",
                hint="`composer image import` takes an archive of a root file system",
            )
        return [image for manifest, names in found for image in _add(store, manifest, names, report)]


def _spool(layout: Layout, unpacked: Unpacked, source: BinaryIO, report: Report) -> dict[str, Descriptor]:
    """Every file of the archive as a blob, by its name there. Links, as old archives have them, are followed.

    What looks like a layer is unpacked on the way; whether it belongs to an image is seen at the end.
    """
    files: dict[str, Descriptor] = {}
    links: dict[str, str] = {}
    with Ahead(decompressed(source.read)) as ahead:
        stream = tar.Stream(ahead.take)
        for member in tar.members(stream):
            name = posixpath.normpath(member.name.decode("utf-8", "replace")).lstrip("/")
            if len(files) + len(links) > MAX_FILES:
                raise ImageError(f"the archive holds more than {MAX_FILES} files")
            if member.kind == tar.REGULAR and member.pieces is None:
                files[name] = _file_of(layout, unpacked, name, member.stored, stream)
                report(Progress(files[name]["digest"], "unpacking", member.stored, member.stored))
            elif member.kind == tar.SYMBOLIC_LINK:
                target = member.link.decode("utf-8", "replace")
                links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
            elif member.kind == tar.HARD_LINK:
                links[name] = posixpath.normpath(member.link.decode("utf-8", "replace"))
        stream.drain()
    for name, target in links.items():
        if target in files:
            files[name] = files[target]
    return files


def _file_of(layout: Layout, unpacked: Unpacked, name: str, size: int, stream: tar.Stream) -> Descriptor:
    """One file of an archive, stored. What is named by its digest and is here already is not read."""
    kept = _BLOB.fullmatch(name)
    digest = f"{kept[1]}:{kept[2]}" if kept else ""
    if is_digest(digest) and layout.has(digest) and layout.size(digest) == size:
        return {"mediaType": "", "digest": digest, "size": size}
    pieces = stream.pieces(size)
    start = next(pieces, memoryview(b""))
    if _is_layer(start):
        return take_layer(layout, unpacked, chain((start,), pieces), keep=kept is not None)[0]
    if size > MAX_OTHER:
        raise ImageError(f"the archive holds {name!r:.200} of {size} bytes, which is no layer")
    return _take_file(layout, chain((start,), pieces))


def _is_layer(start: memoryview) -> bool:
    """Whether a file that begins so can only be a layer."""
    return bytes(start[257:262]) == b"ustar" or bytes(start[:4]).startswith(tuple(COMPRESSIONS))


def _take_file(layout: Layout, pieces: Iterable[memoryview]) -> Descriptor:
    with layout.scratch() as blob:
        for view in pieces:
            blob.write(view)
        return blob.finish("")


def _read(layout: Layout, files: dict[str, Descriptor], name: Any) -> bytes:
    if not isinstance(name, str) or posixpath.normpath(name) not in files:
        raise ImageError(f"the archive names {name!r:.200}, which is not in it")
    return layout.read(files[posixpath.normpath(name)]["digest"])


def _from_oci(layout: Layout, files: dict[str, Descriptor]) -> list[tuple[Descriptor, list[Reference]]]:
    index = formats.parse_index(_read(layout, files, "index.json"))
    tags = _repo_tags(layout, files)
    found = []
    for outer in index["manifests"]:
        descriptor = _native(layout, outer)
        manifest = formats.parse_manifest(layout.read(descriptor["digest"]), descriptor["mediaType"])
        notes = outer.get("annotations", {})
        names = [notes.get(CONTAINERD_NAME), notes.get("org.opencontainers.image.ref.name")]
        known = [name for name in (_name(text) for text in names) if name is not None][:1]
        found.append((descriptor, known or tags.get(manifest["config"]["digest"], [])))
    return found


def _native(layout: Layout, descriptor: Descriptor) -> Descriptor:
    """The manifest for this machine behind an index in an archive."""
    if descriptor["mediaType"] not in formats.INDEXES:
        return descriptor
    inner = formats.parse_index(layout.read(descriptor["digest"]), descriptor["mediaType"])
    there = [entry for entry in inner["manifests"] if layout.has(entry["digest"])]
    inner["manifests"] = there
    return there[0] if len(there) == 1 else formats.choose(inner, formats.platform())


def _name(text: object) -> Reference | None:
    """A full name; a bare tag, as the OCI annotation often has it, names nothing."""
    if not isinstance(text, str) or not any(mark in text for mark in "/:"):
        return None
    try:
        return parse(text)
    except ImageError:
        return None


def _repo_tags(layout: Layout, files: dict[str, Descriptor]) -> dict[str, list[Reference]]:
    """By the id of an image, the names that Docker's manifest.json, if there is one too, gives it."""
    if "manifest.json" not in files:
        return {}
    tags: dict[str, list[Reference]] = {}
    for image in _images(layout, files):
        config = files.get(posixpath.normpath(str(image.get("Config"))))
        if config is not None:
            tags[config["digest"]] = [parse(tag) for tag in image.get("RepoTags") or ()]
    return tags


def _images(layout: Layout, files: dict[str, Descriptor]) -> list[dict[str, Any]]:
    images = formats.parse_json(
        b'{"images":' + _read(layout, files, "manifest.json") + b"}", "manifest.json"
    )["images"]
    if not isinstance(images, list) or not all(map(_is_image, images)):
        raise ImageError("the archive's manifest.json is not a list of images")
    return images


def _is_image(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    lists = (value.get("Layers") or [], value.get("RepoTags") or [])
    return all(isinstance(each, list) and all(isinstance(text, str) for text in each) for each in lists)


def _from_docker(layout: Layout, files: dict[str, Descriptor]) -> list[tuple[Descriptor, list[Reference]]]:
    found = []
    for image in _images(layout, files):
        data = _read(layout, files, image.get("Config"))
        formats.parse_config(data)
        layers: list[Descriptor] = []
        for name in image.get("Layers") or ():
            if posixpath.normpath(name) not in files:
                raise ImageError(f"the archive names {name!r:.200}, which is not in it")
            layer = files[posixpath.normpath(name)]
            layers.append({**layer, "mediaType": layer_type(layout, layer["digest"])})
        descriptor = write_manifest(layout, layout.write(data, formats.OCI_CONFIG), layers)
        found.append((descriptor, [parse(tag) for tag in image.get("RepoTags") or ()]))
    return found


def _add(store: Store, descriptor: Descriptor, names: list[Reference], report: Report) -> list[Image]:
    entry: Entry = {"mediaType": descriptor["mediaType"], "digest": descriptor["digest"]}
    manifest, config = store.manifest(entry), store.config(entry)
    work = list(zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for done in [pool.submit(store.unpack, layer, diff_id, report) for layer, diff_id in work]:
            done.result()
    return [store.add(descriptor, name, report=report) for name in (names or (None,))]
