"""What was built before: layers as directories, and for each key of a step the layer that it made. K.

    layers/<id>/fs      the upper directory of an overlay: what a step changed
    layers/<id>/facts   what was learnt of it: its archive's descriptor, per SOURCE_DATE_EPOCH
    layers/<id>/size    its bytes on the disk, when somebody has asked
    steps/<key>         {"layer": id or "", "created": time, "boot", "at"}; "" is a step that changed nothing
    synced/<boot>       when everything written since that start of the machine was last known to be on disk
    notes/<key>         small facts that took time to find out: digests, downloads, finished images
    mounts/<key>        the directories of RUN --mount=type=cache
    fetched/<key>       downloads, unpacked contexts, repositories
    work/<id>           of a running build, locked by it; without the lock a later build clears it away

Every record appears whole, by rename. A layer is never changed, so a build may stack it while others read it.
Nothing is synced while a build goes on. What was written before the machine went down, and after the last
build that came to its end, may be damaged, and is not used.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from composer.disk import boot_id, locked, read_json, write_json
from composer.paths import Paths
from composer.value import Value


def key_of(*parts: Any) -> str:
    """One key for everything that a result depends on."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:40]


class Done(Value):
    """A step that was carried out before. `layer` is "" when it changed no file; `created` is RFC 3339."""

    layer: str
    created: str


class Cache:
    """All methods may be called from any process at any time."""

    def __init__(self, paths: Paths) -> None:
        self.root = paths.cache / "build"

    def make(self) -> None:
        for name in ("layers", "steps", "notes", "mounts", "work", "synced"):
            (self.root / name).mkdir(parents=True, exist_ok=True, mode=0o700)

    def sync(self) -> None:
        """From here on what was written until now is good after a crash of the machine, too."""
        from composer.syscalls import syncfs

        until = time.time()
        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            syncfs(descriptor)
        finally:
            os.close(descriptor)
        write_json(self.root / "synced" / boot_id(), until)

    # Steps and layers

    def step(self, key: str) -> Done | None:
        path = self.root / "steps" / key
        record = read(path)
        if record is None or (record["layer"] and not self.directory(record["layer"]).is_dir()):
            return None
        if record["boot"] != boot_id() and record["at"] > (read(self.root / "synced" / record["boot"]) or 0):
            return None
        os.utime(path)
        return Done(record["layer"], record["created"])

    def directory(self, layer: str) -> Path:
        return self.root / "layers" / layer / "fs"

    def keep(self, key: str, upper: Path | None, created: str) -> Done:
        """Make an upper directory a layer by moving it, as the result of a step."""
        layer = os.urandom(8).hex() if upper is not None else ""
        if upper is not None:
            self.directory(layer).parent.mkdir(mode=0o700)
            upper.rename(self.directory(layer))
        record = {"layer": layer, "created": created, "boot": boot_id(), "at": time.time()}
        write_json(self.root / "steps" / key, record, durable=False)
        return Done(layer, created)

    def facts(self, layer: str) -> dict[str, Any]:
        return read(self.root / "layers" / layer / "facts") or {}

    def learn(self, layer: str, facts: dict[str, Any]) -> None:
        write_json(self.root / "layers" / layer / "facts", facts, durable=False)

    @contextmanager
    def doing(self, key: str) -> Iterator[None]:
        """While a step is carried out: whoever comes to the same one waits, and finds it done."""
        with locked(self.root / "work" / f"{key}.lock"):
            yield

    # Notes

    def note(self, *key: Any) -> Any | None:
        return read(self.root / "notes" / key_of(*key))

    def remember(self, value: Any, *key: Any) -> None:
        write_json(self.root / "notes" / key_of(*key), value, durable=False)

    # Cache mounts

    def mount(self, identity: str) -> Path:
        return self.root / "mounts" / key_of(identity)

    def fetched(self, identity: str) -> Path:
        return self.root / "fetched" / key_of(identity)

    def used(self, path: Path) -> None:
        """Remember the time of use as the time of access; others see the time of change."""
        status = path.stat()
        os.utime(path, ns=(time.time_ns(), status.st_mtime_ns))

    # Work in progress

    @contextmanager
    def building(self) -> Iterator[None]:
        """For the time of a build: nothing that it may come across is thrown away."""
        self.make()
        with locked(self.root / "lock", shared=True):
            yield

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """An empty directory of one's own, gone afterwards."""
        place = self.root / "work" / os.urandom(6).hex()
        place.mkdir(mode=0o700)
        lock = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield place
        finally:
            os.close(lock)
            shutil.rmtree(place, ignore_errors=True)

    def abandoned(self) -> Iterator[Path]:
        """Workspaces that builds left behind which did not come to an end."""
        for place in (self.root / "work").iterdir():
            if not place.is_dir():
                continue
            lock = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield place
            except BlockingIOError:
                continue
            finally:
                os.close(lock)


def read(path: Path) -> Any | None:
    """A record; None also for one that a crash of the machine has damaged."""
    try:
        return read_json(path)
    except ValueError:
        return None


def link_tree(source: Path, target: Path) -> None:
    """A second tree of the same files: directories are made, all else is hard links."""
    target.mkdir()
    for entry in os.scandir(source):
        if entry.is_dir(follow_symlinks=False):
            link_tree(Path(entry.path), target / entry.name)
        else:
            os.link(entry.path, target / entry.name, follow_symlinks=False)
    status = source.stat()
    os.chown(target, status.st_uid, status.st_gid)
    target.chmod(status.st_mode & 0o7777)
    for name in os.listxattr(source):
        os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
