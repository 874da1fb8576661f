"""`composer cp`: files between this host and containers, running or not."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack

from composer.api import files
from composer.api.files import Copier, Place
from composer.api.roots import root_of
from composer.cli import common, wish
from composer.cli.context import Context
from composer.cli.grammar import Flag, Positional, Verb
from composer.errors import NotFoundError, UsageError
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
    origin, (service, path) = split(source), split(target)
    if bool(origin[0]) == bool(service):
        raise UsageError(
            "one of the two must be in a container, and the other not", hint="composer cp web:/etc/hosts ."
        )
    copier = Copier(archive=archive, owner=(os.geteuid(), os.getegid()), skipped=skipped)
    if service:
        copier.owner = (0, 0)
        for row in chosen(context, service, index, all=all):
            put(context, copier, origin[1], row, path, follow_link)
            tell(context, row, f"{source} to {row['name']}:{path}", source)
    else:
        row = chosen(context, origin[0], index, all=all)[0]
        get(context, copier, row, origin[1], path, follow_link)
        tell(context, row, f"{row['name']}:{origin[1]} to {path}", target)
    return 0


def split(text: str) -> tuple[str, str]:
    """`web:/path` is (web, /path); `./a:b`, `/a:b` and `-` are paths of this host."""
    service, colon, path = text.partition(":")
    if not colon or not service or service.startswith((".", "/")) or "/" in service:
        return "", text
    return service, path if path.startswith("/") else f"/{path}"


def chosen(context: Context, service: str, index: int | None, *, all: bool) -> Sequence[ContainerRow]:
    """The containers of a service, running or not. Raises NotFoundError."""
    rows = [
        row
        for row in sorted(context.record["containers"], key=lambda r: (r["oneoff"], r["number"]))
        if row["service"] == service and (all or not row["oneoff"]) and index in (None, 0, row["number"])
    ]
    if not rows:
        context.check_services([service])
        number = f" number {index}" if index else ""
        raise NotFoundError(f"service {service} has no container{number}", hint="`composer up` makes them")
    return rows


def put(context: Context, copier: Copier, source: str, row: ContainerRow, path: str, follow: bool) -> None:
    with ExitStack() as held:
        target = Place(held.enter_context(root_of(context, row, path)), path, row["name"])
        if source == "-":
            from composer.cli.tarstream import unpack

            unpack(sys.stdin.buffer, target, copier)
            return
        origin = here(held, source)
        node = files.source(origin, follow=follow)
        held.callback(os.close, node)
        files.transfer(copier, node, origin, target)


def get(context: Context, copier: Copier, row: ContainerRow, source: str, path: str, follow: bool) -> None:
    with ExitStack() as held:
        origin = Place(held.enter_context(root_of(context, row, source)), source, row["name"])
        node = files.source(origin, follow=follow)
        held.callback(os.close, node)
        if path == "-":
            from composer.cli.tarstream import pack

            if sys.stdout.isatty():
                raise UsageError("an archive is nothing for a terminal", hint="pipe it on: `| tar tv`")
            name = "." if source.endswith("/.") else origin.name or "."
            pack({name: node}, sys.stdout.buffer, skipped)
            return
        files.transfer(copier, node, origin, here(held, path))


def here(held: ExitStack, path: str) -> Place:
    """A path of this host."""
    root = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    held.callback(os.close, root)
    whole = os.path.join(os.getcwd(), os.path.expanduser(path))
    return Place(root, whole)


def tell(context: Context, row: ContainerRow, what: str, other: str) -> None:
    if other != "-":
        with wish.progress(context, "Copying") as heard:
            heard(wish.done(f"Container {row['name']}", f"Copied {what}"))


def skipped(name: str) -> None:
    print(f"note: {name} is a device or a socket, and was left out", file=sys.stderr)
