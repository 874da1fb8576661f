"""`composer lock`: the digest of every image of a stack in a file, for the commands that have `--locked`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from composer.cli import common, wish
from composer.cli.context import Context
from composer.cli.grammar import Flag, Verb
from composer.cli.remote import Job, carry_out, check_online
from composer.cli.services import selected
from composer.errors import ComposerError, NotFoundError, RegistryError, UsageError
from composer.images import lock
from composer.images.builtin import NAMES
from composer.images.config import platform as this_machine
from composer.images.reference import Reference, parse
from composer.images.store import SOURCE, Store
from composer.model.stack import Service

if TYPE_CHECKING:
    from composer.build.request import Request

VERB = Verb(
    "lock",
    "Write the digests of all images to a file that `--locked` holds to",
    (
        Flag("check", "bool", "Write nothing; end with 1 when the file does not say what registries say"),
        Flag("print", "bool", "Print the digests, and write nothing"),
    ),
    (common.SERVICES,),
    examples=(
        ("lock", "beside compose.yaml: compose.lock.yaml"),
        ("lock db", "look only at what this service uses; the rest stays"),
        ("lock --check", "in a script: 1 when tags have moved on"),
    ),
)


def run(context: Context, *, check: bool, print: bool, service: list[str]) -> int:
    from composer.cli.digests import pinned

    context.check_services(service)
    services = context.project.services
    path, used = lock_file(context), dict(images(context, service or services))
    held = lock.read(path)
    digests = pinned({name: name for name in used}, context)
    found = {name: digests[name].rpartition("@")[2] for name in used}
    if service:
        found = {**held, **found}
    if print:
        sys.stdout.writelines(f"{name}: {digest}\n" for name, digest in sorted(found.items()))
        return 0
    changes = list(told(held, found))
    for line in changes:
        sys.stderr.write(f" {line}\n")
    if check:
        return 1 if changes else 0
    if context.dry_run:
        return wish.announce([str(path)], "Writing")
    if changes or not path.exists():
        lock.write(path, found)
    sys.stderr.write(f" {path.name}  {'Written' if changes else 'Unchanged'}: {len(found)} images\n")
    return 0


def told(held: dict[str, str], found: dict[str, str]) -> Iterator[str]:
    """What differs, a line per image."""
    for name in sorted({*held, *found}):
        before, now = held.get(name, ""), found.get(name, "")
        if before != now:
            words = f"{short(before)} → {short(now)}" if before and now else short(now) or "not used any more"
            yield f"Image {parse(name).familiar}  {words}"


def short(digest: str) -> str:
    return digest[:19]


def lock_file(context: Context) -> Path:
    """Raises UsageError for a stack that came through a pipe."""
    files = context.project.stack_data.get("files") or ["-"]
    if files[0] == "-":
        raise UsageError("a stack file from standard input has no lock file beside it")
    return lock.beside(files[0])


def used(context: Context, service: Service) -> Iterator[str]:
    """What a service is brought up with. Raises ComposerError for a Dockerfile that is wrong."""
    yield from (mount.source for mount in service.volumes if mount.type == "image")
    yield from (first.container.image for first in service.pre_start if first.container.image)
    if service.build:
        yield from built_from(context, service)
    else:
        yield service.image


def built_from(context: Context, service: Service) -> Iterator[str]:
    """What a service's image is made from. Raises ComposerError for a Dockerfile that is wrong."""
    from composer.build.cache import Cache
    from composer.build.site import Site

    store = Store(context.paths)
    for request in builds(context, [service.name]):
        yield from Site(request, Cache(context.paths), store, context.environment).images()


def builds(context: Context, names: list[str]) -> list[Request]:
    """The builds of services, with those that they are made from."""
    from composer.build.request import Options, requests

    stack = context.project.stack
    tags = {name: one.image or f"{stack.name}-{name}" for name, one in stack.services.items()}
    return requests(stack, tags, names, Options(), context.environment)


Use = Callable[[Context, Service], Iterable[str]]


def images(context: Context, names: Iterable[str], use: Use = used) -> Iterator[tuple[str, str]]:
    """The full names of all images that services use, with a platform.

    Not those that are built here, that need no registry, or that are held by a digest already.
    Raises ComposerError for a Dockerfile that is wrong.
    """
    services = context.project.stack.services
    built = {
        parse(one.image or f"{context.project.name}-{name}") for name, one in services.items() if one.build
    }
    for name in names:
        for image in use(context, services[name]):
            reference = parse(image) if image not in NAMES else None
            if reference is not None and reference.digest is None and reference not in built:
                yield str(reference), services[name].platform


def hold_for_up(context: Context, services: list[str], pull: str, *, dependencies: bool) -> None:
    """`hold` for what is brought up. Raises UsageError for what asks for newer images."""
    if pull in ("always", "build"):
        raise UsageError(f"--locked and --pull {pull} exclude each other")
    chosen = selected(context.project.stack_data["services"], services, dependencies)
    check_builds(context, chosen)
    hold(context, chosen, quiet=False)


def hold_for_build(context: Context, services: list[str], *, quiet: bool) -> None:
    """`hold` for what images of services are made from. Raises UsageError for a build that asks for newer."""
    check_builds(context, services)
    hold(context, services, quiet=quiet, use=built_from)


def check_builds(context: Context, services: list[str]) -> None:
    for one in builds(context, [name for name in services if context.project.stack.services[name].build]):
        if one.pull:
            raise UsageError(
                f"service {one.name}: `build.pull` asks for newer images, and --locked holds to old ones"
            )


def hold(context: Context, services: list[str], *, quiet: bool, use: Use = used) -> None:
    """Have every image of the services here, under its name, as the lock file says. Nothing is asked when so.

    Raises NotFoundError for one that the file does not hold, Failed for one that its registry does not give.
    """
    path, store = lock_file(context), Store(context.paths)
    held = lock.read(path)
    if not path.exists():
        raise NotFoundError(f"there is no {path.name} to hold to", hint="`composer lock` writes it")
    jobs = {}
    for name, platform in images(context, services, use):
        if name not in held:
            raise NotFoundError(f"{path.name} does not hold {name}", hint="`composer lock` adds it")
        reference, platform = parse(name).replace(digest=held[name]), platform or str(this_machine())
        if not stands(store, name, reference, platform):
            work = partial(fetch, store, name, reference, platform)
            jobs[name] = Job(f"Image {parse(name).familiar}", "Pulling", "Pulled", work)
    if not jobs:
        return
    check_online(context)
    if context.dry_run:
        wish.announce([job.subject for job in jobs.values()], "Pulling")
        return
    carry_out(context, list(jobs.values()), title="Pulling", quiet=quiet)


def stands(store: Store, name: str, wanted: Reference, platform: str) -> bool:
    """Whether the image that has the name here is the wanted one, and for this machine or that platform."""
    entry = store.entry(name, platform)
    source: Any = entry["annotations"].get(SOURCE) if entry else None
    return bool(source == f"{wanted.name}@{wanted.digest}")


async def fetch(store: Store, name: str, wanted: Reference, platform: str, report: Any) -> None:
    exact = str(wanted.replace(tag=None))
    try:
        await store.pull(exact, platform=platform, progress=report)
    except RegistryError as error:
        if error.status != 404:
            raise
        raise ComposerError(
            f"the registry does not have {wanted.digest} any more, which the lock file says"
        ) from error
    store.tag(exact, name, platform)
