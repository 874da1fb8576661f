"""`up -y`: volumes that the files describe otherwise by now go, with their data, and `up` makes them anew."""

from __future__ import annotations

from composer.cli import wish
from composer.cli.context import Context
from composer.cli.volume import in_use, volumes_of
from composer.volumes.store import VolumeStore, drift


def renew_volumes(context: Context) -> None:
    """Remove the containers that use them first. Raises ConflictError when another stack uses one."""
    store = VolumeStore(context.paths)
    wanted = [volume for volume in context.project.stack.volumes.values() if not volume.external]
    going = {v.name for v in wanted if (record := store.find(v.name)) and drift(record, v)}
    if not going:
        return
    if context.dry_run:
        wish.announce([f"Volume {name}" for name in sorted(going)], "Recreating")
        return
    users = {row["service"] for row in context.record["containers"] if going & volumes_of(context, row)}
    if users:
        for goal in ("stop", "rm"):
            wish.carry_out(context, {"goal": goal, "services": sorted(users)}, title="Removing", files=False)
        context.again()
    used = in_use(context)
    for name in sorted(going):
        store.remove(name, in_use=used)
