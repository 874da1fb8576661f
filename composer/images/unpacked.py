"""Layers as directories, one per diff id, shared by all images and containers.

`layers/<hex>/fs` is what overlayfs stacks, `layers/<hex>/facts.json` what was learnt on the way. A
directory in `layers` is whole: it is made in `unfinished`, under a lock on itself, and appears by rename.
Whoever waits for the lock of another process finds the layer there, or starts over.

Nobody waits for the disk: `unsettled/<hex>` names the boot that a layer was unpacked in until `settle` has
seen it there. In another boot such a layer is as good as none, and is unpacked again.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from composer.disk import boot_id, locked, read_json, write_atomic, write_json
from composer.layered import Layered, copy_directories

if TYPE_CHECKING:
    from composer.images.layers import Facts
    from composer.images.stream import Read


class Reader(Protocol):
    """What layers are read from."""

    def read(self, count: int, /) -> bytes: ...

    def abandon(self) -> None:
        """Nobody will read on: let go of a `read` that waits."""


Open = Callable[[], AbstractContextManager[Reader]]


class Unpacked:
    """The unpacked layers of the store at `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def directory(self, diff_id: str) -> Path:
        """Where a layer is, or would be: a lower of an overlay."""
        return self._home(diff_id) / "fs"

    def has(self, diff_id: str) -> bool:
        return _is_whole(self._home(diff_id), self._note(diff_id))

    def size(self, diff_id: str) -> int:
        """Bytes of the layer's archive."""
        return int(self._facts(diff_id).get("size", 0))

    def ensure(self, diff_id: str, open_: Open, progress: Callable[[int], None] | None = None) -> None:
        """Unpack a layer from the archive that `open_` gives, unless it is there. Raises ImageError."""
        from composer.images.layers import unpack

        with self._unfinished(diff_id) as place:
            if place is None:
                return
            fs = place / "fs"
            fs.mkdir(mode=0o755)
            fs.chmod(0o755)
            with open_() as reader:
                facts = unpack(reader.read, fs, expected=diff_id, progress=progress, abandon=reader.abandon)
            self._finish(diff_id, place, {"size": facts.size, "implicit": facts.implicit})

    def fresh(self, read: Read, progress: Callable[[int], None] | None = None) -> Facts:
        """Unpack a layer whose diff id nobody knows yet. Raises ImageError."""
        from composer.images.layers import unpack

        place = self.root / "unfinished" / f"new-{os.getpid()}-{os.urandom(6).hex()}"
        (place / "fs").mkdir(parents=True)
        (place / "fs").chmod(0o755)
        try:
            facts = unpack(read, place / "fs", progress=progress)
            if not self.has(facts.diff_id):
                try:
                    self._finish(facts.diff_id, place, {"size": facts.size, "implicit": facts.implicit})
                except FileExistsError:
                    pass  # another process was faster with the same layer
                except OSError as error:
                    if error.errno != errno.ENOTEMPTY:
                        raise
        finally:
            shutil.rmtree(place, ignore_errors=True)
        return facts

    def adopt(self, diff_id: str, upper: Path, size: int) -> None:
        """Make the upper directory of an overlay a layer, by moving it: `size` bytes as an archive."""
        with self._unfinished(diff_id) as place:
            if place is None:
                shutil.rmtree(upper)
            else:
                upper.rename(place / "fs")
                self._finish(diff_id, place, {"size": size, "implicit": ()})

    def stack(self, diff_ids: list[str]) -> tuple[str, ...]:
        """The directories of an image's layers, topmost first. All of them are there.

        Above a layer with implicit directories comes one more, which gives these what the layers below say of
        them: a layer that only brings `srv/data/new` does not change who may enter `srv/data`.
        """
        stacked: list[str] = []
        for number, diff_id in enumerate(diff_ids):
            below = tuple(stacked)
            stacked.insert(0, str(self.directory(diff_id)))
            if below and (self._home(diff_id) / "implicit").exists():
                parents = self._parents(diff_id, diff_ids[:number], below)
                if any(parents.iterdir()):
                    stacked.insert(0, str(parents))
        return tuple(stacked)

    def ids(self) -> Iterator[str]:
        layers = self.root / "layers"
        for path in layers.iterdir() if layers.is_dir() else ():
            yield f"sha256:{path.name}"

    def delete(self, diff_id: str) -> int:
        """Remove a layer that no container uses; the bytes that became free. Only while sweeping."""
        size = self.size(diff_id)
        doomed = self.root / "unfinished" / f"deleted-{diff_id.partition(':')[2]}"
        shutil.rmtree(doomed, ignore_errors=True)
        self._home(diff_id).rename(doomed)  # so that half a layer is never seen
        self._note(diff_id).unlink(missing_ok=True)
        shutil.rmtree(doomed)
        return size

    def settle(self) -> None:
        """What was unpacked until now is on the disk from here on. Waits for the disk."""
        folder = self.root / "unsettled"
        notes = [note for note in folder.iterdir() if _read(note) == boot_id()] if folder.is_dir() else []
        if not notes:
            return
        from composer.syscalls import syncfs

        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            syncfs(descriptor)  # one call instead of an fsync for each of thousands of files
        finally:
            os.close(descriptor)
        for note in notes:
            note.unlink(missing_ok=True)

    def sweep_unfinished(self) -> None:
        """Remove what broken writers left. Only while sweeping, when there are no writers."""
        for path in (self.root / "unfinished").iterdir():
            shutil.rmtree(path, ignore_errors=True)

    def _parents(self, diff_id: str, under: list[str], below: tuple[str, ...]) -> Path:
        """The implicit directories of a layer as the layers `below` have them; made once for each stack."""
        from hashlib import sha256

        home = self._home(diff_id)
        ready = home / f"parents-{sha256(' '.join(under).encode()).hexdigest()[:16]}"
        if not ready.exists():
            place = self.root / "unfinished" / f"new-{os.getpid()}-{os.urandom(6).hex()}"
            place.mkdir(parents=True)
            implicit = self._facts(diff_id).get("implicit", ())
            copy_directories(Layered([("/", below)]), Layered([("/", (str(home / "fs"),))]), implicit, place)
            try:
                place.rename(ready)
            except OSError:
                shutil.rmtree(place)  # another process was faster
        return ready

    def _facts(self, diff_id: str) -> dict[str, Any]:
        return (read_json(self._home(diff_id) / "facts.json") or {}) if self.has(diff_id) else {}

    def _home(self, diff_id: str) -> Path:
        return self.root / "layers" / diff_id.partition(":")[2]

    def _note(self, diff_id: str) -> Path:
        return self.root / "unsettled" / diff_id.partition(":")[2]

    def _unfinished(self, diff_id: str) -> _Unfinished:
        place = self.root / "unfinished" / diff_id.partition(":")[2]
        return _Unfinished(place, self._home(diff_id), self._note(diff_id))

    def _finish(self, diff_id: str, place: Path, facts: dict[str, object]) -> None:
        write_json(place / "facts.json", facts, durable=False)
        if facts["implicit"]:
            (place / "implicit").touch()
        home, note = self._home(diff_id), self._note(diff_id)
        note.parent.mkdir(exist_ok=True, mode=0o700)
        with locked(self.root / "unsettled.lock"):
            if home.exists() and not self.has(diff_id):
                lost = self.root / "unfinished" / f"deleted-{home.name}"
                shutil.rmtree(lost, ignore_errors=True)
                home.rename(lost)
            write_atomic(note, boot_id().encode())
            folder = os.open(note.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)  # never the layer without its note
            finally:
                os.close(folder)
            place.rename(home)


def _is_whole(home: Path, note: Path) -> bool:
    made_in = _read(note)
    return (made_in is None or made_in == boot_id()) and home.exists()


def _read(note: Path) -> str | None:
    try:
        return note.read_text()
    except FileNotFoundError:
        return None


class _Unfinished:
    """Holds the lock of a layer in the making; gives its empty directory, or None when it is made already."""

    def __init__(self, place: Path, home: Path, note: Path) -> None:
        self._place, self._home, self._note = place, home, note
        self._lock = -1

    def __enter__(self) -> Path | None:
        while not _is_whole(self._home, self._note):
            self._place.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._home.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(self._place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            try:
                if os.path.samestat(os.fstat(self._lock), self._place.stat()):
                    shutil.rmtree(self._place / "fs", ignore_errors=True)
                    return self._place
            except FileNotFoundError:
                pass  # finished or swept while we waited
            os.close(self._lock)
            self._lock = -1
        return None

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self._lock < 0:
            return
        if kind is not None:
            shutil.rmtree(self._place, ignore_errors=True)
        os.close(self._lock)
