"""A finished stage as an image of the store. K.

The layers stay in the build's cache; the store gets the same files by hard links, and their archives.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from composer.build.cache import key_of, link_tree
from composer.build.walk import State, now
from composer.images.builtin import BASE, NAMES
from composer.images.config import platform
from composer.images.reference import parse
from composer.images.store import ID

if TYPE_CHECKING:
    from composer.build.site import Site

STEPS = "composer.cache"
"""In the configuration of an image: which step made which of its layers."""
STEPS_VERSION = 1


def finished(site: Site, state: State) -> str:
    """The id of the image that was made of this state before and has all its names; "" when there is none."""
    kept = site.cache.note(*_key(site, state))
    if kept is None or site.store.entry(kept) is None:
        return ""
    for name in site.request.images:
        entry = site.store.entry(name)
        if entry is None or entry["annotations"][ID] != kept:
            return ""
    return str(kept)


def export(site: Site, state: State) -> str:
    """Make and name the image; its id. Raises ImageError."""
    store, names = site.store, [parse(name) for name in site.request.images]
    key = _key(site, state)
    kept = site.cache.note(*key)
    entry = store.entry(kept) if kept else None
    if entry is None:
        kept = write(site, state)
        site.cache.remember(kept, *key)
        entry = store.entry(kept)
    assert entry is not None and kept is not None
    for name in names:
        there = store.entry(str(name))
        if there is None or there["annotations"][ID] != kept:
            store.tag(kept, str(name))
    return str(kept)


def write(site: Site, state: State) -> str:
    """The image's layers, configuration and manifest, named by the first of its names."""
    from composer.images.intake import write_image

    store = site.store
    config, layers = configuration(site, state), []
    with store.layout.adding():
        if state.image_base not in NAMES:
            entry = store.entry(state.image_base)
            assert entry is not None
            layers += store.manifest(entry)["layers"]
            config["rootfs"]["diff_ids"] += store.config(entry)["rootfs"]["diff_ids"]
        if site.request.cache_inline:
            config[STEPS] = raised(config[STEPS], len(layers))
        for layer in state.layers:
            descriptor, diff_id = archived(site, layer)
            layers.append(descriptor)
            config["rootfs"]["diff_ids"].append(diff_id)
        name = parse(site.request.images[0])
        return write_image(store, config, layers, name, on_host=state.on_host).id


def archived(site: Site, layer: str) -> tuple[Any, str]:
    """A layer's archive in the store, written once for each SOURCE_DATE_EPOCH."""
    from composer.images.intake import add_layer

    facts = site.cache.facts(layer)
    known = facts.get(str(site.epoch))
    if known is not None and site.store.layout.has(known[0]["digest"]):
        return known[0], known[1]
    with site.cache.workspace() as place:
        link_tree(site.cache.directory(layer), place / "fs")
        descriptor, diff_id = add_layer(site.store, place / "fs", epoch=site.epoch, move=True)
    site.cache.learn(layer, {**facts, str(site.epoch): [descriptor, diff_id]})
    return descriptor, diff_id


def configuration(site: Site, state: State) -> Any:
    """The image's configuration (OCI image-spec, config.md), yet without its layers."""
    process = dict(state.process)
    if site.request.labels:
        process["Labels"] = {**(process.get("Labels") or {}), **site.request.labels}
    created = now(site.epoch) if site.epoch is not None or not state.created else state.created
    history = [{**step, "created": step.get("created") or created} for step in state.history]
    found = {
        **state.config,
        "created": created,
        "config": process,
        "rootfs": {"type": "layers", "diff_ids": []},
        "history": history,
    }
    if state.author:
        found["author"] = state.author
    found.pop(BASE, None)  # whatever the base image claims
    found.pop(STEPS, None)
    if site.request.cache_inline:
        found[STEPS] = inline(state)
    if state.on_host:
        found[BASE] = "host"
    return found


def _key(site: Site, state: State) -> tuple[Any, ...]:
    made = configuration(site, state)
    if not state.created:
        made = {**made, "created": "", "history": [{**step, "created": ""} for step in made["history"]]}
    return ("image", key_of(made), state.on_host, state.snapshot.base_id, state.layers, site.epoch)


def steps_of(states: Iterable[State]) -> dict[str, tuple[str, str]]:
    """Layer ("" for none) and time by the key of each step, in the order they were carried out."""
    return {key: (layer, created) for state in states for key, layer, created in state.steps}


def inline(state: State) -> dict[str, Any]:
    """What an image says of its own steps (see `travel`); numbers count what it puts on its base."""
    number = {layer: index for index, layer in enumerate(state.layers)}
    steps = {key: [number.get(layer), made] for key, (layer, made) in steps_of([state]).items()}
    return {"version": STEPS_VERSION, "platform": str(platform()), "steps": steps}


def raised(said: dict[str, Any], below: int) -> dict[str, Any]:
    """The same with `below` layers of a base image under it."""
    steps = {key: [n if n is None else n + below, created] for key, (n, created) in said["steps"].items()}
    return {**said, "steps": steps}
