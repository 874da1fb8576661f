"""`composer stats`: what containers use, live. CPU is the share between two samples."""

from __future__ import annotations

import os
import select
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from composer.api.client import Supervisor
from composer.cli import common
from composer.cli.context import Context
from composer.cli.grammar import Flag, Positional, Verb
from composer.cli.render.listing import listing, show
from composer.cli.render.sizes import binary, decimal
from composer.cli.render.table import shorten
from composer.errors import PeerLostError

VERB = Verb(
    "stats",
    "Show what containers use: CPU, memory, network, disk",
    (
        Flag("all", "bool", "Also containers that do not run", "a"),
        common.FORMAT,
        Flag("no-stream", "bool", "Once, and no more"),
        Flag("no-trunc", "bool", "Do not cut ids"),
        Flag("total", "bool", "Also the whole stack, beside its `x-limits`"),
    ),
    (Positional("SERVICE", "Only this service", many=True, required=False, complete="service"),),
    examples=(
        ("stats --total", "and a line for the stack"),
        ("stats --no-stream --format json", "once, for programs"),
    ),
)
COLUMNS = {
    "CONTAINER ID": "ID",
    "NAME": "Name",
    "CPU %": "CPUPerc",
    "MEM USAGE / LIMIT": "MemUsage",
    "MEM %": "MemPerc",
    "NET I/O": "NetIO",
    "BLOCK I/O": "BlockIO",
    "PIDS": "PIDs",
}
FIRST, LATER = 0.25, 1.0
"""Seconds between samples: until the first table, and from then on."""

Sample = dict[str, Any]


def run(
    context: Context,
    *,
    all: bool,
    format: str,
    no_stream: bool,
    no_trunc: bool,
    total: bool,
    service: list[str],
) -> int:
    if service:
        context.check_services(service)
    supervisor = Supervisor.connect(context.stack_paths)
    if supervisor is None:
        show(shown(context, {}, {}, service, all, no_trunc, format, total))
        return 0
    screen = Screen(live=sys.stdout.isatty() and not no_stream)
    with supervisor:
        before, pause = sample(supervisor), FIRST
        while wait(supervisor, pause):
            now, pause = sample(supervisor), LATER
            context.again()
            screen.draw(shown(context, before, now, service, all, no_trunc, format, total))
            if no_stream:
                break
            before = now
    return 0


def usage(context: Context) -> dict[str, tuple[str, str]]:
    """CPU and memory by container, for other tables; nothing when nothing runs."""
    supervisor = Supervisor.connect(context.stack_paths)
    if supervisor is None:
        return {}
    with supervisor:
        before = sample(supervisor)
        wait(supervisor, FIRST)
        now = sample(supervisor)
    seconds = (now["time"] - before["time"]) / 1e9
    return {
        name: (f"{cpu(before['stats'].get(name), numbers, seconds):.2f}%", binary(taken(numbers)))
        for name, numbers in now["stats"].items()
    }


def taken(numbers: Mapping[str, Any]) -> int:
    """Bytes of memory that nobody else could have."""
    memory = numbers.get("memory", {})
    return max(int(memory.get("usage", 0)) - int(memory.get("inactive_file", 0)), 0)


def sample(supervisor: Supervisor) -> Sample:
    return supervisor.call("stats")


def wait(supervisor: Supervisor, seconds: float) -> bool:
    """False when the stack has gone away meanwhile."""
    try:
        while select.select([supervisor.sock], [], [], seconds)[0]:
            supervisor.receive()
    except PeerLostError:
        return False
    return True


def shown(
    context: Context,
    before: Sample,
    now: Sample,
    services: Sequence[str],
    all: bool,
    whole: bool,
    format: str,
    total: bool,
) -> str:
    seconds = (now.get("time", 0) - before.get("time", 0)) / 1e9
    rows = []
    for row in sorted(context.record["containers"], key=lambda r: r["name"]):
        numbers = now.get("stats", {}).get(row["name"])
        if (services and row["service"] not in services) or not (numbers or all):
            continue
        used = cpu(before.get("stats", {}).get(row["name"]), numbers, seconds)
        rows.append(as_json(row["name"], row["id"], numbers or {}, used, traffic(row["pid"]), whole))
    if total and now.get("total"):
        nets = [traffic(row["pid"]) for row in context.record["containers"]]
        received, sent = (sum(column) for column in zip((0, 0), *nets, strict=True))
        used = cpu(before.get("total"), now["total"], seconds)
        rows.append(as_json(context.stack_name, "", now["total"], used, (received, sent), whole))
    return listing(rows, COLUMNS, format)


def cpu(before: Mapping[str, Any] | None, now: Mapping[str, Any] | None, seconds: float) -> float:
    """Per cent of one CPU. A container that has begun between the samples counts from nothing."""
    if not now or seconds <= 0:
        return 0.0
    earlier = before["cpu"]["usage"] if before and "cpu" in before else 0
    used: int = now.get("cpu", {}).get("usage", 0) - earlier
    return max(100 * used / (seconds * 1e9), 0.0)


def traffic(pid: int) -> tuple[int, int]:
    """Bytes received and sent by all interfaces but loopback, proc_pid_net(5)."""
    try:
        lines = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:] if pid else []
    except (FileNotFoundError, ProcessLookupError, OSError):
        return 0, 0
    rows = [(name.strip(), counts.split()) for name, _, counts in (line.partition(":") for line in lines)]
    counted = [(int(counts[0]), int(counts[8])) for name, counts in rows if name != "lo"]
    return sum(got for got, _ in counted), sum(sent for _, sent in counted)


def as_json(
    name: str, identity: str, numbers: Mapping[str, Any], used: float, net: tuple[int, int], whole: bool
) -> dict[str, Any]:
    """The keys of Docker's `stats --format json`."""
    memory, disk = numbers.get("memory", {}), numbers.get("io", {}).values()
    mine = taken(numbers)
    limit = memory.get("limit") or (total_memory() if numbers else 0)
    read, written = (sum(device.get(key, 0) for device in disk) for key in ("read_bytes", "write_bytes"))
    return {
        "BlockIO": f"{decimal(read)} / {decimal(written)}",
        "CPUPerc": f"{used:.2f}%",
        "Container": identity,
        "ID": identity if whole else identity[:12],
        "MemPerc": f"{100 * mine / limit if limit else 0:.2f}%",
        "MemUsage": f"{binary(mine)} / {binary(limit)}",
        "Name": name,
        "NetIO": f"{decimal(net[0])} / {decimal(net[1])}",
        "PIDs": str(numbers.get("pids", {}).get("current", 0)),
    }


def total_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


class Screen:
    """Draws tables over each other on a terminal, below each other elsewhere."""

    def __init__(self, *, live: bool) -> None:
        self.live, self.drawn = live, 0

    def draw(self, text: str) -> None:
        lines = text.splitlines()
        if not self.live:
            show(text)
            sys.stdout.flush()
            return
        size = shutil.get_terminal_size()
        lines = [shorten(line, size.columns) for line in lines[: size.lines - 1]]
        back = f"\x1b[{self.drawn}A\r" if self.drawn else ""
        sys.stdout.write(back + "".join(f"\x1b[2K{line}\n" for line in lines) + "\x1b[J")
        sys.stdout.flush()
        self.drawn = len(lines)
