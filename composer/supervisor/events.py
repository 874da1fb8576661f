"""What happened, for people and programs: kept in a bounded file, and told to whoever listens."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

LARGEST = 4 << 20
"""Bytes of the events file before its older half is forgotten."""

Event = dict[str, Any]


class Events:
    """One JSON object a line: `time` (ns), `type`, `action`, `service`, `container`, and attributes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.listeners: list[Callable[[Event], None]] = []

    def tell(self, event: Event) -> None:
        """Keep an event and pass it on. A full disk loses the line, never the stack."""
        for listener in list(self.listeners):
            listener(event)
        line = json.dumps(event, separators=(",", ":")).encode() + b"\n"
        try:
            with open(self.path, "ab") as file:
                file.write(line)
                size = file.tell()
            if size > LARGEST:
                self._shorten()
        except OSError:
            return

    def _shorten(self) -> None:
        data = self.path.read_bytes()
        temporary = self.path.with_suffix(".tmp")
        temporary.write_bytes(data[data.index(b"\n", len(data) // 2) + 1 :])
        os.replace(temporary, self.path)
