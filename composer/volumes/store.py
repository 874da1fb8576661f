"""Named and anonymous volumes of this host: a folder each, with a record beside its data.

<state>/volumes/<name>/_data         what containers see
<state>/volumes/<name>/volume.json   driver, options, labels, the stack that made it
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from composer.disk import locked, read_json, write_json
from composer.errors import ConflictError, NotFoundError, UsageError
from composer.images.image import Image
from composer.model.stack import NOTHING, FrozenMap, Mount, Volume
from composer.paths import Paths
from composer.syscalls import open_in_root
from composer.value import Value

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}")


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
    """Every change is made under the lock of the one volume; readers need none."""

    def __init__(self, paths: Paths) -> None:
        self.root = paths.volumes

    def folder(self, name: str) -> Path:
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

    def list(self) -> list[VolumeRecord]:
        """All volumes, by name."""
        names = sorted(os.listdir(self.root)) if self.root.is_dir() else []
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
            raise UsageError(
                f"volume {volume.name}: there is no volume driver {volume.driver!r} here, only local"
            )
        folder = self.folder(volume.name)
        with locked(self.root / f".{volume.name}.lock"):
            if (there := self.find(volume.name)) is not None:
                return there
            (folder / "_data").mkdir(parents=True, exist_ok=True)
            record = VolumeRecord(
                name=volume.name,
                owner=owner,
                anonymous=anonymous,
                options=FrozenMap(volume.driver_opts),
                labels=FrozenMap(volume.labels),
                created=time.time_ns(),
            )
            write_json(folder / "volume.json", record.__dict__)
        (self.root / f".{volume.name}.lock").unlink(missing_ok=True)
        return record

    def remove(self, name: str) -> None:
        """Delete the volume and all in it;

        no error when it is gone. Raises ConflictError when it will not go.
        """
        folder = self.folder(name)
        (folder / "volume.json").unlink(missing_ok=True)
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:
            return
        except OSError as error:
            raise ConflictError(
                f"volume {name} cannot be removed: {error.strerror}: {error.filename}"
            ) from error

    def path(self, name: str, mount: Mount, image: Image) -> str:
        """The host's path of the volume, or of the part that `subpath` names;

        filled from the image if empty.
        """
        data = self.folder(name) / "_data"
        if not mount.nocopy and not any(data.iterdir()):
            copy_up(image, mount.target, data)
        if not mount.subpath:
            return str(data)
        root = os.open(data, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            inner = open_in_root(root, os.fsencode(mount.subpath), os.O_PATH)
        except FileNotFoundError as error:
            raise NotFoundError(f"volume {name} has no {mount.subpath}") from error
        finally:
            os.close(root)
        try:
            return os.readlink(f"/proc/self/fd/{inner}")
        finally:
            os.close(inner)


def copy_up(image: Image, target: str, data: Path) -> None:
    """Fill an empty volume with what the image has at `target`, owners, modes and times included."""
    for overlay in image.root:
        inside = os.path.normpath(target)
        if overlay.target != "/" and not (inside + "/").startswith(overlay.target + "/"):
            continue
        relative = inside[len(overlay.target) :] if overlay.target != "/" else inside
        for lower in reversed(overlay.lowers):
            source = Path(f"{lower}/{relative.strip('/')}")
            if source.is_dir() and not source.is_symlink():
                copy_folder(source, data)


def copy_folder(source: Path, target: Path) -> None:
    """Copy a tree over another, links as links; the owner of each thing is kept."""
    shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True, copy_function=copy_one)
    for folder, folders, _ in os.walk(source):
        for name in (".", *folders):
            status = os.lstat(f"{folder}/{name}")
            os.chown(
                target / os.path.relpath(f"{folder}/{name}", source),
                status.st_uid,
                status.st_gid,
                follow_symlinks=False,
            )


def copy_one(source: str, target: str) -> None:
    shutil.copy2(source, target, follow_symlinks=False)
    status = os.lstat(source)
    os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
