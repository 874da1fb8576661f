"""`composer ls`: the stacks of this host."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

from composer.cli.context import Context
from composer.cli.grammar import Flag, Verb
from composer.cli.render.listing import listing, show
from composer.errors import UsageError
from composer.record import Record, stacks

VERB = Verb(
    "ls",
    "List stacks",
    (
        Flag("all", "bool", "Also those of which nothing runs", "a"),
        Flag("filter", "list", "name=… (repeatable)", metavar="KEY=VALUE"),
        Flag("format", "str", "table, json, or a Go template", default="table"),
        Flag("quiet", "bool", "Only names", "q"),
    ),
    examples=(("ls -a", "also what is stopped"),),
)
COLUMNS = {"NAME": "Name", "STATUS": "Status", "CONFIG FILES": "ConfigFiles"}


def run(context: Context, *, all: bool, filter: list[str], format: str, quiet: bool) -> int:
    names = wanted(filter)
    rows = [
        as_json(record)
        for record in stacks(context.paths)
        if record["containers"]
        and (all or any(row["state"] in ("running", "restarting") for row in record["containers"]))
        and (not names or any(name in record["stack"] for name in names))
    ]
    if quiet:
        show("\n".join(row["Name"] for row in rows))
    else:
        show(listing(rows, COLUMNS, format, array=True))
    return 0


def wanted(filters: list[str]) -> list[str]:
    """Raises UsageError."""
    found = []
    for text in filters:
        key, _, value = text.partition("=")
        if key != "name" or not value:
            raise UsageError(f"unknown filter {text!r}", hint="name=shop, for example")
        found.append(value)
    return found


def as_json(record: Record) -> dict[str, Any]:
    """The keys of Docker Compose's `ls --format json`."""
    folder = record["working_dir"]
    files = [file if file == "-" else os.path.join(folder, file) for file in record["files"]]
    return {"Name": record["stack"], "Status": status(record), "ConfigFiles": ",".join(files)}


def status(record: Record) -> str:
    """`exited(1), running(2)`."""
    counted = Counter(row["state"] for row in record["containers"])
    return ", ".join(f"{state}({count})" for state, count in sorted(counted.items()))
