"""`composer ps`: containers of the stack, from its record."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from composer.cli.context import Context
from composer.cli.grammar import Flag, Positional, Verb
from composer.cli.render import words
from composer.cli.render.table import table
from composer.errors import NotFoundError, UsageError
from composer.record import ContainerRow

STATES = ("paused", "restarting", "removing", "running", "dead", "created", "exited")

VERB = Verb(
    "ps",
    "List containers",
    (
        Flag("all", "bool", "Also those that do not run", "a"),
        Flag("filter", "list", "status=… (repeatable)", metavar="KEY=VALUE"),
        Flag("format", "str", "table, json, or a Go template", default="table"),
        Flag("no-trunc", "bool", "Do not cut the command"),
        Flag("orphans", "bool", "Also containers of services that are no longer in the file", default=True),
        Flag("quiet", "bool", "Only ids", "q"),
        Flag("services", "bool", "Only names of services"),
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
        and (row["state"] in wanted if wanted else all or row["state"] in ("running", "paused", "restarting"))
        and (all or not row["oneoff"] or row["state"] == "running")
    ]
    show(context, rows, format=format, no_trunc=no_trunc, quiet=quiet, services=services)
    return 0


def known_services(context: Context, ask: bool, rows: Sequence[ContainerRow]) -> list[str]:
    """Services of the files, which are read only when a name is not among the containers."""
    if not ask or (not rows and context.options.get("project_name") and not context.options.get("file")):
        return []
    return context.project.services


def states(filters: Sequence[str], status: Sequence[str]) -> set[str]:
    found = set(status)
    for text in filters:
        key, _, value = text.partition("=")
        if key != "status" or not value:
            raise UsageError(f"unknown filter {text!r}", hint="status=running, for example")
        found.add(value)
    return found


def show(
    context: Context,
    rows: Sequence[ContainerRow],
    *,
    format: str,
    no_trunc: bool,
    quiet: bool,
    services: bool,
) -> None:
    if quiet:
        lines = [row["id"] for row in rows]
    elif services:
        lines = list(dict.fromkeys(row["service"] for row in rows))
    elif format == "json":
        lines = [json.dumps(as_json(context.stack_name, row)) for row in rows]
    elif format in ("table", ""):
        lines = [as_table(rows, no_trunc=no_trunc)]
    else:
        from composer.cli.render.template import render

        lines = [render(format, [as_json(context.stack_name, row) for row in rows])]
    if lines and any(lines):
        print("\n".join(lines))


def as_table(rows: Sequence[ContainerRow], *, no_trunc: bool) -> str:
    now = time.time_ns()
    return table(
        ("NAME", "IMAGE", "COMMAND", "SERVICE", "CREATED", "STATUS", "PORTS"),
        [
            (
                row["name"],
                row["image"],
                words.command(row["command"], whole=no_trunc),
                row["service"],
                words.ago(row["created_at"], now),
                words.status(row, now),
                words.ports(row["ports"]),
            )
            for row in rows
        ],
    )


def as_json(stack: str, row: ContainerRow) -> dict[str, Any]:
    """The keys of Docker Compose's `ps --format json`."""
    mounts = [mount.get("name") or mount.get("source", "") for mount in row["mounts"]]
    return {
        "Command": words.command(row["command"]),
        "CreatedAt": time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC", time.gmtime(row["created_at"] / 1e9)),
        "ExitCode": row["exit_code"],
        "Health": row["health"],
        "ID": row["id"],
        "Image": row["image"],
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(row["labels"].items())),
        "LocalVolumes": str(sum(mount["type"] == "volume" for mount in row["mounts"])),
        "Mounts": ",".join(mounts),
        "Name": row["name"],
        "Names": row["name"],
        "Networks": ",".join(row["networks"]),
        "Ports": words.ports(row["ports"]),
        "Project": stack,
        "Publishers": words.publishers(row["ports"]),
        "Reason": row["reason"],
        "RunningFor": words.ago(row["created_at"]),
        "Service": row["service"],
        "Size": "0B",
        "State": row["state"],
        "Status": words.status(row),
    }
