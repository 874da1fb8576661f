"""Named and anonymous volumes of this host: a folder each, with a record beside its data.

    <state>/volumes/<name>/_data         what containers see
    <state>/volumes/<name>/volume.json   driver, options, labels, the stack that made it
    <state>/volumes/<name>/filling       there while `_data` is being filled from an image
    <state>/volumes/<name>/chain0.json   there once a snapshot was made: `_data` is a mount then; see `layers`

A volume exists when its record does. It goes by a rename, so that half of one is never seen and a later one
of the same name never finds old data. Who uses it is known from the records of stacks.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from composer.disk import keep_private, locked, read_json, write_json
from composer.errors import ComposerError, ConflictError, NotFoundError, UsageError
from composer.layered import Layered, copy
from composer.model.stack import NOTHING, FrozenMap, Mount, Volume
from composer.paths import Paths
from composer.syscalls import open_in_root, unmount
from composer.value import Value
from composer.volumes.local import local_options, source
from composer.volumes.snapshots import SnapshotStore, tokens

if TYPE_CHECKING:
    from composer.images.image import Image

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class VolumeRecord(Value):
    """A volume of this host. `owner` is the stack that made it, "" for `volume create`; `anonymous` the
    container it was made for; `created` nanoseconds since the epoch."""

    name: str
    owner: str = ""
    anonymous: str = ""
    driver: str = "local"
    options: Mapping[str, str] = NOTHING
    labels: Mapping[str, str] = NOTHING
    created: int = 0


class VolumeStore:
    """Every change is made under the lock of the host's volumes; readers need none."""

    def __init__(self, paths: Paths) -> None:
        self.paths, self.root = paths, paths.volumes
        self.snapshots = SnapshotStore(paths)

    def folder(self, name: str) -> Path:
        """Raises UsageError for what cannot be a name."""
        if not NAME.fullmatch(name):
            raise UsageError(f"{name!r} is not a volume name", hint="letters, digits, '_', '.' and '-'")
        return self.root / name

    def find(self, name: str) -> VolumeRecord | None:
        """None when there is no such volume."""
        kept = read_json(self.folder(name) / "volume.json")
        if kept is None:
            return None
        maps = {key: FrozenMap(kept[key]) for key in ("options", "labels")}
        return VolumeRecord(**{**kept, **maps})

    def get(self, name: str) -> VolumeRecord:
        """`find`, or NotFoundError."""
        record = self.find(name)
        if record is None:
            raise NotFoundError(f"there is no volume {name}")
        return record

    def list(self) -> list[VolumeRecord]:
        """All volumes, by name."""
        names = sorted(entry.name for entry in self.root.iterdir()) if self.root.is_dir() else []
        return [record for name in names if NAME.fullmatch(name) and (record := self.find(name)) is not None]

    def ensure(self, volume: Volume, owner: str, *, anonymous: str = "") -> VolumeRecord:
        """The volume, made when missing. Raises NotFoundError for an external one that nobody made."""
        if (there := self.find(volume.name)) is not None:
            return there
        if volume.external:
            raise NotFoundError(
                f"the external volume {volume.name} does not exist",
                hint=f"make it with `composer volume create {volume.name}`",
            )
        if volume.driver not in ("", "local"):
            raise UsageError(f"volume {volume.name}: there is no volume driver {volume.driver!r}, only local")
        local_options(volume.name, volume.driver_opts)
        folder = self.folder(volume.name)
        with self.locked():
            if (there := self.find(volume.name)) is not None:
                return there
            (folder / "_data").mkdir(parents=True, exist_ok=True)
            (folder / "_data").chmod(0o755)
            record = VolumeRecord(
                name=volume.name,
                owner=owner,
                anonymous=anonymous,
                options=FrozenMap(volume.driver_opts),
                labels=FrozenMap(volume.labels),
                created=time.time_ns(),
            )
            write_json(folder / "volume.json", record.__dict__)
        return record

    def inspect(self, name: str) -> dict[str, Any]:
        """All that is known about a volume, under Docker's names."""
        record = self.get(name)
        created = datetime.fromtimestamp(record.created / 1e9, UTC)
        return {
            "Name": record.name,
            "Driver": record.driver,
            "Mountpoint": str(self.folder(name) / "_data"),
            "CreatedAt": created.isoformat(timespec="seconds").replace("+00:00", "Z"),
            "Labels": dict(record.labels),
            "Options": dict(record.options),
            "Scope": "local",
            **self._status(name),
        }

    def _status(self, name: str) -> dict[str, Any]:
        """The snapshots that it can be taken back to, where Docker has what a driver says of a volume."""
        chain = self.snapshots.volume(self.folder(name)).read()
        if chain is None:
            return {}
        every = self.snapshots.list()
        held = [f"{each['stack']}/{each['name']}" for each in every if set(chain.layers) & set(tokens(each))]
        return {"Status": {"Layers": len(chain.layers), "Snapshots": held}}

    # Using

    def path(self, name: str, mount: Mount, image: Image) -> str:
        """The host's path of the volume, or of the part that `subpath` names; filled from the image if empty.

        Raises NotFoundError for a missing volume or part, ComposerError when it cannot be mounted.
        """
        record = self.get(name)
        folder = self.folder(name)
        data = source(name, local_options(name, record.options), folder / "_data")
        self.show(name)
        if not mount.nocopy:
            with self.locked():
                self._fill(folder, data, image, mount.target)
        if not mount.subpath:
            return str(data)
        root = os.open(data, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            inner = open_in_root(root, os.fsencode(mount.subpath), os.O_PATH)
        except FileNotFoundError:
            hint = "a subpath is never made: make it in the volume first"
            raise NotFoundError(f"volume {name} has no {mount.subpath}", hint=hint) from None
        except OSError as error:
            raise ComposerError(f"volume {name}: {mount.subpath}: {error.strerror}") from error
        finally:
            os.close(root)
        try:
            return os.readlink(f"/proc/self/fd/{inner}")
        finally:
            os.close(inner)

    def _fill(self, folder: Path, data: Path, image: Image, target: str) -> None:
        """Give an empty volume what the image has at `target`, and its owner and mode.

        Broken off, begun anew.
        """
        marker = folder / "filling"
        broken = marker.exists()
        if not broken and any(data.iterdir()):
            return
        tree = Layered((overlay.target, overlay.lowers) for overlay in image.root)
        node = tree.find(target)
        if node is None or not node.is_directory:
            return
        descriptor = os.open(data, _DIRECTORY)
        try:
            if broken:
                _empty(descriptor)
            marker.touch()
            copy(tree, node, descriptor)
            marker.unlink()
        except OSError as error:
            raise ComposerError(f"cannot fill a volume from {target} of the image: {error}") from error
        finally:
            os.close(descriptor)

    def show(self, name: str) -> None:
        """A volume that was ever part of a snapshot is put together. Raises ComposerError."""
        folder = self.folder(name)
        if not is_layered(folder):
            return
        with self.locked():
            try:
                layered = self.snapshots.volume(folder)
                self.snapshots.flatten(layered)
                layered.show()
            except OSError as error:
                raise ComposerError(f"volume {name}: cannot mount its layers: {error.strerror}") from error

    def hide(self, name: str) -> None:
        """It is not used now: nothing of it stays mounted. Its data stays where it is."""
        if is_layered(self.folder(name)):
            unmount(self.folder(name) / "_data")

    def forget(self, stack: str, names: Iterable[str]) -> None:
        """Remove snapshots of a stack, and the layers that only they needed."""
        with self.locked():
            for name in names:
                self.snapshots.remove(stack, name)
            self.snapshots.sweep()
            for file in self.root.glob("[!.]*/chain0.json"):
                self.snapshots.flatten(self.snapshots.volume(file.parent))
        self.snapshots.empty()

    # Removing

    def remove(self, name: str, *, in_use: Collection[str] = ()) -> None:
        """Delete the volume and all in it;

        no error when it is gone. Raises ConflictError while it is used.
        """
        folder = self.folder(name)
        with self.locked():
            if not folder.exists():
                return
            if name in in_use:
                raise ConflictError(
                    f"the volume {name} is in use", hint="remove the containers that use it first"
                )
            unmount(folder / "_data")
            doomed = self.root / f".removed-{os.urandom(6).hex()}"
            layered = is_layered(folder)
            folder.rename(doomed)
            if layered:
                self.snapshots.sweep()
        self._delete(doomed, name)
        if layered:
            self.snapshots.empty()

    def prune(self, *, all_: bool = False, in_use: Collection[str] = ()) -> tuple[str, ...]:
        """Remove anonymous volumes, or with `all_` every one, that nobody uses; their names."""
        removed = []
        for record in self.list():
            if not (record.anonymous or all_):
                continue
            try:
                self.remove(record.name, in_use=in_use)
            except ConflictError:
                continue
            removed.append(record.name)
        for left in self.root.glob(".removed-*"):  # by someone who was killed
            self._delete(left, left.name)
        return tuple(removed)

    def size(self, name: str) -> int:
        """Bytes on the disk, other mounts left out; of a layered volume what is above its layers."""
        total = 0
        folder = self.folder(name)
        layered = self.snapshots.volume(folder)
        chain = layered.read()
        data = layered.upper(chain) if chain and not chain.flat else folder / "_data"
        device = data.stat().st_dev
        for directory, folders, files in os.walk(data):
            statuses = [os.lstat(Path(directory, entry)) for entry in (*folders, *files)]
            total += sum(status.st_blocks * 512 for status in statuses if status.st_dev == device)
        return total

    def _delete(self, doomed: Path, name: str) -> None:
        try:
            shutil.rmtree(doomed)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise ConflictError(
                f"volume {name} cannot be removed: {error.strerror}: {error.filename}"
            ) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        keep_private(self.root)
        with locked(self.root / ".lock"):
            yield


def drift(record: VolumeRecord, volume: Volume) -> list[str]:
    """What of a volume that is here is described otherwise by now, by the names of the keys."""
    pairs = (
        ("driver_opts", volume.driver_opts, record.options),
        ("labels", volume.labels, record.labels),
    )
    return [key for key, wanted, here in pairs if dict(wanted) != dict(here)]


def is_layered(folder: Path) -> bool:
    """Whether a snapshot was ever made of the volume in this folder."""
    return (folder / "chain0.json").exists()


def _empty(directory: int) -> None:
    """Remove what an open directory holds, without following a link."""
    for name in os.listdir(directory):
        if stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            shutil.rmtree(name, dir_fd=directory)
        else:
            os.unlink(name, dir_fd=directory)
