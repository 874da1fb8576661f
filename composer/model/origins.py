"""Where a value of the merged tree came from: files, extended services, included files, in layers."""

from __future__ import annotations

from composer.errors import Place
from composer.model.tree import Path, Source
from composer.value import Value


class Layer(Value):
    """Values below `here` stand in `source` below `there`."""

    source: Source
    document: int = 0
    here: Path = ()
    there: Path = ()


class Origins:
    """Later layers win. Asking is slow and happens only for complaints; adding costs nothing."""

    def __init__(self) -> None:
        self.layers: list[Layer] = []

    def add(self, layer: Layer) -> None:
        self.layers.append(layer)

    def place(self, path: Path) -> Place | None:
        """The place of `path` or its nearest parent; for items of a list from several files, the list."""
        for length in range(len(path), 0, -1):
            part = path[:length]
            found = [place for layer in reversed(self.layers) if (place := self._exact(layer, part))]
            if found and (not isinstance(part[-1], int) or self.speak(part[:-1]) == 1):
                return found[0]
        return Place(self.layers[-1].source.file) if self.layers else None

    def speak(self, path: Path) -> int:
        """How many layers say something of `path`."""
        return sum(self._exact(layer, path) is not None for layer in self.layers)

    def _exact(self, layer: Layer, path: Path) -> Place | None:
        if path[: len(layer.here)] != layer.here:
            return None
        return layer.source.exact(layer.there + path[len(layer.here) :], layer.document)
