"""What people should know of their images: tags that moved, old volumes over new content.

A registry is asked in the background after an `up`, about images that are kept for good once they are here,
at most once a day for each, with a question that counts against no limit. Whoever brings the stack up next is
told. A registry that does not answer is asked again tomorrow.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from composer.disk import read_json, write_json
from composer.errors import ComposerError
from composer.images.builtin import NAMES
from composer.images.image import Image
from composer.images.reference import parse
from composer.images.store import SOURCE
from composer.layered import Layered

if TYPE_CHECKING:
    from composer.supervisor.core import Core
    from composer.supervisor.world import Live

DAY = 24 * 3600
"""Seconds."""
KEPT = ("", "missing", "if_not_present")
"""Pull policies with which an image that is here is never asked for."""


def moved(core: Core) -> Iterator[str]:
    """A sentence for each image of the stack whose tag meant another one when its registry was last asked."""
    known = _known(core)
    for reference in _references(core) if known else ():
        here, there = _digest_here(core, reference), known.get(reference, {}).get("digest")
        if here and there and here != there:
            name = parse(reference).familiar
            yield (
                f"{name} means another image at its registry by now than here: `composer image pull {name}` "
                "fetches it, `composer lock` keeps to one"
            )


async def ask(core: Core) -> None:
    """Find out what tags mean now, where nobody has for a day."""
    path, now = core.paths.cache / "tags.json", time.time()
    known = _known(core)
    for reference in _references(core):
        image = core.images.store.find(reference)
        asked = known.get(reference, {}).get("at", 0)
        if image is None or not image.digests or now - max(image.pulled, asked) < DAY:
            continue
        try:
            digest = await core.images.store.digest(reference)
        except ComposerError:
            digest = known.get(reference, {}).get("digest", "")
        known[reference] = {"at": now, "digest": digest}
        with suppress(OSError):  # a disk that is full only makes us ask again
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, known, durable=False)


def _known(core: Core) -> dict[str, Any]:
    """When each registry was asked, and what it said, by reference."""
    try:
        return read_json(core.paths.cache / "tags.json") or {}
    except ValueError:
        return {}


def _references(core: Core) -> Iterator[str]:
    for service in core.stack.services.values():
        named = service.image and not service.build and service.image not in NAMES
        if named and service.pull_policy in KEPT and not parse(service.image).digest:
            yield service.image


def _digest_here(core: Core, reference: str) -> str:
    entry = core.images.store.entry(reference)
    return str(entry["annotations"].get(SOURCE, "")).rpartition("@")[2] if entry else ""


def hidden(core: Core, live: Live, before: str) -> Iterator[str]:
    """A sentence for each anonymous volume of a new container that an old one, of the image `before`, left.

    Only where the new image has something else at its place.
    """
    if not before or before == live.plan.image_id:
        return
    old, new = core.images.store.find(before), core.images.find(live.plan.image)
    for target in live.anonymous:
        there = _places(new, target)
        if there and (old is None or there != _places(old, target)):
            yield (
                f"{live.name}: its anonymous volume at {target} is older than the image and hides what that "
                "has there: `composer up -V` takes a new one"
            )


def _places(image: Image, target: str) -> tuple[str, ...]:
    """The layers' directories that make up a directory of an image; none when it is absent or empty."""
    tree = Layered((overlay.target, overlay.lowers) for overlay in image.root)
    node = tree.find(target)
    return node.places if node and node.is_directory and any(tree.children(node)) else ()
