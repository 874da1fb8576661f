"""Directories that can be taken back to an earlier point: read-only layers, and one that is written to.

    <folder>/<plain>           what is written to, as long as no point was ever kept
    <folder>/chain<n>.json     from then on: the layers, topmost first, and what is written to above them
    <folder>/live<n>-<token>/  upper/ and work/ of the overlay of that time
    <pool>/<token>             the layer that was written to under that token, never changed again but to
                               become a plain directory, when nobody else lies on it

The chain on disk is the truth, and replacing it is the one step that counts: a rename that was cut short is
made up for by whoever looks next, and what no chain names is swept. Knows nothing of volumes or containers.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

from composer.disk import keep_private, read_json, write_json
from composer.errors import ConflictError
from composer.syscalls import mount
from composer.value import Value

MOST = 100
"""Layers under one directory: their names fill one page, which is what mount(2) takes."""
OPTIONS = "redirect_dir=on,metacopy=off"
"""A directory can be renamed as anywhere; a file is in one layer as a whole."""


class Chain(Value):
    """`flat`: its one layer is to be the plain directory, and the chain to go."""

    live: str
    layers: tuple[str, ...]
    flat: bool = False


class Directory:
    """One such directory. Whoever changes it holds the lock of the volumes; reading needs none.

    `durable`: its chain is to survive a power cut; without, it may be a plain and empty directory after one.
    `above`: it is itself written to above other directories, and what it hides of them stays hidden.
    """

    def __init__(
        self,
        pool: Path,
        folder: Path,
        plain: str,
        number: int = 0,
        *,
        durable: bool = True,
        above: bool = False,
    ) -> None:
        self.pool, self.folder, self.plain = pool, folder, folder / plain
        self.number, self.durable, self.above = number, durable, above
        self.file = folder / f"chain{number}.json"

    def chain(self) -> Chain | None:
        """None while it is a plain directory. Finishes what was cut short."""
        chain = self.read()
        if chain is None or self._flat(chain):
            return None
        if chain.layers:
            self._settle(chain.layers[0])
        return chain

    def read(self) -> Chain | None:
        """`chain` for those who do not hold the lock: nothing is finished."""
        try:
            kept = read_json(self.file)
        except ValueError:
            if self.durable:
                raise
            return None
        if kept is None:
            return None
        return Chain(kept["live"], tuple(kept["layers"]), kept.get("flat", False))

    def flatten(self) -> bool:
        """Make it a plain directory again: what was written to its layers is moved together, none of it
        copied. Nothing may be using it, and nobody else its layers.

        Cut short at any point it shows what it showed. False where it cannot be, and stays as it is.
        """
        chain = self.chain()
        if chain is None:
            return True
        if self.plain.is_dir() and any(self.plain.iterdir()):
            return False  # somebody put something where it is mounted, which it hides
        bottom = self.pool / chain.layers[-1]
        parts = [*(self.pool / token for token in reversed(chain.layers[:-1])), self.upper(chain)]
        if any(map(moves, parts)):
            return False
        for part in parts:
            merge(part, bottom, self.pool, above=self.above)
        flat = Chain(chain.live, chain.layers[-1:], flat=True)
        write_json(self.file, flat.__dict__, durable=self.durable)
        for token in chain.layers[:-1]:
            _aside(self.pool / token, self.pool)
        return self._flat(flat)

    def _flat(self, chain: Chain) -> bool:
        """Whether it is a plain directory now, which it was to become."""
        if not chain.flat:
            return False
        try:
            os.rename(self.pool / chain.layers[0], self.plain)
        except FileNotFoundError:
            pass  # it is there already
        self._give_up(None)
        _sync(self.folder)
        self.file.unlink(missing_ok=True)
        return True

    def _settle(self, top: str) -> None:
        """What was written to when the topmost layer was made is that layer."""
        layer = self.pool / top
        if layer.exists():
            return
        before = self._live(top) / "upper"
        try:
            os.rename(before if before.is_dir() else self.plain, layer)
        except OSError:
            if not layer.exists():  # else somebody else was quicker
                raise
        for changed in (self.folder, self.pool) if self.durable else ():
            _sync(changed)

    def _live(self, token: str) -> Path:
        return self.folder / f"live{self.number}-{token}"

    def upper(self, chain: Chain) -> Path:
        return self._live(chain.live) / "upper"

    def work(self, chain: Chain) -> Path:
        return self._live(chain.live) / "work"

    def lowers(self, chain: Chain) -> list[str]:
        return [str(self.pool / token) for token in chain.layers]

    def keep(self) -> tuple[str, ...]:
        """What it holds now becomes a layer; the layers that are this point. Nothing may be using it.

        Raises ConflictError when there are too many.
        """
        chain = self.chain()
        if chain is None:
            return self._switch((os.urandom(8).hex(),), self.plain)
        if len(chain.layers) >= MOST:
            raise ConflictError(
                f"{self.folder} has {MOST} layers already",
                hint="restore an earlier snapshot first, or remove it and bring the stack up anew",
            )
        return self._switch((chain.live, *chain.layers), self.upper(chain))

    def go(self, layers: tuple[str, ...]) -> None:
        """Back to a point. What was written since is given up. Nothing may be using it."""
        if self.chain() is None and self.plain.is_dir():
            self.keep()  # so that what is given up is a layer like any other, which is swept
        self._switch(layers, self.pool / layers[0])
        self.sweep()

    def _switch(self, layers: tuple[str, ...], top: Path) -> tuple[str, ...]:
        """A fresh writable layer over `layers`, which looks as `top` does."""
        chain = Chain(os.urandom(8).hex(), layers)
        upper = self.upper(chain)
        upper.mkdir(parents=True)
        self.work(chain).mkdir()
        keep_private(self.pool)
        copy_looks(top, upper)
        write_json(self.file, chain.__dict__, durable=self.durable)
        self._settle(layers[0])
        return layers

    def sweep(self) -> None:
        """Nothing stays of what was written to once and is no layer. Deleted later by `empty`."""
        chain = self.chain()
        self._give_up(self._live(chain.live) if chain else None)

    def _give_up(self, keep: Path | None) -> None:
        for old in self.folder.glob(f"live{self.number}-*"):
            if old != keep:
                _aside(old, self.pool)

    def show(self) -> None:
        """Mount it at its plain place, unless it is. Raises OSError."""
        chain = self.chain()
        self.plain.mkdir(exist_ok=True)
        if chain is None or os.path.ismount(self.plain):
            return
        # By descriptor: short, and no comma or colon in it has a meaning.
        flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        pool, live = os.open(self.pool, flags), os.open(self._live(chain.live), flags)
        try:
            lowers = ":".join(f"/proc/self/fd/{pool}/{token}" for token in chain.layers)
            place = f"/proc/self/fd/{live}"
            data = f"lowerdir={lowers},upperdir={place}/upper,workdir={place}/work,{OPTIONS}"
            mount("overlay", self.plain, "overlay", 0, data)
        finally:
            os.close(pool)
            os.close(live)


_OVERLAY = "trusted.overlay."
_NOTES = frozenset(f"{_OVERLAY}{name}" for name in ("redirect", "metacopy", "whiteout"))


def moves(layer: Path) -> bool:
    """Whether overlayfs noted in a layer that a directory came from elsewhere: its content lies there."""
    for place, folders, files in os.walk(layer):
        for name in (*folders, *files):
            if not _NOTES.isdisjoint(os.listxattr(os.path.join(place, name), follow_symlinks=False)):
                return True
    return False


def merge(upper: Path, lower: Path, pool: Path, *, above: bool = False) -> None:
    """Move what a layer holds into the one right below it, so that both together show the same all the time.

    What it hides there goes, but for the note of it when there is more `above` which they lie. `upper` stays,
    empty.
    """
    before = os.stat(upper)
    for name in os.listdir(upper):
        mine, theirs = upper / name, lower / name
        status = os.lstat(mine)
        if stat.S_ISDIR(status.st_mode) and _is_directory(theirs) and not _is_opaque(mine):
            merge(mine, theirs, pool, above=above)
            mine.rmdir()
            continue
        if os.path.lexists(theirs):
            _aside(theirs, pool)
        if is_whiteout(status) and not above:
            mine.unlink()
            continue
        if not above:
            _plain(mine, directory=stat.S_ISDIR(status.st_mode))
        os.rename(mine, theirs)
    for name in set(os.listxattr(lower)) - set(os.listxattr(upper)):
        if not (above and name.startswith(_OVERLAY)):
            os.removexattr(lower, name)
    copy_looks(upper, lower)
    os.utime(lower, ns=(before.st_atime_ns, before.st_mtime_ns))


def _plain(top: Path, *, directory: bool) -> None:
    """Nothing of overlayfs stays on what is moved as it is: it has no counterpart below."""
    for place, folders, files in os.walk(top) if directory else ():
        for name in files:
            path = Path(place, name)
            if is_whiteout(os.lstat(path)):
                path.unlink()
            else:
                _without_notes(path)
        for name in folders:
            _without_notes(Path(place, name))
    _without_notes(top)


def _without_notes(path: Path) -> None:
    for name in os.listxattr(path, follow_symlinks=False):
        if name.startswith(_OVERLAY):
            os.removexattr(path, name, follow_symlinks=False)


def _aside(path: Path, pool: Path) -> None:
    """Out of the way; `empty` deletes it."""
    os.rename(path, pool / f".removed-{os.urandom(6).hex()}")


def _is_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _is_opaque(path: Path) -> bool:
    try:
        return os.getxattr(path, f"{_OVERLAY}opaque") == b"y"
    except OSError:
        return False


def is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def copy_looks(source: Path, target: Path) -> None:
    """Owner, mode, attributes and times of a directory, but for what overlayfs notes for itself."""
    status = os.stat(source)
    os.chown(target, status.st_uid, status.st_gid)
    for name in os.listxattr(source):
        if not name.startswith(_OVERLAY):
            os.setxattr(target, name, os.getxattr(source, name))
    os.chmod(target, stat.S_IMODE(status.st_mode))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def referenced(folders: Iterable[Path], *, durable: bool = True) -> set[str]:
    """The tokens of layers that directories in these folders lie on. Raises ValueError for a damaged one."""
    found: set[str] = set()
    for file in (file for folder in folders for file in folder.glob("chain*.json")):
        try:
            found |= set((read_json(file) or {"layers": ()})["layers"])
        except ValueError:
            if durable:
                raise  # rather keep too much
    return found


def sweep(pool: Path, used: set[str]) -> None:
    """Set aside the layers that nobody uses; `empty` deletes them."""
    for layer in pool.iterdir() if pool.is_dir() else ():
        if not layer.name.startswith(".") and layer.name not in used:
            os.rename(layer, pool / f".removed-{layer.name}")


def empty(pool: Path) -> None:
    """Delete what was set aside. Takes its time."""
    for doomed in pool.glob(".removed-*"):
        if doomed.is_dir() and not doomed.is_symlink():
            shutil.rmtree(doomed, ignore_errors=True)
        else:
            doomed.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
