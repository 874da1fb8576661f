"""Which entries of lists were taken out as they are wrong, so that those that stay keep their numbers.

Two ways to count: as a list is now, and as it is told of, which is how the user wrote it.
"""

from __future__ import annotations

from typing import Any

from composer.model.tree import Path


class Cuts:
    def __init__(self) -> None:
        self._kept: dict[Path, list[int]] = {}
        """By the told path of a list: the told numbers of what is left of it."""

    def told(self, path: Path) -> Path:
        """What is at `path` now, as it is told of."""
        found: Path = ()
        for part in path:
            kept = self._kept.get(found)
            if kept and isinstance(part, int):  # what came later stands behind
                part = kept[part] if part < len(kept) else kept[-1] + 1 + part - len(kept)
            found = (*found, part)
        return found

    def without(self, value: Any, path: Path, gone: set[str | int]) -> Any:
        """A copy of the list or mapping that is at `path` now, without these entries."""
        if isinstance(value, dict):
            return {key: item for key, item in value.items() if key not in gone}
        if not isinstance(value, list):
            return value
        told = self.told(path)
        kept = self._kept.get(told) or range(len(value))
        self._kept[told] = [number for index, number in enumerate(kept) if index not in gone]
        return [item for index, item in enumerate(value) if index not in gone]

    def cut(self, tree: Any, path: Path, number: int) -> bool:
        """Take the entry that is told of by `number` out of the list at `path`. False: there is no list."""
        for part in path:
            tree = tree.get(part) if isinstance(tree, dict) else None
        kept = self._kept.get(path)
        if kept is not None and number not in kept:
            return True
        if not isinstance(tree, list):
            return False
        tree[:] = self.without(tree, path, {kept.index(number) if kept else number})
        return True
