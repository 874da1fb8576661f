"""Caches that travel: steps and their layers, to and from registries and folders. K.

A cache is an image in the sense of OCI, so any registry keeps it and any tool copies it: its layers are
those of the steps, and its configuration says in `composer.cache` which step made which. With
`type=inline` the same is written into the configuration of the built image itself.

    {"version": 1, "platform": "linux/amd64", "steps": {key: [number of the layer or null, created]}}

What comes from elsewhere is believed as far as its owner is: whoever can write there decides what a step
gave. Its layers are unpacked like any stranger's, and anything that is wrong only costs doing the step.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from composer.build.cache import Done
from composer.build.export import STEPS, STEPS_VERSION, archived, steps_of
from composer.build.mounting import like
from composer.build.request import CachePlace
from composer.build.snapshot import Snapshot
from composer.build.walk import Event, State, Tell
from composer.errors import ComposerError, ImageError
from composer.images import config as formats
from composer.images.layers import unpack
from composer.images.layout import Layout
from composer.images.reference import parse
from composer.images.store import REF_NAME, Store
from composer.value import Value

if TYPE_CHECKING:
    from composer.build.site import Site
    from composer.images.documents import Descriptor, ImageConfig, Manifest


class Traveller(Value):
    """A cache of elsewhere. `layers` are descriptors with their diff ids."""

    place: CachePlace
    steps: Mapping[str, tuple[int | None, str]]
    layers: tuple[tuple[Descriptor, str], ...]


# Reading


def arrived(site: Site, tell: Tell) -> list[Traveller]:
    """The caches that a request names. One that cannot be read is told, and does without."""
    found = []
    for place in site.request.cache_from:
        event = Event(f"import {place}", f"importing cache from {place}", "start")
        tell(event)
        try:
            found.append(read(place, site.store))
            tell(event.replace(status="done"))
        except ComposerError as error:
            tell(event.replace(status="done", text="nothing is used of it"))
            text = f"the cache {place} is not used: {error.message}"
            tell(Event(site.request.name, site.request.name, "warning", text))
    return found


def read(place: CachePlace, store: Store) -> Traveller:
    """Raises ImageError."""
    if place.folder:
        manifest, config = _local(place)
    else:
        from composer.images.transfer import peek

        manifest, config = peek(store, parse(place.reference), formats.platform())
    said: Any = config.get(STEPS)
    if not isinstance(said, dict) or said.get("version") != STEPS_VERSION:
        raise ImageError("it holds no steps that composer wrote")
    if said.get("platform") != str(formats.platform()):
        raise ImageError(f"it is for {said.get('platform')}")
    layers = tuple(zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True))
    steps = said.get("steps")
    if not isinstance(steps, dict) or not all(_is_step(one, len(layers)) for one in steps.values()):
        raise ImageError("its list of steps is damaged")
    return Traveller(place, {key: (number, created) for key, (number, created) in steps.items()}, layers)


def _is_step(value: object, layers: int) -> bool:
    match value:
        case [None, str()]:
            return True
        case [int(number), str()]:
            return 0 <= number < layers
    return False


def _local(place: CachePlace) -> tuple[Manifest, ImageConfig]:
    layout = Layout(Path(place.folder))
    entries = layout.entries()
    entry = next((one for one in entries if one.get("annotations", {}).get(REF_NAME) == place.tag), None)
    if entry is None:
        raise ImageError(f"{place.folder} has no cache {place.tag!r}")
    manifest = formats.parse_manifest(layout.read(entry["digest"]), entry["mediaType"])
    config = formats.parse_config(layout.read(manifest["config"]["digest"]))
    if len(config["rootfs"]["diff_ids"]) != len(manifest["layers"]):
        raise ImageError("its configuration and manifest differ in the number of layers")
    return manifest, config


def take(
    site: Site, travellers: Iterable[Traveller], key: str, snapshot: Snapshot, place: Path
) -> Done | None:
    """The result of a step as some cache of elsewhere has it, from now on in ours. Raises ImageError."""
    for one in travellers:
        if key not in one.steps:
            continue
        number, created = one.steps[key]
        if number is None:
            return site.cache.keep(key, None, created)
        descriptor, diff_id = one.layers[number]
        upper = place / "travelled"
        upper.mkdir()
        with site.store.layout.adding():
            if one.place.folder:
                copy_blob(Layout(Path(one.place.folder)), descriptor, site.store.layout)
            else:
                from composer.images.transfer import fetch

                fetch(site.store, parse(one.place.reference), descriptor)
            with site.store.layout.open(descriptor["digest"], descriptor["size"]) as reader:
                unpack(reader.read, upper, expected=diff_id)
        like(snapshot.overlays()[0].lowers[0], upper)
        done = site.cache.keep(key, upper, created)
        site.cache.learn(done.layer, {str(site.epoch): [descriptor, diff_id]})
        return done
    return None


def copy_blob(source: Layout, blob: Descriptor, target: Layout) -> None:
    """Raises ImageError for wrong bytes; then nothing appears."""
    with target.partial(blob["digest"]) as partial:
        if partial is None:
            return
        partial.restart()
        with source.open(blob["digest"], blob["size"]) as reader:
            while chunk := reader.read():
                partial.write(chunk)
        partial.finish(blob["size"])


# Writing


def depart(site: Site, state: State, tell: Tell) -> None:
    """Write the caches that a request asks for. Raises ImageError, RegistryError."""
    for place in site.request.cache_to:
        event = Event(f"export {place}", f"exporting cache to {place}", "start")
        tell(event)
        try:
            write(site, place, [state] if place.least else [*site.results.values(), state])
        except (ComposerError, OSError) as error:
            if not place.may_fail:
                tell(event.replace(status="error"))
                raise ImageError(f"the cache {place} cannot be written: {error}") from error
            text = f"the cache {place} was not written: {error}"
            tell(Event(site.request.name, site.request.name, "warning", text))
        tell(event.replace(status="done"))


def write(site: Site, place: CachePlace, states: Iterable[State]) -> None:
    from composer.images.intake import write_manifest

    store, steps = site.store, {}
    layers: list[Descriptor] = []
    diff_ids: list[str] = []
    numbers: dict[str, int | None] = {"": None}
    with store.layout.adding():
        for key, (layer, created) in steps_of(states).items():
            if layer not in numbers:
                if len(layers) == formats.MAX_LAYERS:
                    break
                descriptor, diff_id = archived(site, layer)
                numbers[layer] = len(layers)
                layers.append(descriptor)
                diff_ids.append(diff_id)
            steps[key] = [numbers[layer], created]
        here = formats.platform()
        config = {
            "os": here.os,
            "architecture": here.architecture,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            STEPS: {"version": STEPS_VERSION, "platform": str(here), "steps": steps},
        }
        data = json.dumps(config, separators=(",", ":"), sort_keys=True).encode()
        descriptor = write_manifest(store.layout, store.layout.write(data, formats.OCI_CONFIG), layers)
        _deliver(store, descriptor, place)


def _deliver(store: Store, descriptor: Descriptor, place: CachePlace) -> None:
    data = store.layout.read(descriptor["digest"])
    manifest = formats.parse_manifest(data, descriptor["mediaType"])
    if not place.folder:
        from composer.images.transfer import publish

        publish(store, parse(place.reference), data, manifest)
        return
    target = Layout(Path(place.folder))
    with target.adding():
        for blob in (*manifest["layers"], manifest["config"], descriptor):
            copy_blob(store.layout, blob, target)
        with target.changing() as entries:
            others = [one for one in entries if one.get("annotations", {}).get(REF_NAME) != place.tag]
            entries[:] = [*others, {**descriptor, "annotations": {REF_NAME: place.tag}}]
    _sweep(target)


def _sweep(layout: Layout) -> None:
    """Remove what no tag of a folder leads to any more, or nothing when somebody else's documents are there.

    Nor anything while another build writes to it: the next one will.
    """
    with layout.sweeping(wait=False) as held, suppress(ImageError):
        wanted = _leads_to(layout) if held else set(layout.digests())
        for digest in set(layout.digests()) - wanted:
            layout.delete(digest)


def _leads_to(layout: Layout) -> set[str]:
    """The digests of all that the index of a layout leads to. Raises ImageError for what is no image."""
    found: set[str] = set()
    open_ = [str(entry["digest"]) for entry in layout.entries()]
    while open_:
        digest = open_.pop()
        if digest in found:
            continue
        found.add(digest)
        document: Any = formats.parse_document(layout.read(digest))
        open_ += [one["digest"] for one in document.get("manifests", ())]
        found.update(one["digest"] for one in document.get("layers", ()))
        if "config" in document:
            found.add(document["config"]["digest"])
    return found
