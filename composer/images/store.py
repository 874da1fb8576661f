"""The images of this host: by name or id, complete and ready to be stacked. The front of the room.

`find` is on the path of every start: it imports nothing but the standard library's json and hashlib. What
is rarely used (pull, push, save, load, prune, …) lives in modules of its own, imported when called.

Index entries carry annotations: the full name (`org.opencontainers.image.ref.name`, one per entry, absent
when another image took it), the id, the time of the pull, the digest by which a registry knows the image,
and for one that was made here on our `host` that it stands on it: what came from elsewhere never does,
whatever its configuration claims.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from composer.errors import ConflictError, ImageError, NotFoundError
from composer.images import config as formats
from composer.images.builtin import BASE, NAMES, builtin, stacked
from composer.images.image import Image, Progress, RootOverlay, Summary
from composer.images.layout import Layout
from composer.images.reference import Reference, parse
from composer.images.unpacked import Unpacked
from composer.paths import Paths

if TYPE_CHECKING:
    from composer.images.documents import Descriptor, ImageConfig, Manifest
    from composer.images.sweep import Swept, Usage

REF_NAME = "org.opencontainers.image.ref.name"
PULLED = "composer.pulled"  # seconds since the epoch
SOURCE = "composer.source"  # name@digest
ID = "composer.id"

Entry = dict[str, Any]
Report = Callable[[Progress], None]


def _silent(_: Progress) -> None:
    pass


class Store:
    """All methods may be called from any process at any time; each is whole or not at all."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.layout = Layout(paths.images)
        self.unpacked = Unpacked(paths.images)

    # Looking up

    def find(self, reference: str, platform: str | None = None) -> Image | None:
        """The image of that name or id, ready to be stacked, or None when it is not on this host (for
        `platform`).

        Layers whose directories are missing are unpacked again from the store.
        """
        if reference in NAMES:
            return builtin(reference, self.paths)
        entry = self.entry(reference, platform)
        return None if entry is None else self.image(entry)

    def get(self, reference: str) -> Image:
        """`find`, or NotFoundError."""
        image = self.find(reference)
        if image is None:
            raise NotFoundError(
                f"there is no image {reference!r}", hint=f"`composer pull {reference}` fetches it"
            )
        return image

    def entry(self, reference: str, platform: str | None = None) -> Entry | None:
        """The index entry of a name, a digest or the beginning of an id; with `platform` only one for it.

        The digest of an index is that of an image for each of several machines.
        """
        entries = self.layout.entries()
        if platform is not None:
            entries = [entry for entry in entries if _is_for(entry, platform)]
        if found := _by_id(entries, reference):
            return found
        try:
            wanted = parse(reference)
        except ImageError:
            return None
        for entry in entries:
            notes = entry.get("annotations", {})
            if wanted.digest is None:
                if notes.get(REF_NAME) == str(wanted):
                    return entry
            elif wanted.digest == entry["digest"] or f"{wanted.name}@{wanted.digest}" == notes.get(SOURCE):
                return entry
        return None

    def image(self, entry: Entry) -> Image:
        """The image behind an index entry, its layers unpacked."""
        manifest, config = self.manifest(entry), self.config(entry)
        diff_ids = config["rootfs"]["diff_ids"]
        for layer, diff_id in zip(manifest["layers"], diff_ids, strict=True):
            if not self.unpacked.has(diff_id):
                self.unpack(layer, diff_id)
        self._used(entry)
        notes = entry.get("annotations", {})
        size = manifest["config"]["size"] + sum(layer["size"] for layer in manifest["layers"])
        root = self._root(self.unpacked.stack(diff_ids), entry)
        return Image(
            id=manifest["config"]["digest"],
            reference=notes.get(REF_NAME, ""),
            config=config,
            root=root,
            digests=(notes[SOURCE],) if SOURCE in notes else (),
            size=size,
            pulled=int(notes.get(PULLED, 0)),
        )

    def manifest(self, entry: Entry) -> Manifest:
        return formats.parse_manifest(self.layout.read(entry["digest"]), entry["mediaType"])

    def config(self, entry: Entry) -> ImageConfig:
        manifest = self.manifest(entry)
        config = formats.parse_config(self.layout.read(manifest["config"]["digest"]))
        if len(config["rootfs"]["diff_ids"]) != len(manifest["layers"]):
            raise ImageError("the image's configuration and manifest differ in the number of layers")
        return config

    def unpack(self, layer: Descriptor, diff_id: str, report: Report = _silent) -> None:
        """Unpack one layer of the store."""

        def progress(done: int) -> None:
            report(Progress(layer["digest"], "unpacking", done, 0))

        self.unpacked.ensure(diff_id, lambda: self.layout.open(layer["digest"], layer["size"]), progress)

    # Adding and naming

    def add(
        self,
        manifest: Descriptor,
        name: Reference | None,
        *,
        source: str | None = None,
        on_host: bool = False,
        report: Report = _silent,
    ) -> Image:
        """Name a manifest whose blobs are all in the store. `on_host`: its layers stand on the host's /usr.

        An image that had the name loses it, and stays.
        """
        entry: Entry = {key: manifest[key] for key in ("mediaType", "digest", "size")}
        parsed, config = self.manifest(entry), self.config(entry)
        for layer, diff_id in zip(parsed["layers"], config["rootfs"]["diff_ids"], strict=True):
            if not self.unpacked.has(diff_id):
                self.unpack(layer, diff_id, report)
        entry["platform"] = {key: config[key] for key in ("os", "architecture", "variant") if key in config}
        entry["annotations"] = {ID: parsed["config"]["digest"], PULLED: str(int(time.time()))}
        if source is not None:
            entry["annotations"][SOURCE] = source
        if on_host:
            entry["annotations"][BASE] = "host"
        if name is not None and name.tag is not None:
            entry["annotations"][REF_NAME] = str(name.replace(digest=None))
        with self.layout.changing() as entries:
            _put(entries, entry)
        return self.image(entry)

    def renew(self, entry: Entry) -> Image:
        """Remember that a registry just confirmed an entry."""
        notes = {**entry["annotations"], PULLED: str(int(time.time()))}
        with self.layout.changing() as entries:
            entries[:] = [{**known, "annotations": notes} if known == entry else known for known in entries]
        return self.image({**entry, "annotations": notes})

    def tag(self, source: str, target: str, platform: str | None = None) -> None:
        """Give an image (that for `platform`) one more name. Raises NotFoundError, ImageError."""
        name = parse(target)
        if name.digest is not None or target in NAMES:
            raise ImageError(
                f"{target!r} cannot be given to an image", hint="a new name has a tag, no digest"
            )
        entry = self.entry(source, platform)
        if entry is None:
            raise NotFoundError(f"there is no image {source!r}")
        with self.layout.changing() as entries:
            _put(entries, {**entry, "annotations": {**entry["annotations"], REF_NAME: str(name)}})

    def remove(self, reference: str, *, force: bool = False, in_use: Collection[str] = ()) -> list[str]:
        """Take a name away, and the image with its last one.

        An id takes all names (with `force` when several).

        `in_use` are the ids of the images that containers are made of. Gives what was done, line by line,
        as Docker says it. Raises NotFoundError, ConflictError.
        """
        from composer.images.sweep import sweep

        with self.layout.changing() as entries:
            found = _by_id(entries, reference)
            named = found is None
            if found is None and (known := self.entry(reference)) is not None:
                found = next((entry for entry in entries if entry == known), None)
            if found is None:
                raise NotFoundError(f"there is no image {reference!r}")
            identity = found["annotations"][ID]
            same = [entry for entry in entries if entry["annotations"][ID] == identity]
            doomed = [found] if named else same
            if identity in in_use and len(doomed) == len(same):
                raise ConflictError(f"the image {reference} is in use", hint="remove its containers first")
            if not named and len(same) > 1 and not force:
                raise ConflictError(
                    f"the image {reference} has {len(same)} names", hint="use --force, or a name"
                )
            entries[:] = [entry for entry in entries if entry not in doomed]
        lines = [
            f"Untagged: {parse(e['annotations'][REF_NAME]).familiar}"
            for e in doomed
            if REF_NAME in e["annotations"]
        ]
        if len(doomed) == len(same):
            lines += [f"Deleted: {digest}" for digest in sweep(self, in_use, partial=False).deleted] or []
        return lines

    def summaries(self) -> list[Summary]:
        """Every image with its names, newest first."""
        found: dict[str, list[Entry]] = {}
        for entry in self.layout.entries():
            found.setdefault(entry["annotations"][ID], []).append(entry)
        return sorted(
            (self._summary(identity, same) for identity, same in found.items()),
            key=lambda summary: summary.created,
            reverse=True,
        )

    def _summary(self, identity: str, same: list[Entry]) -> Summary:
        manifest, config = self.manifest(same[0]), self.config(same[0])
        notes = [entry["annotations"] for entry in same]
        return Summary(
            id=identity,
            names=tuple(sorted(parse(note[REF_NAME]).familiar for note in notes if REF_NAME in note)),
            digests=tuple(sorted({note[SOURCE] for note in notes if SOURCE in note})),
            platform=str(formats.platform_of(same[0].get("platform", {}))),
            created=config.get("created", ""),
            pulled=max(int(note.get(PULLED, 0)) for note in notes),
            used=self._last_use(same[0]),
            size=sum(self.unpacked.size(diff_id) for diff_id in config["rootfs"]["diff_ids"]),
            stored=manifest["config"]["size"] + sum(layer["size"] for layer in manifest["layers"]),
        )

    def inspect(self, reference: str) -> dict[str, Any]:
        """All that is known about an image, under Docker's names."""
        image = self.get(reference)
        config = image.config
        names = [s for s in self.summaries() if s.id == image.id]
        return {
            "Id": image.id,
            "RepoTags": list(names[0].names) if names else [image.reference],
            "RepoDigests": list(names[0].digests) if names else [],
            "Created": config.get("created", ""),
            "Author": config.get("author", ""),
            "Architecture": config.get("architecture", ""),
            "Variant": config.get("variant", ""),
            "Os": config.get("os", ""),
            "Size": names[0].size if names else 0,
            "Config": config.get("config", {}),
            "RootFS": {"Type": "layers", "Layers": config["rootfs"]["diff_ids"]},
            "GraphDriver": {"Name": "overlay", "Data": {"LowerDir": ":".join(image.root[0].lowers)}},
        }

    def history(self, reference: str) -> list[dict[str, Any]]:
        """How an image was made, newest step first, each with the size its layer has as an archive."""
        config = self.get(reference).config
        layers = iter(config["rootfs"]["diff_ids"])
        steps = []
        for step in config.get("history") or []:
            diff_id = None if step.get("empty_layer") else next(layers, None)
            steps.append({**step, "size": self.unpacked.size(diff_id) if diff_id else 0})
        return steps[::-1]

    # Far away

    async def pull(self, reference: str, *, platform: str | None = None, progress: Report = _silent) -> Image:
        """Fetch what is missing of an image from its registry. Raises RegistryError."""
        from composer.images.transfer import pull

        return await pull(self, parse(reference), formats.platform(platform), progress)

    async def digest(self, reference: str) -> str:
        """The digest that a registry now means by a tag; nothing is fetched. Raises RegistryError."""
        from composer.images.transfer import digest

        return await digest(parse(reference))

    async def push(self, reference: str, *, progress: Report = _silent) -> str:
        """Send an image to its registry; its digest there. Raises NotFoundError, RegistryError."""
        from composer.images.transfer import push

        return await push(self, parse(reference), progress)

    # To and from archives

    def save(self, references: Iterable[str], out: BinaryIO, *, oci: bool = False) -> None:
        """Write images to an archive: Docker's form, or with `oci` the OCI layout."""
        from composer.images.archive import save

        save(self, list(references), out, oci=oci)

    def load(self, source: BinaryIO, progress: Report = _silent) -> list[Image]:
        """Take in all images of an archive of either form, compressed or not; the stream is read once."""
        from composer.images.archive import load

        return load(self, source, progress)

    def import_(
        self, source: BinaryIO, name: str | None = None, *, changes: Iterable[str] = (), message: str = ""
    ) -> Image:
        """Make an image of one layer from an archive of a root file system."""
        from composer.images.make import import_

        return import_(self, source, parse(name) if name else None, tuple(changes), message)

    def commit(
        self,
        base: Image,
        upper: Path,
        name: str | None = None,
        *,
        changes: Iterable[str] = (),
        message: str = "",
        author: str = "",
    ) -> Image:
        """Make an image from `base` and the upper directory of a container's overlay, which is only read."""
        from composer.images.make import commit

        return commit(self, base, upper, parse(name) if name else None, tuple(changes), message, author)

    # House-keeping

    def prune(
        self, *, all_: bool = False, keep_size: int | None = None, in_use: Collection[str] = ()
    ) -> Swept:
        """Remove images without a name, or with `all_` those no container uses; with `keep_size` (bytes) the
        longest unused ones until the rest fits. What broken downloads left goes too."""
        from composer.images.sweep import prune

        return prune(self, all_, keep_size, in_use)

    def check(self) -> list[str]:
        """What is wrong with the store, each as a sentence; every byte is read."""
        from composer.images.sweep import check

        return check(self)

    def usage(self, in_use: Collection[str] = ()) -> Usage:
        """Bytes on the disk."""
        from composer.images.sweep import usage

        return usage(self, in_use)

    def _used(self, entry: Entry) -> None:
        """Remember the time of use as the manifest's time, which needs no lock and no file of its own."""
        try:
            os.utime(self.layout.path(entry["digest"]))
        except OSError:
            pass  # a store that others own may still be read

    def _last_use(self, entry: Entry) -> int:
        return int(self.layout.path(entry["digest"]).stat().st_mtime)

    def _root(self, layers: tuple[str, ...], entry: Entry) -> tuple[RootOverlay, ...]:
        """The layers by themselves, or on that one of our own images that they were built on here."""
        on_host = stands_on_host(entry)
        if layers and not on_host:
            return (RootOverlay("/", layers),)
        base = builtin("host" if on_host else "scratch", self.paths)
        assert base is not None
        return stacked(base.root, layers)


def stands_on_host(entry: Entry) -> bool:
    """Whether an image was made here on the host's own /usr, which is no layer of it."""
    return BASE in entry["annotations"]


def check_portable(entry: Entry, name: str) -> None:
    """Raises ImageError for an image that would run nowhere else."""
    if stands_on_host(entry):
        raise ImageError(
            f"the image {name} stands on this host's own /usr, which is no layer of it: it cannot leave",
            hint="build it `FROM` an image of a registry",
        )


def _by_id(entries: list[Entry], text: str) -> Entry | None:
    """The entry whose id begins with `text`, at least 7 digits. Raises ImageError when several do."""
    digits = text.removeprefix("sha256:")
    if len(digits) < 7 or any(digit not in "0123456789abcdef" for digit in digits):
        return None
    found = {
        e["annotations"][ID]: e
        for e in entries
        if e["annotations"][ID].removeprefix("sha256:").startswith(digits)
    }
    if len(found) > 1:
        raise ImageError(f"several images have an id that begins with {text}", hint="give more digits")
    return next(iter(found.values()), None)


def _is_for(entry: Entry, platform: str) -> bool:
    have, wanted = formats.platform_of(entry.get("platform", {})), formats.platform(platform)
    same = (have.os, have.architecture) == (wanted.os, wanted.architecture)
    return same and (not wanted.variant or have.variant <= wanted.variant)


def _put(entries: list[Entry], new: Mapping[str, Any]) -> None:
    """Add an entry. Its name leaves the image that had it, which without any name is kept until a prune."""
    name = new["annotations"].get(REF_NAME)
    kept: list[Entry] = []
    for entry in entries:
        notes = entry["annotations"]
        if name is not None and notes.get(REF_NAME) == name:
            entry = {**entry, "annotations": {key: value for key, value in notes.items() if key != REF_NAME}}
        kept.append(entry)
    kept.append(dict(new))
    named = {entry["digest"] for entry in kept if REF_NAME in entry["annotations"]}
    seen: set[str] = set()
    entries.clear()
    for entry in kept:
        if REF_NAME not in entry["annotations"]:
            if entry["digest"] in named or entry["digest"] in seen:
                continue
            seen.add(entry["digest"])
        entries.append(entry)
