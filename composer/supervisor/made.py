"""What each container was made from: its service as it was then, on disk beside what it wrote.

It holds whatever becomes of the files of the stack, and an orphan has nothing else. Nothing is
decided here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from composer.disk import read_json, write_json
from composer.model.digest import from_json, to_json
from composer.model.stack import Service

if TYPE_CHECKING:
    from composer.supervisor.world import Live

FILE = "service.json"


class Made(Mapping[str, Service]):
    """By name of a container; read from disk once somebody asks. Missing: lost, or never written."""

    def __init__(self, containers: Mapping[str, Live], folder: Callable[[str], Path]) -> None:
        self._containers, self._folder = containers, folder

    def __getitem__(self, name: str) -> Service:
        live = self._containers[name]
        if live.service is None:
            try:
                kept = read_json(self._folder(name) / FILE)
            except ValueError:  # a power cut
                kept = None
            if not kept:
                raise KeyError(name)
            live.service = from_json(Service, kept)
        return live.service

    def __iter__(self) -> Iterator[str]:
        return iter(self._containers)

    def __len__(self) -> int:
        return len(self._containers)

    __eq__ = object.__eq__  # two worlds are not compared by reading files
    __hash__ = object.__hash__

    def keep(self, live: Live, service: Service) -> None:
        """From now on this is what it is made from."""
        live.service = service
        folder = self._folder(live.name)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / FILE, to_json(service), mode=0o600, durable=False)
