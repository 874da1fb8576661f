"""`composer cp`: files between this host and containers, running or not."""

from __future__ import annotations

import os
import sys

from composer.api import copy as copying
from composer.api import files
from composer.api.files import Copier
from composer.cli import common, wish
from composer.cli.context import Context
from composer.cli.grammar import Flag, Positional, Verb
from composer.errors import UsageError
from composer.record import ContainerRow

VERB = Verb(
    "cp",
    "Copy files to and from containers",
    (
        Flag("all", "bool", "To containers of `run`, too"),
        Flag("archive", "bool", "Keep owners", "a"),
        Flag("follow-link", "bool", "Copy what a link at the source leads to", "L"),
        common.INDEX,
    ),
    (
        Positional(
            "SOURCE", "A path, SERVICE:PATH, or - for a tar archive on standard input", complete="service:"
        ),
        Positional(
            "TARGET", "SERVICE:PATH, a path, or - for a tar archive on standard output", complete="service:"
        ),
    ),
    examples=(
        ("cp web:/var/log/app.log .", "from the first container of web"),
        ("cp conf/. web:/etc/app", "what is in conf, to all containers of web"),
        ("cp db:/dump - | tar tv", "as a tar archive"),
    ),
)


def run(
    context: Context,
    *,
    all: bool,
    archive: bool,
    follow_link: bool,
    index: int | None,
    source: str,
    target: str,
) -> int:
    (service_here, origin), (service, path) = copying.ends(source, target)
    copier = copying.copier(into_container=bool(service), archive=archive, skipped=skipped)
    if service:
        for row in copying.chosen(context, service, index, all=all):
            put(context, copier, origin, row, path, follow_link)
            tell(context, row, f"{source} to {row['name']}:{path}", source)
    else:
        row = copying.chosen(context, service_here, index, all=all)[0]
        get(context, copier, row, origin, path, follow_link)
        tell(context, row, f"{row['name']}:{origin} to {path}", target)
    return 0


def put(context: Context, copier: Copier, source: str, row: ContainerRow, path: str, follow: bool) -> None:
    with copying.inside(context, row, path) as target:
        if source == "-":
            from composer.cli.tarstream import unpack

            unpack(sys.stdin.buffer, target, copier)
            return
        with copying.here(source) as origin:
            copying.copy(copier, origin, target, follow=follow)


def get(context: Context, copier: Copier, row: ContainerRow, source: str, path: str, follow: bool) -> None:
    with copying.inside(context, row, source) as origin:
        if path != "-":
            with copying.here(path) as target:
                copying.copy(copier, origin, target, follow=follow)
            return
        from composer.cli.tarstream import pack

        if sys.stdout.isatty():
            raise UsageError("an archive is nothing for a terminal", hint="pipe it on: `| tar tv`")
        name = "." if source.endswith("/.") else origin.name or "."
        node = files.source(origin, follow=follow)
        try:
            pack({name: node}, sys.stdout.buffer, skipped, ids=origin.ids)
        finally:
            os.close(node)


def tell(context: Context, row: ContainerRow, what: str, other: str) -> None:
    if other != "-":
        with wish.progress(context, "Copying") as heard:
            heard(wish.done(f"Container {row['name']}", f"Copied {what}"))


def skipped(name: str) -> None:
    print(f"note: {name} is a device or a socket, and was left out", file=sys.stderr)
