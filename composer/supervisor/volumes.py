"""Volumes as the supervisor needs them: there, filled from the image the first time, shown at a path."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from composer.errors import ConflictError
from composer.images.image import Image
from composer.model.stack import Mount, Volume
from composer.paths import Paths
from composer.plan.observed import VolumeState
from composer.record import stacks
from composer.supervisor.world import World
from composer.volumes.store import VolumeStore, drift, is_layered


class Volumes:
    def __init__(self, paths: Paths, world: World) -> None:
        self.paths = paths
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

    def drift(self, volumes: Iterable[Volume]) -> Iterator[str]:
        """Volumes that are not as they are described by now, in words: data is never given up unasked."""
        for volume in volumes:
            record = None if volume.external else self.store.find(volume.name)
            if record is not None and (differs := drift(record, volume)):
                yield (
                    f"volume {volume.name} exists with other {' and '.join(differs)} than the file says, and "
                    "stays as it is; `composer up -y` makes it anew, without its data"
                )

    def ensure(self, volume: Volume, stack: str) -> None:
        """Raises NotFoundError for an external one that nobody made."""
        record = self.store.ensure(volume, stack)
        self.world.volumes[volume.name] = VolumeState(volume.name, volume.key, record.owner)

    def ensure_anonymous(self, name: str, stack: str, container: str) -> None:
        self.store.ensure(Volume(name, name), stack, anonymous=container)

    def remove(self, name: str, stack: str) -> str:
        """Why it stays, if it does: containers of other stacks have it, too."""
        rows = [
            row for record in stacks(self.paths) if record["stack"] != stack for row in record["containers"]
        ]
        used = {volume for row in rows for volume in row["plan"]["volumes"]}
        self.world.volumes.pop(name, None)
        try:
            self.store.remove(name, in_use=used)
        except ConflictError as error:
            return error.message
        return ""

    def owned(self, stack: str) -> set[str]:
        """Names of the layered volumes that a stack has made."""
        folders = [file.parent for file in self.store.root.glob("*/chain0.json")]
        records = (self.store.find(folder.name) for folder in folders if not folder.name.startswith("."))
        return {record.name for record in records if record and record.owner == stack}

    def end(self, stack: str, names: Iterable[str], *, forget: bool) -> None:
        """The stack is down: its volumes stay, and none of them mounted. `forget`: its snapshots go, too."""
        layered = [name for name in names if is_layered(self.store.folder(name))]
        if layered:
            others = (row for record in stacks(self.store.paths) for row in record["containers"])
            used = {mount["source"] for row in others if row["pid"] for mount in row["mounts"]}
            for name in layered:
                folder = f"{self.store.folder(name)}/"
                if not any(source.startswith(folder) for source in used):
                    self.store.hide(name)
        kept = self.store.snapshots.list(stack) if forget else []
        if kept or self.store.snapshots.every():
            self.store.forget(stack, [each["name"] for each in kept])

    def path(self, name: str, mount: Mount, image: Image) -> str:
        """The host's path of a volume, or of the part of it that `subpath` names; filled if it is empty."""
        return self.store.path(name, mount, image)
