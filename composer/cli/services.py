"""Which services a command is about."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def selected(services: dict[str, Any], wanted: Iterable[str], dependencies: bool) -> list[str]:
    """The named services, or all; with what they depend on if asked for. In the order of the files."""
    chosen = set(wanted) or set(services)
    more = list(chosen) if dependencies else []
    while more:
        for name in services[more.pop()].get("depends_on", {}):
            if name in services and name not in chosen:
                chosen.add(name)
                more.append(name)
    return [name for name in services if name in chosen]
