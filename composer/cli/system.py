"""`composer system …`: disk usage, cleaning up, starting stacks with the machine."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from composer import __version__
from composer.cli import common
from composer.cli.context import Context
from composer.cli.grammar import Flag, Positional, Verb
from composer.cli.image import used_images
from composer.cli.render.listing import listing, show
from composer.cli.render.sizes import decimal
from composer.cli.volume import in_use
from composer.errors import ComposerError, NotFoundError
from composer.images.store import Store
from composer.record import stacks
from composer.volumes.snapshots import tokens
from composer.volumes.store import VolumeStore

VERBS = {
    "df": Verb(
        "df",
        "Show what is on the disk",
        (common.FORMAT,),
    ),
    "info": Verb(
        "info",
        "Show what this host is like",
        (Flag("format", "str", "text or json", "f", default="text", choices=("text", "json")),),
    ),
    "prune": Verb(
        "prune",
        "Remove what nobody uses: images without a name, networks",
        (
            Flag("all", "bool", "All images that no container uses, and the build cache", "a"),
            Flag("force", "bool", "Do not ask", "f"),
            Flag("volumes", "bool", "Also anonymous volumes"),
        ),
    ),
    "enable": Verb(
        "enable",
        "Start a stack again when the machine has started",
        (Flag("print", "bool", "Only show the systemd unit"),),
        (
            Positional(
                "STACK", "Its name; the one of this folder when absent", required=False, complete="stack"
            ),
        ),
        examples=(
            ("enable", "the stack of this folder"),
            ("enable --print shop", "see it first"),
        ),
    ),
    "disable": Verb(
        "disable",
        "Start a stack no more when the machine has started",
        (),
        (
            Positional(
                "STACK", "Its name; the one of this folder when absent", required=False, complete="stack"
            ),
        ),
    ),
}
COLUMNS = {
    "TYPE": "Type",
    "TOTAL": "TotalCount",
    "ACTIVE": "Active",
    "SIZE": "Size",
    "RECLAIMABLE": "Reclaimable",
}
UNITS = Path("/etc/systemd/system")
UNIT = """\
[Unit]
Description=The stack {name}
Wants=network-online.target
After=network-online.target local-fs.target

[Service]
Type=oneshot
RemainAfterExit=yes
Delegate=yes
KillMode=none
WorkingDirectory={folder}
{environment}ExecStart={command} -p {name} start --boot
ExecStop={command} -p {name} stop

[Install]
WantedBy=multi-user.target
"""


def run_df(context: Context, *, format: str) -> int:
    rows = [images(context), containers(context), volumes(context), *snapshots(context), build_cache(context)]
    show(listing(rows, COLUMNS, format))
    return 0


def row(kind: str, total: int, active: int, size: int, free: int) -> dict[str, str]:
    """The keys of Docker's `system df --format json`."""
    share = f" ({100 * free // size}%)" if size else ""
    return {
        "Type": kind,
        "TotalCount": str(total),
        "Active": str(active),
        "Size": decimal(size),
        "Reclaimable": f"{decimal(free)}{share}",
    }


def images(context: Context) -> dict[str, str]:
    used = used_images(context)
    every = Store(context.paths).summaries()
    idle = sum(image.size + image.stored for image in every if image.id not in used)
    size = sum(image.size + image.stored for image in every)
    return row("Images", len(every), sum(image.id in used for image in every), size, idle)


def containers(context: Context) -> dict[str, str]:
    total = active = size = free = 0
    for record in stacks(context.paths):
        for entry in record["containers"]:
            used = tree_size(context.paths.stack(record["stack"]).container_state(entry["name"]))
            alive = entry["state"] in ("running", "paused")
            total, active, size = total + 1, active + alive, size + used
            free += 0 if alive else used
    return row("Containers", total, active, size, free)


def tree_size(folder: Path) -> int:
    """Bytes on the disk."""
    return sum(
        os.lstat(os.path.join(place, name)).st_blocks * 512
        for place, folders, files in os.walk(folder)
        for name in (*folders, *files)
    )


def volumes(context: Context) -> dict[str, str]:
    store, used = VolumeStore(context.paths), in_use(context)
    sizes = {record.name: store.size(record.name) for record in store.list()}
    idle = sum(size for name, size in sizes.items() if name not in used)
    active = sum(name in used for name in sizes)
    return row("Local Volumes", len(sizes), active, sum(sizes.values()), idle)


def snapshots(context: Context) -> Iterator[dict[str, str]]:
    """No row without any. Active and not to be reclaimed is what volumes and containers lie on."""
    store = VolumeStore(context.paths).snapshots
    every, used = store.every(), store.used()
    if every:
        kept = store.list()
        active = sum(not used.isdisjoint(tokens(each)) for each in kept)
        yield row("Snapshots", len(kept), active, store.size(every), store.size(every - used))


def build_cache(context: Context) -> dict[str, str]:
    from composer.build import forget
    from composer.build.cache import Cache

    found = list(forget.items(Cache(context.paths).root))
    total = sum(item.size for item in found)
    return row("Build Cache", len(found), 0, total, total)


def run_info(context: Context, *, format: str) -> int:
    facts = gathered(context)
    if format == "json":
        print(json.dumps(facts, indent=4))
    else:
        size = max(map(len, facts))
        for key, value in facts.items():
            print(f"{key:{size}}  {value}")
    return 0


def gathered(context: Context) -> dict[str, Any]:
    from composer.network import registry
    from composer.runtime import cgroup

    layout, every = cgroup.layout(), stacks(context.paths)
    rows = [entry for record in every for entry in record["containers"]]
    return {
        "Version": __version__,
        "Kernel": os.uname().release,
        "Architecture": os.uname().machine,
        "CPUs": os.cpu_count(),
        "Memory": decimal(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")),
        "Cgroups": layout.kind,
        "Stacks": sum(bool(record["containers"]) for record in every),
        "Containers": len(rows),
        "Running": sum(entry["state"] == "running" for entry in rows),
        "Images": len(Store(context.paths).summaries()),
        "Networks": len(registry.networks(context.paths)),
        "Volumes": len(VolumeStore(context.paths).list()),
        "Run directory": str(context.paths.run),
        "State directory": str(context.paths.state),
    }


def run_prune(context: Context, *, all: bool, force: bool, volumes: bool) -> int:
    from composer.cli import image, network, volume
    from composer.cli.ask import sure

    parts = ["images that no container uses" if all else "images without a name", "networks that nobody uses"]
    parts += ["anonymous volumes that no container uses"] if volumes else []
    parts += ["all of the build cache"] if all else []
    if not sure(f"This removes {', '.join(parts)}.", force):
        return 1
    network.run_prune(context, force=True)
    if volumes:
        volume.run_prune(context, all=False, force=True)
    if all:
        from composer.build import forget
        from composer.build.cache import Cache

        freed = forget.trim(Cache(context.paths), unused=0)
        print(f"Build cache: {decimal(freed)}")
    return image.run_prune(context, all=all, force=True, keep_size="")


def run_enable(context: Context, *, stack: str, **flags: bool) -> int:
    name = stack or context.stack_name
    text = unit(context, name)
    if flags["print"]:
        print(text, end="")
        return 0
    if not Path("/run/systemd/system").is_dir():
        raise ComposerError(
            "this host was not started by systemd",
            hint=f"have your init run `{command()} -p {name} start --boot` when the machine has started",
        )
    path = UNITS / f"composer-{name}.service"
    try:
        path.write_text(text)
    except OSError as error:
        raise ComposerError(f"{path}: {error.strerror}") from error
    print(f"wrote {path}", file=sys.stderr)
    return systemctl("daemon-reload") or systemctl("enable", path.name)


def run_disable(context: Context, *, stack: str) -> int:
    name = stack or context.stack_name
    path = UNITS / f"composer-{name}.service"
    if not path.exists():
        raise NotFoundError(f"stack {name} is not enabled: there is no {path}")
    code = systemctl("disable", path.name)
    path.unlink()
    return code or systemctl("daemon-reload")


def unit(context: Context, name: str) -> str:
    """The unit that brings a stack back. Raises NotFoundError for one that never was up."""
    record = next((record for record in stacks(context.paths) if record["stack"] == name), None)
    if record is None or not record["containers"]:
        raise NotFoundError(f"there is no stack {name}", hint="`composer up -d` first")
    kept = {
        key: value for key, value in os.environ.items() if key in ("COMPOSER_RUN_DIR", "COMPOSER_STATE_DIR")
    }
    environment = "".join(f'Environment="{key}={value}"\n' for key, value in kept.items())
    folder = record["working_dir"] or "/"
    return UNIT.format(name=name, folder=folder, environment=environment, command=command())


def command() -> str:
    """How this program is run."""
    import shutil

    return shutil.which("composer") or f"{sys.executable} -m composer"


def systemctl(*words: str) -> int:
    import subprocess

    return subprocess.run(["systemctl", *words], check=False).returncode
