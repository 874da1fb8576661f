"""What a stack is like now: its record, its numbers and its events, by the readers of other commands."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from composer.api.client import Supervisor
from composer.api.context import Context
from composer.api.events import Event, kept
from composer.api.project import stamp
from composer.cli.stats import Sample, cpu, sample, taken, total_memory, traffic
from composer.errors import ComposerError
from composer.record import ContainerRow, read_record

PERIOD: Final = 1.0
"""Seconds between readings."""
REMEMBERED: Final = 120
"""Readings whose numbers are kept for the curves."""
EVENTS: Final = 500
"""Events that are shown at most."""


class Numbers(NamedTuple):
    """Of one container. `cpu` in per cent of one CPU, the rest in bytes."""

    cpu: float
    memory: int
    limit: int
    """Of memory; 0 without one."""
    received: int
    sent: int
    processes: int


class Reading(NamedTuple):
    """One look at the stack. `missing` are services of the files that have no container."""

    rows: list[ContainerRow]
    missing: list[str]
    numbers: Mapping[str, Numbers]
    events: list[Event]


class History:
    """The last numbers of each container."""

    def __init__(self) -> None:
        self.cpu: dict[str, deque[float]] = {}
        self.memory: dict[str, deque[float]] = {}

    def add(self, reading: Reading) -> None:
        names = {row["name"] for row in reading.rows}
        for series in (self.cpu, self.memory):
            for name in set(series) - names:
                del series[name]
        for name in names:
            numbers = reading.numbers.get(name)
            self.cpu.setdefault(name, deque(maxlen=REMEMBERED)).append(numbers.cpu if numbers else 0)
            self.memory.setdefault(name, deque(maxlen=REMEMBERED)).append(numbers.memory if numbers else 0)


class Reader:
    """Reads on a thread of its own; `latest` is what it has read last, until somebody takes it."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.services = services_of(context)
        self.supervisor: Supervisor | None = None
        self.before: Sample = {}
        self.events: list[Event] = []
        self.events_stamp: object = None
        self.latest: Reading | None = None
        self.ended = threading.Event()
        self.wanted = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self) -> None:
        while not self.ended.is_set():
            self.latest = self.read()
            self.wanted.wait(PERIOD)
            self.wanted.clear()
        self.leave()

    def take(self) -> Reading | None:
        latest, self.latest = self.latest, None
        return latest

    def end(self) -> None:
        self.ended.set()
        self.wanted.set()
        self.thread.join(PERIOD)

    def leave(self) -> None:
        if self.supervisor is not None:
            self.supervisor.close()
        self.supervisor = None

    def read(self) -> Reading:
        paths = self.context.stack_paths
        rows = sorted(
            read_record(paths)["containers"], key=lambda r: (r["service"], r["oneoff"], r["number"])
        )
        there = {row["service"] for row in rows}
        missing = [name for name in self.services if name not in there]
        seen = stamp(str(paths.events))
        if seen != self.events_stamp:
            self.events, self.events_stamp = list(deque(kept(paths.events), EVENTS)), seen
        return Reading(rows, missing, self.numbers(rows), self.events)

    def numbers(self, rows: list[ContainerRow]) -> dict[str, Numbers]:
        """None when nothing runs, or just now."""
        try:
            if self.supervisor is None:
                self.supervisor, self.before = Supervisor.connect(self.context.stack_paths), {}
            if self.supervisor is None:
                return {}
            now = sample(self.supervisor)
        except (ComposerError, OSError):
            self.leave()
            return {}
        before, self.before = self.before, now
        return {row["name"]: numbers(row, before, now) for row in rows if row["name"] in now["stats"]}


def numbers(row: ContainerRow, before: Sample, now: Sample) -> Numbers:
    mine: dict[str, Any] = now["stats"][row["name"]]
    seconds = (now["time"] - before["time"]) / 1e9 if before else 0
    limit = mine.get("memory", {}).get("limit") or 0
    return Numbers(
        cpu(before.get("stats", {}).get(row["name"]), mine, seconds),
        taken(mine),
        limit if limit < total_memory() else 0,
        *traffic(row["pid"]),
        mine.get("pids", {}).get("current", 0),
    )


def services_of(context: Context) -> list[str]:
    """Of the files, when they can be read."""
    try:
        return list(context.project.services)
    except ComposerError:
        return []
