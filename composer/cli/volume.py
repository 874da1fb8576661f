"""`composer volume …`: the volumes of this host."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from composer.cli import common
from composer.cli.context import Context
from composer.cli.grammar import Flag, Positional, Verb
from composer.cli.render.listing import listing, show
from composer.cli.render.sizes import decimal
from composer.errors import ComposerError, UsageError
from composer.model.stack import FrozenMap, Volume
from composer.record import ContainerRow, damaged, names, stacks
from composer.volumes.store import VolumeRecord, VolumeStore

NAMES = Positional("VOLUME", "Names of volumes", many=True, complete="volume")
COLUMNS = {"DRIVER": "Driver", "VOLUME NAME": "Name"}

VERBS = {
    "ls": Verb(
        "ls",
        "List volumes",
        (
            Flag(
                "filter",
                "list",
                "dangling=true|false, name=…, label=…[=…] (repeatable)",
                "f",
                metavar="KEY=VALUE",
            ),
            common.FORMAT,
            Flag("quiet", "bool", "Only names", "q"),
        ),
    ),
    "create": Verb(
        "create",
        "Create a volume",
        (
            Flag("driver", "str", "The driver; there is only local", "d", default="local"),
            Flag("label", "list", "A label (repeatable)", metavar="KEY=VALUE"),
            Flag(
                "opt",
                "list",
                "An option of the driver: type, o, device (repeatable)",
                "o",
                metavar="KEY=VALUE",
            ),
        ),
        (Positional("VOLUME", "Its name; made up when absent", required=False),),
        examples=(("create --opt type=tmpfs --opt device=tmpfs scratch", "one in memory"),),
    ),
    "inspect": Verb(
        "inspect",
        "Show everything about volumes",
        (Flag("format", "str", "A Go template", "f"),),
        (NAMES,),
    ),
    "rm": Verb(
        "rm", "Remove volumes", (Flag("force", "bool", "No error for one that is gone", "f"),), (NAMES,)
    ),
    "prune": Verb(
        "prune",
        "Remove anonymous volumes that no container uses",
        (Flag("all", "bool", "Also named ones", "a"), Flag("force", "bool", "Do not ask", "f")),
    ),
}


def run_ls(context: Context, *, filter: list[str], format: str, quiet: bool) -> int:
    chosen = common.filters(filter, {"dangling": common.TRUTHS, "name": (), "label": ()})
    store = VolumeStore(context.paths)
    used = in_use(context)
    records = [record for record in store.list() if all(matches(record, used, *one) for one in chosen)]
    if quiet:
        show("\n".join(record.name for record in records))
    else:
        show(listing([as_json(store, record) for record in records], COLUMNS, format))
    return 0


def matches(record: VolumeRecord, used: set[str], key: str, value: str) -> bool:
    if key == "dangling":
        return (record.name not in used) == common.true(value)
    return value in record.name if key == "name" else labelled(record.labels, value)


def labelled(labels: Mapping[str, str], text: str) -> bool:
    """Whether there is the label of `KEY` or `KEY=VALUE`."""
    name, equals, wanted = text.partition("=")
    return name in labels and (not equals or labels[name] == wanted)


def as_json(store: VolumeStore, record: VolumeRecord) -> dict[str, Any]:
    """The keys of Docker's `volume ls --format json`."""
    return {
        "Availability": "N/A",
        "Driver": record.driver,
        "Group": "N/A",
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(record.labels.items())),
        "Links": "N/A",
        "Mountpoint": str(store.folder(record.name) / "_data"),
        "Name": record.name,
        "Scope": "local",
        "Size": "N/A",
        "Status": "N/A",
    }


def in_use(context: Context) -> set[str]:
    """Names of volumes that a container has, running or not; of a stack whose record is lost all."""
    rows = [row for record in stacks(context.paths) for row in record["containers"]]
    lost = {name for name in names(context.paths) if damaged(context.paths.stack(name))}
    owned = {record.name for record in VolumeStore(context.paths).list() if record.owner in lost}
    return owned | {name for row in rows for name in volumes_of(context, row)}


def volumes_of(context: Context, row: ContainerRow) -> set[str]:
    """Names of the volumes of a container: those it was planned with, and those found mounted in it."""
    root = f"{context.paths.volumes}/"
    mounted = [mount["source"] for mount in row["mounts"] if mount["type"] == "volume"]
    return {
        *row["plan"]["volumes"],
        *row["anonymous"].values(),
        *(path.removeprefix(root).partition("/")[0] for path in mounted if path.startswith(root)),
    }


def run_create(context: Context, *, driver: str, label: list[str], opt: list[str], volume: str) -> int:
    import secrets

    name = volume or secrets.token_hex(32)
    wanted = Volume(
        key=name, name=name, driver=driver, driver_opts=pairs(opt, "--opt"), labels=pairs(label, "--label")
    )
    print(VolumeStore(context.paths).ensure(wanted, "").name)
    return 0


def pairs(texts: list[str], flag: str) -> FrozenMap:
    """`KEY=VALUE`, or `KEY` alone. Raises UsageError."""
    for text in texts:
        if not text.partition("=")[0]:
            raise UsageError(f"{flag}: {text!r} has no name", hint="KEY=VALUE")
    return FrozenMap(text.partition("=")[::2] for text in texts)


def run_inspect(context: Context, *, format: str, volume: list[str]) -> int:
    store = VolumeStore(context.paths)
    rows = [store.inspect(name) for name in volume]
    print(listing(rows, {}, format) if format else json.dumps(rows, indent=4))
    return 0


def run_rm(context: Context, *, force: bool, volume: list[str]) -> int:
    store, used = VolumeStore(context.paths), in_use(context)
    failed = []
    for name in volume:
        try:
            if not force:
                store.get(name)
            store.remove(name, in_use=used)
            print(name)
        except ComposerError as error:
            failed.append(error)
    return complain(failed)


def complain(failed: list[ComposerError]) -> int:
    """Show every error; the exit code."""
    from composer.cli.render.complaint import show_error

    for error in failed:
        show_error(error)
    return 1 if failed else 0


def run_prune(context: Context, *, all: bool, force: bool) -> int:
    from composer.cli.ask import sure

    what = "all volumes" if all else "all anonymous volumes"
    if not sure(f"This removes {what} that no container uses.", force):
        return 1
    store = VolumeStore(context.paths)
    sizes = {record.name: store.size(record.name) for record in store.list()}
    removed = store.prune(all_=all, in_use=in_use(context))
    if removed:
        print("Deleted Volumes:", *removed, "", sep="\n")
    print(f"Total reclaimed space: {decimal(sum(sizes.get(name, 0) for name in removed))}")
    return 0
