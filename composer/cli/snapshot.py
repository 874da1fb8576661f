"""`composer snapshot …`: keep the data of a stack as it is, and go back to it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from composer.api.times import nanoseconds
from composer.api.trials import point
from composer.cli import common, wish
from composer.cli.context import Context
from composer.cli.grammar import Flag, Positional, Verb
from composer.cli.render.listing import listing, show
from composer.cli.render.sizes import decimal
from composer.volumes.snapshots import Snapshot, tokens
from composer.volumes.store import VolumeStore

SNAPSHOT = Positional("SNAPSHOT", "Its name; STACK/NAME for one of another stack", complete="snapshot")

VERBS = {
    "create": Verb(
        "create",
        "Keep the data of the stack as it is now",
        (common.TIMEOUT,),
        (Positional("NAME", "What to call it"), common.SERVICES),
        examples=(
            ("create seeded", "all volumes, and what containers wrote"),
            ("create seeded db", "of one service only"),
        ),
    ),
    "ls": Verb(
        "ls",
        "List snapshots",
        (
            Flag("all", "bool", "Of all stacks", "a"),
            common.FORMAT,
            Flag("quiet", "bool", "Only names", "q"),
        ),
    ),
    "restore": Verb(
        "restore",
        "Go back to a snapshot",
        (
            Flag("wait", "bool", "Until everything is running and healthy"),
            Flag("wait-timeout", "int", "Give up waiting after this many seconds", metavar="SECONDS"),
        ),
        (
            SNAPSHOT,
            common.SERVICES,
        ),
        examples=(
            ("restore --wait seeded", "as it was, and everything healthy"),
            ("restore shop/seeded", "that of another stack of the same files"),
        ),
    ),
    "rm": Verb(
        "rm",
        "Remove snapshots",
        (Flag("force", "bool", "No error for one that is gone", "f"),),
        (Positional("NAME", "Names of snapshots", many=True, complete="snapshot"),),
    ),
}
COLUMNS = {
    "STACK": "Stack",
    "NAME": "Name",
    "CREATED": "Created",
    "VOLUMES": "Volumes",
    "CONTAINERS": "Containers",
    "SIZE": "Size",
}


def run_create(context: Context, *, timeout: str, name: str, service: list[str]) -> int:
    if context.dry_run:
        return wish.announce([f"Snapshot {name}"], "Create")
    grace = nanoseconds(timeout, "--timeout")
    return ask(context, f"Snapshot {name}", "Created", name=name, services=service, grace=grace)


def run_restore(
    context: Context, *, wait: bool, wait_timeout: int | None, snapshot: str, service: list[str]
) -> int:
    stack, _, name = snapshot.rpartition("/")
    if context.dry_run:
        return wish.announce([f"Snapshot {name}"], "Restore")
    fields: dict[str, Any] = {"stack": stack or context.stack_name, "services": service, "restore": True}
    fields |= {"wait": wait, "wait_timeout": wait_timeout}
    return ask(context, f"Snapshot {name}", "Restored", name=name, **fields)


def ask(context: Context, subject: str, text: str, **fields: Any) -> int:
    """Have the stack's supervisor do it, and show what it does."""
    with wish.progress(context) as heard:
        answer = point(context, heard, **fields)
        heard(
            wish.done(subject, text, detail=f"{answer['volumes']} volumes, {answer['containers']} containers")
        )
    return wish.report(answer)


def run_ls(context: Context, *, all: bool, format: str, quiet: bool) -> int:
    store = VolumeStore(context.paths).snapshots
    found = store.list("" if all else context.stack_name)
    if quiet:
        show("\n".join(f"{each['stack']}/{each['name']}" if all else each["name"] for each in found))
    else:
        sizes = {id(each): store.size(set(tokens(each))) for each in found}
        show(listing([as_json(each, sizes[id(each)]) for each in found], COLUMNS, format))
    return 0


def as_json(snapshot: Snapshot, size: int) -> dict[str, Any]:
    """`Size`: of all that it lies on, which it may share with others."""
    anonymous = sum(len(root["anonymous"]) for root in snapshot["containers"].values())
    created = datetime.fromtimestamp(snapshot["created"] / 1e9).astimezone()
    return {
        "Containers": len(snapshot["containers"]),
        "Created": created.isoformat(sep=" ", timespec="seconds"),
        "Name": snapshot["name"],
        "Size": decimal(size),
        "Stack": snapshot["stack"],
        "Volumes": len(snapshot["volumes"]) + anonymous,
    }


def run_rm(context: Context, *, force: bool, name: list[str]) -> int:
    volumes = VolumeStore(context.paths)
    for each in name:
        if not force:
            volumes.snapshots.get(context.stack_name, each)
    volumes.forget(context.stack_name, name)
    show("\n".join(name))
    return 0
