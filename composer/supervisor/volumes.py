"""Volumes as the supervisor needs them: there, filled from the image the first time, shown at a path."""

from __future__ import annotations

from collections.abc import Iterable

from composer.images.image import Image
from composer.model.stack import Mount, Volume
from composer.paths import Paths
from composer.plan.observed import VolumeState
from composer.supervisor.world import World
from composer.volumes.store import VolumeStore


class Volumes:
    def __init__(self, paths: Paths, world: World) -> None:
        self.store = VolumeStore(paths)
        self.world = world

    def look(self, names: Iterable[str]) -> None:
        """What of these is here, for planning."""
        for name in names:
            record = self.store.find(name)
            if record is None:
                self.world.volumes.pop(name, None)
            else:
                self.world.volumes[name] = VolumeState(name, "", record.owner)

    def ensure(self, volume: Volume, stack: str) -> None:
        """Raises NotFoundError for an external one that nobody made."""
        record = self.store.ensure(volume, stack)
        self.world.volumes[volume.name] = VolumeState(volume.name, volume.key, record.owner)

    def ensure_anonymous(self, name: str, stack: str, container: str) -> None:
        self.store.ensure(Volume(name, name), stack, anonymous=container)

    def remove(self, name: str) -> None:
        self.store.remove(name)
        self.world.volumes.pop(name, None)

    def path(self, name: str, mount: Mount, image: Image) -> str:
        """The host's path of a volume, or of the part of it that `subpath` names; filled if it is empty."""
        return self.store.path(name, mount, image)
