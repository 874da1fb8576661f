"""Snapshots of stacks: what is kept under a name, and the layers that all of them are made of.

    <state>/snapshots/stacks/<stack>/<name>.json   one snapshot
    <state>/snapshots/layers/<token>/              a layer; see `layers`

A snapshot exists when its file does. A layer stays as long as a snapshot, a volume or a container lies on it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypedDict

from composer.disk import read_json, write_json
from composer.errors import NotFoundError, UsageError
from composer.paths import Paths
from composer.volumes import layers
from composer.volumes.layers import Directory

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")

Layers = list[str]
"""Tokens, topmost first."""


class Root(TypedDict):
    """The writable layers of a container: `roots` per overlay, `anonymous` by target. `image` is an id."""

    image: str
    roots: list[Layers]
    anonymous: dict[str, Layers]


class Snapshot(TypedDict):
    """`volumes` by their key in the stack file; `containers` as service/number. `created` in ns."""

    stack: str
    name: str
    created: int
    volumes: dict[str, Layers]
    containers: dict[str, Root]


class SnapshotStore:
    """Whoever changes something holds the lock of the volumes."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.pool = paths.snapshots / "layers"
        self.stacks = paths.snapshots / "stacks"

    def file(self, stack: str, name: str) -> Path:
        """Raises UsageError for what cannot be a name."""
        for what, text in (("stack", stack), ("snapshot", name)):
            if not NAME.fullmatch(text):
                raise UsageError(f"{text!r} is not a {what} name", hint="letters, digits, '_', '.' and '-'")
        return self.stacks / stack / f"{name}.json"

    def find(self, stack: str, name: str) -> Snapshot | None:
        found: Snapshot | None = read_json(self.file(stack, name))
        return found

    def get(self, stack: str, name: str) -> Snapshot:
        """`find`, or NotFoundError."""
        found = self.find(stack, name)
        if found is None:
            there = ", ".join(each["name"] for each in self.list(stack))
            hint = f"there are {there}" if there else "`composer snapshot create` makes one"
            raise NotFoundError(f"stack {stack} has no snapshot {name}", hint=hint)
        return found

    def list(self, stack: str = "") -> list[Snapshot]:
        """Those of a stack, or of all, oldest first."""
        files = self.stacks.glob(f"{stack or '*'}/*.json")
        found: list[Snapshot] = [each for file in files if (each := read_json(file)) is not None]
        return sorted(found, key=lambda each: each["created"])

    def write(self, snapshot: Snapshot) -> None:
        file = self.file(snapshot["stack"], snapshot["name"])
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, snapshot)

    def remove(self, stack: str, name: str) -> None:
        """Forget it; its layers go with `sweep`."""
        file = self.file(stack, name)
        file.unlink(missing_ok=True)
        try:
            file.parent.rmdir()
        except OSError:
            pass  # it is not the last one

    def root(self, state: Path, number: int) -> Directory:
        """The writable part of a container's overlay; `state` is the container's own folder."""
        return Directory(self.pool, state, f"upper{number}", number, durable=False, above=True)

    def overlay(self, state: Path, number: int) -> tuple[Path, Path, Layers]:
        """What a container's overlay is written to, its work folder, and the layers on top of the image's."""
        root = self.root(state, number)
        chain = root.chain()
        if chain is None:
            return root.plain, state / f"work{number}", []
        return root.upper(chain), root.work(chain), root.lowers(chain)

    def volume(self, folder: Path) -> Directory:
        return Directory(self.pool, folder, "_data")

    # Layers

    def sweep(self) -> None:
        """Set aside the layers that nobody lies on. `empty` deletes them, and takes its time."""
        kept = {token for snapshot in self.list() for token in tokens(snapshot)}
        layers.sweep(self.pool, kept | self.used())

    def used(self, *, but: Path | None = None) -> set[str]:
        """The layers that volumes and containers lie on, one folder left out."""
        volumes = (folder for folder in self.paths.volumes.glob("[!.]*/") if folder != but)
        containers = (folder for folder in self.paths.stacks_state.glob("*/containers/*/") if folder != but)
        return layers.referenced(volumes) | layers.referenced(containers, durable=False)

    def flatten(self, place: Directory) -> None:
        """What lies on layers that nobody else needs is a plain directory again, unless it is mounted."""
        chain = place.chain()
        if chain is not None and not os.path.ismount(place.plain):
            kept = {token for snapshot in self.list() for token in tokens(snapshot)}
            if (kept | self.used(but=place.folder)).isdisjoint(chain.layers):
                place.flatten()

    def empty(self) -> None:
        layers.empty(self.pool)

    def size(self, wanted: set[str]) -> int:
        """Bytes on the disk of these layers."""
        return sum(
            os.lstat(os.path.join(place, name)).st_blocks * 512
            for token in wanted
            for place, folders, files in os.walk(self.pool / token)
            for name in (*folders, *files)
        )

    def every(self) -> set[str]:
        """The tokens of all layers that are there."""
        return {entry.name for entry in self.pool.glob("[!.]*")}


def tokens(snapshot: Snapshot | Mapping[str, Any]) -> Iterator[str]:
    """The layers that a snapshot lies on."""
    for found in snapshot["volumes"].values():
        yield from found
    for root in snapshot["containers"].values():
        for found in (*root["roots"], *root["anonymous"].values()):
            yield from found
