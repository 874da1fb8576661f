"""What happened to containers, from the events file, and what happens, as it does."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from composer.api.client import Supervisor
from composer.api.patience import until
from composer.errors import LateError, PeerLostError

SECOND = 1_000_000_000
Event = dict[str, Any]
"""`time` (ns since the epoch), `type`, `action`, `id`, `service`, `container`, `attributes`."""


def kept(path: Path) -> Iterator[Event]:
    """What the file remembers, oldest first. A line that a power cut left half is skipped."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return
    for text in lines:
        try:
            yield json.loads(text)
        except ValueError:
            continue


def listen(supervisor: Supervisor) -> int:
    """Have the supervisor tell what happens from now on; the number for `coming`."""
    number = supervisor.send("events")
    supervisor.next(number)
    return number


def coming(supervisor: Supervisor, number: int, end: int | None = None) -> Iterator[Event]:
    """What happens from now on, until `end` (ns since the epoch) or until the stack is gone."""
    if end is not None:
        supervisor.deadline = time.monotonic() + (end - time.time_ns()) / SECOND
    while True:
        try:
            frame = supervisor.next(number)
        except (LateError, PeerLostError):
            return
        if event := frame.get("event"):
            yield event


def chosen(events: Iterable[Event], services: Sequence[str], begin: int, end: int | None) -> Iterator[Event]:
    for event in events:
        within = event["time"] >= begin and (end is None or event["time"] <= end)
        if within and (not services or event["service"] in services):
            yield event


class EventStream:
    """What happens in a stack, from when it was made. Iterate it, or wait for something."""

    def __init__(self, supervisor: Supervisor, services: Sequence[str] = ()) -> None:
        self._supervisor = supervisor
        self._number = listen(supervisor)
        self._services = services

    def __iter__(self) -> Iterator[Event]:
        """Until the stack is gone."""
        return chosen(coming(self._supervisor, self._number), self._services, 0, None)

    def wait_for(self, action: str, service: str = "", timeout: float | None = 30) -> Event:
        """The next event of this kind (`start`, `die`, `health_status: healthy`). Raises LateError."""
        self._supervisor.deadline = until(timeout)
        try:
            for event in self:
                if event["action"] == action and service in ("", event["service"]):
                    return event
        finally:
            self._supervisor.deadline = None
        of = f" of {service}" if service else ""
        raise LateError(f"there was no {action!r}{of} within {timeout} s")

    def close(self) -> None:
        self._supervisor.close()

    def __enter__(self) -> EventStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
