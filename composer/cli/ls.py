"""`composer ls`: the stacks of this host."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

from composer.cli import common
from composer.cli.context import Context
from composer.cli.grammar import Flag, Verb
from composer.cli.ps import shown
from composer.cli.render.listing import listing, show
from composer.record import Record, stacks

VERB = Verb(
    "ls",
    "List stacks",
    (
        Flag("all", "bool", "Also those of which nothing runs", "a"),
        Flag("filter", "list", "name=… (repeatable)", metavar="KEY=VALUE"),
        common.FORMAT,
        Flag("quiet", "bool", "Only names", "q"),
    ),
    examples=(("ls -a", "also what is stopped"),),
)
COLUMNS = {"NAME": "Name", "STATUS": "Status", "CONFIG FILES": "ConfigFiles"}


def run(context: Context, *, all: bool, filter: list[str], format: str, quiet: bool) -> int:
    names = wanted(filter)
    rows = [
        as_json(record, all)
        for record in stacks(context.paths)
        if counted(record, all) and (not names or any(name in record["stack"] for name in names))
    ]
    if quiet:
        show("\n".join(row["Name"] for row in rows))
    else:
        show(listing(rows, COLUMNS, format, array=True))
    return 0


def wanted(filters: list[str]) -> list[str]:
    return [value for _, value in common.filters(filters, {"name": ()})]


def as_json(record: Record, all: bool) -> dict[str, Any]:
    """The keys of Docker Compose's `ls --format json`."""
    folder = record["working_dir"]
    files = [file if file == "-" else os.path.join(folder, file) for file in record["files"]]
    return {"Name": record["stack"], "Status": status(counted(record, all)), "ConfigFiles": ",".join(files)}


def counted(record: Record, all: bool) -> Counter[str]:
    """Its containers by state; only those that are up unless `all` are wanted."""
    return Counter(row["state"] for row in record["containers"] if all or shown(row))


def status(states: Counter[str]) -> str:
    """`exited(1), running(2)`."""
    return ", ".join(f"{state}({count})" for state, count in sorted(states.items()))
