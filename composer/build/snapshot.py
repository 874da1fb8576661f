"""The file tree at one point of a build: a base image's overlays, and the layers that steps put on it. K."""

from __future__ import annotations

import stat
from pathlib import Path

from composer.bundle.accounts import LARGEST_FILE
from composer.images.builtin import stacked
from composer.images.image import RootOverlay
from composer.layered import Layered
from composer.value import Value


class Snapshot(Value):
    """`base_id` is what the base is known by; `layers` are directories of the cache, lowest first."""

    base: tuple[RootOverlay, ...]
    base_id: str
    layers: tuple[Path, ...] = ()

    @property
    def identity(self) -> tuple[str, ...]:
        """What tells this tree from all others."""
        return (self.base_id, *(layer.parent.name for layer in self.layers))

    def on_top(self, layer: Path) -> Snapshot:
        return self.replace(layers=(*self.layers, layer))

    def overlays(self) -> tuple[RootOverlay, ...]:
        return stacked(self.base, tuple(str(layer) for layer in reversed(self.layers)))

    def text(self, path: str) -> str:
        """A file of accounts, links followed inside the tree; "" when there is none."""
        node = self.tree().find(path)
        if node is None or not stat.S_ISREG(node.status.st_mode):
            return ""
        with open(node.places[0], "rb") as file:
            return file.read(LARGEST_FILE).decode(errors="replace")

    def tree(self) -> Layered:
        return Layered((overlay.target, overlay.lowers) for overlay in self.overlays())
