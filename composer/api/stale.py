"""Stacks whose owner has ended, and whose supervisor could not take them down: it was killed, too."""

from __future__ import annotations

from composer.api.client import start_keeper
from composer.disk import is_locked
from composer.errors import ComposerError
from composer.paths import Paths
from composer.record import stacks
from composer.supervisor.pidfds import find


def sweep() -> list[str]:
    """Have them taken down, in the background, by a supervisor that begins anew; their names."""
    paths, found = Paths.here(), []
    try:
        records = stacks(paths)
    except ComposerError:
        return []  # one of another version is the matter of who uses that stack
    for record in records:
        owner, here = tuple(record.get("owner") or ()), paths.stack(record["stack"])
        if owner and not is_locked(here.life) and find(owner) < 0:
            start_keeper(here)
            found.append(record["stack"])
    return found
