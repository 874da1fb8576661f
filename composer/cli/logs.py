"""`composer logs`: what containers printed, merged by time, from disk; with -f also what comes."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable, Sequence
from typing import Any

from composer.api.client import Supervisor
from composer.api.times import moment
from composer.cli import common
from composer.cli.context import Context
from composer.cli.grammar import Flag, Verb, refused
from composer.cli.render.prefix import prefixes
from composer.errors import ComposerError
from composer.logs import Source, read
from composer.logs import follow as following
from composer.record import ContainerRow

VERB = Verb(
    "logs",
    "Show what containers printed",
    (
        Flag("follow", "bool", "Go on with what they print", "f"),
        common.INDEX,
        Flag("no-color", "bool", "No colours"),
        Flag("no-log-prefix", "bool", "No names before the lines"),
        Flag(
            "since",
            "str",
            "From this time on: 2026-01-31T13:00:00Z, or 10m for ten minutes ago",
            metavar="TIME",
        ),
        Flag("tail", "str", "Only so many last lines of each container", "n", default="all", metavar="LINES"),
        Flag("timestamps", "bool", "Times before the lines", "t"),
        Flag("until", "str", "Up to this time", metavar="TIME"),
    ),
    (common.SERVICES,),
    examples=(
        ("logs -f --tail 20 web", "the last lines, and what comes"),
        ("logs --since 5m", "of five minutes"),
    ),
)


def run(
    context: Context,
    *,
    follow: bool,
    index: int | None,
    no_color: bool,
    no_log_prefix: bool,
    since: str,
    tail: str,
    timestamps: bool,
    until: str,
    service: list[str],
    only: str = "",
) -> int:
    """`only`: the name of the one container that is meant."""
    colour = context.colour and not no_color
    options: dict[str, Any] = {
        "tail": lines(tail),
        "since_ns": moment(since, "--since"),
        "timestamps": timestamps,
    }

    def sources() -> list[Source]:
        rows = chosen(context, service, index, only)
        labels = prefixes([row["name"] for row in rows], context.stack_name, colour)
        place = context.stack_paths.log
        return [Source(str(place(r["name"])), b"" if no_log_prefix else labels[r["name"]]) for r in rows]

    supervisor = Supervisor.connect(context.stack_paths) if follow else None
    if supervisor is None:
        write(read(sources(), until_ns=moment(until, "--until"), **options))
        return 0

    def again() -> list[Source]:
        context.again()
        return sources()

    reading, writing = os.pipe()
    names = [row["name"] for row in chosen(context, service, index, only)]
    threading.Thread(target=await_end, args=(supervisor, names, writing), daemon=True).start()
    write(following(context.stack_paths.logs, again, reading, **options))
    return 0


def await_end(supervisor: Supervisor, names: list[str], writing: int) -> None:
    """Tell through a pipe when the last of the containers has ended, or the stack is gone."""
    try:
        supervisor.call("wait", containers=names, all=True)
    except ComposerError:
        pass
    os.write(writing, b"x")


def write(chunks: Iterable[bytes]) -> None:
    """To standard output, as it comes."""
    sys.stdout.flush()
    for chunk in chunks:
        view = memoryview(chunk)
        while view:
            view = view[os.write(1, view) :]


def chosen(
    context: Context, services: Sequence[str], index: int | None, only: str = ""
) -> list[ContainerRow]:
    """Containers whose logs are meant, oldest first. Raises NotFoundError for a service that never was."""
    rows = context.record["containers"]
    known = {row["service"] for row in rows}
    unknown = [name for name in services if name not in known]
    if unknown:
        context.check_services(unknown)  # one of the files may have no container yet
    return [
        row
        for row in rows
        if (not services or row["service"] in services)
        and (not index or (row["number"] == index and not row["oneoff"]))
        and only in ("", row["name"])
    ]


def lines(text: str) -> int | None:
    """`all` is None. Raises UsageError."""
    if text in ("all", "-1"):
        return None
    if not text.isdigit():
        raise refused("--tail", text, "no number of lines", "a number, or all")
    return int(text)
