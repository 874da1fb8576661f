"""Images as the supervisor needs them: here or not, pulled, built, removed; with progress told on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import anyio

from composer.errors import ImageError
from composer.images.image import Image
from composer.images.store import Store
from composer.model.stack import Service
from composer.paths import Paths
from composer.plan.observed import ImageState
from composer.supervisor.world import World


class Images:
    """`report` hears progress frames while somebody listens."""

    def __init__(self, paths: Paths, world: World) -> None:
        self.store = Store(paths)
        self.world = world
        self.known: dict[str, Image] = {}
        """What `find` found since the last look."""
        self.report: Callable[[dict[str, Any]], object] = lambda frame: None

    def look(self, references: Iterable[str]) -> None:
        """What of these is here, for planning."""
        self.known.clear()
        for reference in references:
            image = self.store.find(reference)
            if image is None:
                self.world.images.pop(reference, None)
            else:
                old = self.world.images.get(reference)
                self.world.images[reference] = ImageState(image.id, old.checked_at if old else 0)

    def find(self, reference: str) -> Image:
        """Raises ImageError when it is not here."""
        image = self.known.get(reference) or self.store.find(reference)
        if image is None:
            raise ImageError(f"image {reference} is not here", hint="`composer pull` fetches it")
        self.known[reference] = image
        return image

    async def pull(self, reference: str, platform: str) -> None:

        def progress(update: Any) -> None:
            self.report(
                {"id": f"Image {reference}", "text": "Pulling", "state": "working", **frame_of(update)}
            )

        image = await self.store.pull(reference, platform=platform or None, progress=progress)
        self.known.pop(reference, None)
        self.world.images[reference] = ImageState(image.id, time.time_ns())

    async def build(self, service: Service) -> None:
        raise ImageError(
            f"service {service.name}: building images is not possible yet", hint="set `image:` to a made one"
        )

    async def remove(self, reference: str) -> None:
        await anyio.to_thread.run_sync(self.store.remove, reference)
        self.known.pop(reference, None)
        self.world.images.pop(reference, None)

    def view(self, reference: str, subpath: str) -> str:
        """A directory that shows an image, for a mount of type image. Raises ImageError."""
        image = self.find(reference)
        lowers = image.root[0].lowers
        if len(lowers) != 1:
            raise ImageError(
                f"an image mount of {reference} needs an image of one layer, it has {len(lowers)}"
            )
        return f"{lowers[0]}/{subpath.strip('/')}" if subpath else lowers[0]


def frame_of(update: Any) -> dict[str, Any]:
    fields = {name: getattr(update, name, 0) for name in ("current", "total")}
    return {name: value for name, value in fields.items() if value}
