"""Images as the supervisor needs them: here or not, pulled, built, removed; with progress told on."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
from anyio.abc import ByteReceiveStream

from composer.build.faults import unpacked
from composer.errors import ImageError
from composer.images import config as formats
from composer.images.image import Image, Progress
from composer.images.store import Store
from composer.model.digest import dump
from composer.model.stack import SECOND, Mount, Service, Stack
from composer.paths import Paths
from composer.plan.observed import ImageState
from composer.plan.options import image_of
from composer.plan.prepare import BUILT_IN
from composer.record import stacks
from composer.supervisor.world import World


class Images:
    """`report` hears progress frames while somebody listens."""

    def __init__(self, paths: Paths, world: World) -> None:
        self.paths = paths
        self.store = Store(paths)
        self.places = {"COMPOSER_RUN_DIR": str(paths.run), "COMPOSER_STATE_DIR": str(paths.state)}
        self.world = world
        self.known: dict[str, Image] = {}
        """What `find` found since the last look."""
        self.report: Callable[[dict[str, Any]], object] = lambda frame: None

    def look(self, wanted: Iterable[tuple[str, Service]]) -> None:
        """What of these is here, for planning.

        One of another platform than its service asks for is not, unless it is made here.
        """
        self.known.clear()
        platforms = {reference: "" if service.build else service.platform for reference, service in wanted}
        for reference, platform in platforms.items():
            image = self.store.find(reference, platform or None)
            if image is None:
                self.world.images.pop(reference, None)
            else:
                self.known[reference] = image
                old = self.world.images.get(reference)
                checked = max(old.checked_at if old else 0, image.pulled * SECOND)
                self.world.images[reference] = ImageState(image.id, checked)

    def find(self, reference: str) -> Image:
        """Raises ImageError when it is not here."""
        image = self.known.get(reference) or self.store.find(reference)
        if image is None:
            raise ImageError(f"image {reference} is not here", hint="`composer pull` fetches it")
        self.known[reference] = image
        return image

    async def pull(self, reference: str, platform: str) -> None:
        layers: dict[str, tuple[int, int]] = {}
        loop = asyncio.get_running_loop()

        def progress(update: Progress) -> None:
            """Called by the threads that download."""
            layers[update.digest] = (update.current, update.total)
            current, total = (sum(column) for column in zip(*layers.values(), strict=True))
            frame = {"id": f"Image {reference}", "text": "Pulling", "state": "working"}
            loop.call_soon_threadsafe(self.report, {**frame, "current": current, "total": total})

        image = await self.store.pull(reference, platform=platform or None, progress=progress)
        self.known.pop(reference, None)
        self.world.images[reference] = ImageState(image.id, time.time_ns())

    def settle(self) -> None:
        """Layers reach the disk meanwhile. Nobody waits for it, not even our own end."""

        def work() -> None:
            with suppress(OSError):
                self.store.unpacked.settle()

        threading.Thread(target=work, name="composer-settle", daemon=True).start()

    async def build(self, stack: Stack, service: Service) -> None:
        """In a process of its own, which forks. Raises ImageError with what the failing step said last."""
        reference = image_of(stack, service)
        asked = {
            "stack": json.loads(dump(stack)),
            "images": {name: image_of(stack, one) for name, one in stack.services.items()},
            "names": [service.name],
        }
        last: dict[str, Any] = {}
        async with await anyio.open_process(
            [sys.executable, "-m", "composer.build"],
            env={**os.environ, **self.places},
            stderr=None,
        ) as process:
            assert process.stdin is not None and process.stdout is not None
            await process.stdin.send(json.dumps(asked).encode())
            await process.stdin.aclose()
            async for line in lines_of(process.stdout):
                last = json.loads(line)
                if last.get("status") in ("start", "output", "warning"):
                    detail = last["text"] or last["title"]
                    self.report(
                        {"id": f"Image {reference}", "text": "Building", "state": "working", "detail": detail}
                    )
        if "error" in last:
            raise unpacked(last["error"])
        if "images" not in last:
            raise ImageError(f"the build of {service.name} ended with status {process.returncode}")
        self.known.pop(reference, None)
        self.world.images[reference] = ImageState(last["images"][service.name], time.time_ns())

    async def remove(self, reference: str) -> None:
        used = {row["image_id"] for record in stacks(self.paths) for row in record["containers"]}
        await anyio.to_thread.run_sync(partial(self.store.remove, reference, in_use=used))
        self.known.pop(reference, None)
        self.world.images.pop(reference, None)

    def view(self, mount: Mount, *, mapped: bool = False) -> dict[str, Any]:
        """The OCI mount that shows an image; `mapped` for a user namespace.

        Raises ImageError for a part of an image of several layers.
        """
        lowers = self.find(mount.source).root[0].lowers
        if len(lowers) == 1:
            source = f"{lowers[0]}/{mount.subpath.strip('/')}" if mount.subpath else lowers[0]
            options = ["rbind", *(("ridmap",) if mapped else ()), "ro", "rprivate"]
            return {"destination": mount.target, "type": "bind", "source": source, "options": options}
        if mount.subpath:
            raise ImageError(f"an image mount with a subpath needs an image of one layer: {mount.source}")
        options = ["ro", f"lowerdir={':'.join(lowers)}"]
        return {"destination": mount.target, "type": "overlay", "source": "overlay", "options": options}


def check_platform(service: Service, reference: str) -> None:
    """Raises ImageError for an image of this host itself that is to be for another machine."""
    if service.platform and reference in BUILT_IN and foreign(service.platform):
        what = f"service {service.name}: image {reference} is for this machine, {formats.platform()}"
        raise ImageError(f"{what}, and not for {service.platform}", hint="another `image`, or no `platform`")


def foreign(text: str) -> bool:
    """Whether programs of that platform are not this machine's. Raises ImageError."""
    there, here = formats.platform(text), formats.platform()
    return (there.os, there.architecture) != (here.os, here.architecture)


async def lines_of(stream: ByteReceiveStream) -> AsyncIterator[bytes]:
    """Whole lines, as they come."""
    rest = b""
    async for chunk in stream:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line
    if rest:
        yield rest
