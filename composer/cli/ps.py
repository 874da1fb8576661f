"""`composer ps`: containers of the stack, from its record."""

from __future__ import annotations

import re
import shutil
import sys
import time
from collections.abc import Sequence
from typing import Any

from composer.cli import common
from composer.cli.context import Context
from composer.cli.grammar import Flag, Positional, Verb
from composer.cli.render import words
from composer.cli.render.listing import listing
from composer.cli.render.table import fitted, table
from composer.errors import NotFoundError
from composer.record import ContainerRow, PortRow

NARROW = (("COMMAND", 8), ("CREATED", 0), ("COMMAND", 0), ("IMAGE", 0), ("PORTS", 12), ("STATUS", 12))
"""What gives on a narrow terminal, in order: what the other columns do not say stays longest."""
STATUS = re.compile(r"(Up|Exited|Restarting|Created|Dead|Waiting) .*?(?=   |$)")
STATES = ("paused", "restarting", "removing", "running", "dead", "created", "exited")

VERB = Verb(
    "ps",
    "List containers",
    (
        Flag("all", "bool", "Also those that do not run", "a"),
        Flag("filter", "list", "status=… (repeatable)", metavar="KEY=VALUE"),
        common.FORMAT,
        Flag("no-trunc", "bool", "Do not cut commands, and in JSON ids and mounts"),
        Flag("orphans", "bool", "Also containers of services that are no longer in the file", default=True),
        Flag("quiet", "bool", "Only ids", "q"),
        Flag("services", "bool", "Only names of services"),
        Flag("stats", "bool", "Also CPU and memory"),
        Flag("status", "list", "Only containers in this state (repeatable)", choices=STATES),
    ),
    (Positional("SERVICE", many=True, required=False, complete="service"),),
    examples=(
        ("ps -a", "also those that have ended"),
        ("ps --format '{{.Name}} {{.State}}'", "one line per container"),
    ),
)


def run(
    context: Context,
    *,
    all: bool,
    filter: list[str],
    format: str,
    no_trunc: bool,
    orphans: bool,
    quiet: bool,
    services: bool,
    stats: bool,
    status: list[str],
    service: list[str],
) -> int:
    wanted = states(filter, status)
    every = context.record["containers"]
    unknown = set(service) - {row["service"] for row in every}
    if unknown - set(known_services(context, bool(unknown), every)):
        raise NotFoundError(f"no such service: {', '.join(sorted(unknown))}")
    rows = [
        row
        for row in sorted(every, key=lambda r: (r["service"], r["number"], r["name"]))
        if (not service or row["service"] in service)
        and (row["state"] in wanted if wanted else all or shown(row))
        and (all or not row["oneoff"] or row["state"] == "running")
        and (orphans or row["service"] in context.project.services)
    ]
    show(context, rows, format=format, no_trunc=no_trunc, quiet=quiet, services=services, stats=stats)
    return 0


def shown(row: ContainerRow) -> bool:
    """Without `--all`: what runs, or comes back by itself or with a connection."""
    return row["state"] in ("running", "paused", "restarting") or row["plan"].get("gated", False)


def ports(row: ContainerRow) -> list[PortRow]:
    """Nothing leads to what is not up."""
    return row["ports"] if shown(row) else []


def known_services(context: Context, ask: bool, rows: Sequence[ContainerRow]) -> list[str]:
    """Services of the files, which are read only when a name is not among the containers."""
    if not ask or (not rows and context.options.get("project_name") and not context.options.get("file")):
        return []
    return context.project.services


def states(filters: Sequence[str], status: Sequence[str]) -> set[str]:
    return {*status, *(value for _, value in common.filters(filters, {"status": STATES}))}


def show(
    context: Context,
    rows: Sequence[ContainerRow],
    *,
    format: str,
    no_trunc: bool,
    quiet: bool,
    services: bool,
    stats: bool,
) -> None:
    if quiet:
        lines = [row["id"] for row in rows]
    elif services:
        lines = list(dict.fromkeys(row["service"] for row in rows))
    elif format in ("table", ""):
        lines = [as_table(context, rows, no_trunc=no_trunc, stats=stats)]
    else:
        volumes = str(context.paths.volumes)
        found = [as_json(context.stack_name, row, volumes, whole=no_trunc) for row in rows]
        lines = [listing(found, {}, format)]
    if lines and any(lines):
        print("\n".join(lines))


def as_table(context: Context, rows: Sequence[ContainerRow], *, no_trunc: bool, stats: bool) -> str:
    """On a terminal cut to its width, with what is wrong in colour."""
    now = time.time_ns()
    head = ["NAME", "IMAGE", "COMMAND", "SERVICE", "CREATED", "STATUS", "PORTS"]
    cells = [
        [
            row["name"],
            row["image"],
            words.command(row["command"], whole=no_trunc),
            row["service"],
            words.ago(row["created_at"], now),
            words.status(row, now),
            words.ports(ports(row)),
        ]
        for row in rows
    ]
    if stats:
        from composer.cli.stats import usage

        used = usage(context)
        head[6:6] = ["CPU %", "MEMORY"]
        for row, line in zip(rows, cells, strict=True):
            line[6:6] = used.get(row["name"], ("", ""))
    if sys.stdout.isatty() and not no_trunc:
        head, cells = fitted(head, cells, shutil.get_terminal_size().columns, NARROW)
    return painted(table(head, cells), rows, context.colour)


def painted(text: str, rows: Sequence[ContainerRow], colour: bool) -> str:
    if not colour:
        return text
    first, *lines = text.splitlines()
    shown = [painted_line(line, row) for line, row in zip(lines, rows, strict=True)]
    return "\n".join([f"\x1b[1m{first}\x1b[0m", *shown])


def painted_line(line: str, row: ContainerRow) -> str:
    """Red for what failed, yellow for what is under way, green for what is known to be well."""
    if row["state"] == "exited":
        code = 31 if row["exit_code"] not in (0, 143) else 2
    else:
        code = {"healthy": 32, "unhealthy": 31, "starting": 33}.get(row["health"], 0)
        code = 33 if row["state"] in ("paused", "restarting") else code
    status = STATUS.search(line)
    if not code or not status:
        return line
    return f"{line[: status.start()]}\x1b[{code}m{status[0]}\x1b[0m{line[status.end() :]}"


def as_json(stack: str, row: ContainerRow, volumes: str, *, whole: bool = False) -> dict[str, Any]:
    """The keys of Docker Compose's `ps --format json`. `volumes`: the folder of all volumes."""
    mounts = [mounted(mount, f"{volumes}/") for mount in row["mounts"]]
    return {
        "Command": words.command(row["command"], whole=whole),
        "CreatedAt": time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC", time.gmtime(row["created_at"] / 1e9)),
        "ExitCode": row["exit_code"],
        "Health": row["health"],
        "ID": row["id"] if whole else row["id"][:12],
        "Image": row["image"],
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(row["labels"].items())),
        "LocalVolumes": str(sum(mount["type"] == "volume" for mount in row["mounts"])),
        "Mounts": ",".join(name if whole or len(name) <= 15 else f"{name[:14]}…" for name in mounts),
        "Name": row["name"],
        "Names": row["name"],
        "Networks": ",".join(row["networks"]),
        "Ports": words.ports(ports(row)),
        "Project": stack,
        "Publishers": words.publishers(ports(row)),
        "Reason": row["reason"],
        "RunningFor": words.ago(row["created_at"]),
        "Service": row["service"],
        "Size": "0B",
        "State": row["state"],
        "Status": words.status(row),
    }


def mounted(mount: dict[str, Any], volumes: str) -> str:
    """A volume's name, else the path of what is mounted."""
    below = mount["source"].removeprefix(volumes)
    return str(below.partition("/")[0] if below != mount["source"] else mount["name"] or mount["source"])
