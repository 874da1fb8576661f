"""Processes in a running container (exec, probes, hooks): from what is wanted to an OCI process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from composer.bundle.accounts import resolve
from composer.bundle.security import capability_sets
from composer.disk import read_json
from composer.runtime import capabilities
from composer.supervisor.facts import host_facts
from composer.supervisor.furnish import topmost
from composer.supervisor.world import Live

if TYPE_CHECKING:
    from composer.supervisor.core import Core


def exec_process(core: Core, live: Live, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """`wanted`: args, and env, user, cwd, tty, privileged, size where they differ from the container's own.

    Raises NotFoundError for a user that the container does not know.
    """
    config = read_json(core.here.container_run(live.name) / "config.json") or {}
    process = dict(config["process"])
    process["args"] = list(wanted["args"])
    process["terminal"] = bool(wanted.get("tty"))
    process["env"] = merged(process["env"], wanted.get("env") or [])
    if wanted.get("cwd"):
        process["cwd"] = wanted["cwd"]
    if wanted.get("tty"):
        process["env"] = merged(["TERM=xterm"], process["env"])
        if wanted.get("size"):
            process["consoleSize"] = {"height": wanted["size"][0], "width": wanted["size"][1]}
    if wanted.get("user"):
        image = core.images.find(live.plan.image)
        snapshots = core.volumes.store.snapshots
        upper, _, kept = snapshots.overlay(core.here.container_state(live.name), 0)
        folders = [str(upper), *kept, *image.root[0].lowers]
        account = resolve(wanted["user"], topmost(folders, "etc/passwd"), topmost(folders, "etc/group"))
        process["user"] = {"uid": account.uid, "gid": account.gid, "additionalGids": list(account.groups)}
        process["env"] = merged(process["env"], [f"HOME={account.home}"])
    if wanted.get("privileged"):
        every = list(capabilities.NAMES[: host_facts().capabilities])
        process["capabilities"] = capability_sets(every)
        process["privileged"] = True
    return process


def merged(base: list[str], more: list[str]) -> list[str]:
    """`NAME=value` entries; later ones win."""
    found = dict(entry.partition("=")[::2] for entry in base)
    found.update(entry.partition("=")[::2] for entry in more)
    return [f"{name}={value}" for name, value in found.items()]
