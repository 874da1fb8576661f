"""Directories that can be taken back to an earlier point: read-only layers, and one that is written to.

    <folder>/<plain>           what is written to, as long as no point was ever kept
    <folder>/chain<n>.json     from then on: the layers, topmost first, and what is written to above them
    <folder>/live<n>-<token>/  upper/ and work/ of the overlay of that time
    <pool>/<token>             the layer that was written to under that token, never changed again

The chain on disk is the truth, and replacing it is the one step that counts: a rename that was cut short is
made up for by whoever looks next, and what no chain names is swept. Knows nothing of volumes or containers.
"""

from __future__ import annotations

import os
import secrets
import shutil
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
    live: str
    layers: tuple[str, ...]


class Directory:
    """One such directory. Whoever changes it holds the lock of the volumes; reading needs none.

    `durable`: its chain is to survive a power cut; without, it may be a plain and empty directory after one.
    """

    def __init__(
        self, pool: Path, folder: Path, plain: str, number: int = 0, *, durable: bool = True
    ) -> None:
        self.pool, self.folder, self.plain = pool, folder, folder / plain
        self.number, self.durable = number, durable
        self.file = folder / f"chain{number}.json"

    def chain(self) -> Chain | None:
        """None while it is a plain directory. Finishes what was cut short."""
        try:
            kept = read_json(self.file)
        except ValueError:
            if self.durable:
                raise
            return None
        if kept is None:
            return None
        chain = Chain(kept["live"], tuple(kept["layers"]))
        if chain.layers:
            self._settle(chain.layers[0])
        return chain

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
            return self._switch((secrets.token_hex(8),), self.plain)
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
        chain = Chain(secrets.token_hex(8), layers)
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
        keep = self._live(chain.live) if chain else None
        for old in self.folder.glob(f"live{self.number}-*"):
            if old != keep:
                os.rename(old, self.pool / f".removed-{secrets.token_hex(6)}")

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


def copy_looks(source: Path, target: Path) -> None:
    """Owner, mode, times and attributes of a directory, but for what overlayfs notes for itself."""
    status = os.stat(source)
    os.chown(target, status.st_uid, status.st_gid)
    shutil.copystat(source, target)
    for name in os.listxattr(target):
        if name.startswith("trusted.overlay."):
            os.removexattr(target, name)


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
        shutil.rmtree(doomed, ignore_errors=True)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
