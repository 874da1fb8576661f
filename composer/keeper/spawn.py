"""Starting the supervisor. Imports next to nothing, as it runs before all else."""

from __future__ import annotations

import os

_IGNORED = (
    13,
    25,
)  # SIGPIPE and SIGXFSZ, as Python ignores them; the signal module takes longer than the spawn


def spawn(command: list[str], api: int) -> int:
    """Start the supervisor: its pid. Its input is empty, its output goes where ours goes, `api` is its 3."""
    actions = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), (os.POSIX_SPAWN_DUP2, api, 3)]
    return os.posix_spawn(command[0], command, os.environ, file_actions=actions, setsigdef=_IGNORED)
