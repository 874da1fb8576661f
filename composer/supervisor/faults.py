"""Failed starts: their exit codes, as Docker has them, and their sentences. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from errno import EINVAL, ENOTDIR

from composer.errors import ComposerError, RuntimeStepError
from composer.supervisor.world import Live

LIMITS: Mapping[str, str] = {
    "cpu.cpus": "cpuset",
    "cpu.shares": "cpu_shares",
    "cpu.period": "cpu_period",
    "cpu.quota": "cpus",
    "cpu.realtimePeriod": "cpu_rt_period",
    "cpu.realtimeRuntime": "cpu_rt_runtime",
    "memory.limit": "mem_limit",
    "memory.reservation": "mem_reservation",
    "memory.swap": "memswap_limit",
    "memory.swappiness": "mem_swappiness",
    "memory.disableOOMKiller": "oom_kill_disable",
    "pids.limit": "pids_limit",
    "devices": "devices",
}
"""By the fields of OCI's `linux.resources`, the keys that stack files have for them."""
_LIMIT = "linux.resources."

NOT_FOUND, NOT_EXECUTABLE, NOT_STARTED = 127, 126, 125


def exit_code_of(error: RuntimeStepError) -> int:
    """Docker's: 127 for a program that is not there, 126 for one that cannot be run, 125 for all else."""
    if error.step != "exec":
        return NOT_STARTED
    return NOT_FOUND if error.errno == 2 else NOT_EXECUTABLE


def explained(error: RuntimeStepError, live: Live, argv: list[str] | None = None) -> ComposerError:
    """The runtime's error as a sentence about the container."""
    if error.step == "exec":
        what = (argv or live.command or [""])[0]
        text = "executable file not found in the container" if error.errno == 2 else error.message
        return ComposerError(f"container {live.name} cannot run {what}: {text}")
    bound = next((m for m in live.mounts if (m["type"], m["target"]) == ("bind", error.path)), None)
    if error.step == "mounts" and bound and error.errno in (EINVAL, ENOTDIR):
        text = f"container {live.name}: {bound['source']} cannot be mounted at {error.path}"
        hint = "a source that is not there is made, as an empty folder: look whether its path is right"
        return ComposerError(f"{text}: one is a folder, the other a file", hint=hint)
    if error.step == "namespaces" and (error.path or "").endswith("Mappings"):
        text = f"container {live.name}: its user namespace {error.message}"
        return ComposerError(text, hint="with `userns_mode: host` it has the ids of the host, all of them")
    if error.step == "cgroup" and error.message.startswith(_LIMIT):
        field, _, text = error.message.removeprefix(_LIMIT).partition(": ")
        key = LIMITS.get(field) or ("blkio_config" if field.startswith("blockIO.") else field)
        where = f"services.{live.plan.slot.service}.{key}"
        hint = f"the kernel does not take this value on this host: another `{key}`, or none"
        return ComposerError(f"container {live.name}: {where}: {text}", hint=hint)
    where = f" ({error.path})" if error.path else ""
    return ComposerError(f"container {live.name}: {error.step}{where}: {error.message}")
