"""Containers of other stacks on networks of ours: their names are names here, too.

Nobody serves names for the whole host, so each stack looks for itself: the leases, which all stacks write to
one file, say who is on a network, and the record of that stack what its containers are called.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import anyio

from composer.errors import ComposerError
from composer.inotify import MOVED_TO, Inotify
from composer.network import registry
from composer.network.dns.zone import EndpointName
from composer.paths import Paths
from composer.record import read_record
from composer.supervisor.names import called


class Guests:
    """`names` are the others' of now, as long as `watch` runs."""

    def __init__(self, paths: Paths, stack: str) -> None:
        self.paths, self.stack = paths, stack
        self.names: list[EndpointName] = []
        self.stacks: set[str] = set()
        """Which stacks they are of."""

    async def watch(self, networks: Callable[[], Collection[str]], changed: Callable[[], None]) -> None:
        """Until cancelled: follow who is on `networks`. `changed` hears when `names` are others."""
        self.paths.networks.mkdir(parents=True, exist_ok=True)
        with Inotify() as inotify:
            inotify.watch(self.paths.networks, MOVED_TO)
            while True:
                ours = networks()
                names = []
                self.stacks = registry.stacks_on(self.paths, ours) - {self.stack}
                for stack in sorted(self.stacks):
                    names += self._names(stack, ours, inotify)
                if names != self.names:
                    self.names = names
                    changed()
                await anyio.wait_readable(inotify)
                inotify.take()

    def _names(self, stack: str, networks: Collection[str], inotify: Inotify) -> list[EndpointName]:
        """Nothing for a stack that is gone, or whose record another version of us wrote."""
        here = self.paths.stack(stack)
        try:
            inotify.watch(here.state, MOVED_TO)
            rows = read_record(here)["containers"]
        except (OSError, ComposerError):
            return []
        found: list[EndpointName] = []
        for row in rows:
            shared = {name: there for name, there in row["networks"].items() if name in networks}
            service = "" if row["oneoff"] else row["service"]
            found += called(row["name"], service, row["id"], shared) if row["pid"] else ()
        return found
