"""Which verbs there are, where they live, and their line in the list of commands. Imports nothing."""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    module: str
    summary: str


def _entries(package: str, prefix: tuple[str, ...], **summaries: str) -> dict[tuple[str, ...], Entry]:
    return {(*prefix, name): Entry(f"{package}.{name}", text) for name, text in summaries.items()}


VERBS: dict[tuple[str, ...], Entry] = _entries(
    "composer.cli",
    (),
    config="Show the stack as composer understands it",
    down="Stop and remove containers, networks and, on request, volumes and images",
    exec="Run a command in a running container",
    kill="Kill containers at once",
    logs="Show what containers printed",
    plan="Show what `up` would do, and which field made it so",
    ps="List containers",
    restart="Restart containers",
    start="Start stopped containers",
    stop="Stop containers",
    up="Create and start containers",
    version="Show the version",
)

GROUPS: dict[str, str] = {}
