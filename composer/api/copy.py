"""Files between this host and containers, running or not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from composer.api import files
from composer.api.context import Context
from composer.api.files import Copier, Place
from composer.api.roots import ids_of, root_of
from composer.errors import NotFoundError, UsageError
from composer.record import ContainerRow


def split(text: str) -> tuple[str, str]:
    """`web:/path` is (web, /path); `./a:b`, `/a:b` and `-` are paths of this host."""
    service, colon, path = text.partition(":")
    if not colon or not service or service.startswith((".", "/")) or "/" in service:
        return "", text
    return service, path if path.startswith("/") else f"/{path}"


def ends(source: str, target: str) -> tuple[tuple[str, str], tuple[str, str]]:
    """Both places as (service, path). Raises UsageError unless just one of them is in a container."""
    origin, goal = split(source), split(target)
    if bool(origin[0]) == bool(goal[0]):
        raise UsageError(
            "one of the two must be in a container, and the other not", hint="composer cp web:/etc/hosts ."
        )
    return origin, goal


def chosen(
    context: Context, service: str, index: int | None = None, *, all: bool = False
) -> Sequence[ContainerRow]:
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


def copier(*, into_container: bool, archive: bool, skipped: Callable[[str], object]) -> Copier:
    """What is copied belongs to root in a container, and to this user here, unless owners are kept."""
    owner = (0, 0) if into_container else (os.geteuid(), os.getegid())
    return Copier(archive=archive, owner=owner, skipped=skipped)


@contextmanager
def inside(context: Context, row: ContainerRow, path: str) -> Iterator[Place]:
    """A path of a container. Raises ComposerError."""
    with root_of(context, row, path) as root:
        yield Place(root, path, row["name"], ids_of(row))


def copy(copier: Copier, origin: Place, target: Place, *, follow: bool = False) -> None:
    """As cp(1) does. Raises ComposerError."""
    node = files.source(origin, follow=follow)
    try:
        files.transfer(copier, node, origin, target)
    finally:
        os.close(node)


@contextmanager
def here(path: str) -> Iterator[Place]:
    """A path of this host."""
    root = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Place(root, os.path.join(os.getcwd(), os.path.expanduser(path)))
    finally:
        os.close(root)
