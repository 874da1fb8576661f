"""Facts of this host that bundles are made with. Read once; only devices are read when somebody asks."""

from __future__ import annotations

import os
import re
import resource
import stat
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path

from composer.bundle.inputs import Device, HostFacts
from composer.errors import NotFoundError
from composer.model.stack import Device as WantedDevice
from composer.runtime import cgroup

CAP_SYS_RESOURCE = 24
OWN_DEVICES = frozenset(
    f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty", "console", "ptmx")
)
"""What every container has anyway."""


@cache
def host_facts() -> HostFacts:
    """What the host is like."""
    release = os.uname().release.split(".")
    return HostFacts(
        hostname=os.uname().nodename,
        cgroup=cgroup.layout().kind,
        kernel=(int(release[0]), int("".join(c for c in release[1] if c.isdigit()) or 0)),
        capabilities=int(Path("/proc/sys/kernel/cap_last_cap").read_text()) + 1,
        rootless=os.geteuid() != 0,
        open_files=most_open_files(),
        selinux=own_label() if os.path.exists("/sys/fs/selinux/enforce") else "",
        swap=cgroup.limits_swap(cgroup.layout()),
        processors=processors(Path("/sys/devices/system/cpu/online").read_text()),
    )


def own_label() -> str:
    return Path("/proc/self/attr/current").read_text().rstrip("\0\n")


def processors(text: str) -> frozenset[int]:
    """`0-3,6` as the kernel writes it."""
    ends = (part.partition("-") for part in text.strip().split(","))
    return frozenset(chain.from_iterable(range(int(low), int(high or low) + 1) for low, _, high in ends))


def most_open_files() -> int:
    """What the hard limit of a container may be: ours, or more where we may raise it (CAP_SYS_RESOURCE)."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    allowed = int(re.findall(r"CapEff:\s*([0-9a-f]+)", Path("/proc/self/status").read_text())[0], 16)
    return int(Path("/proc/sys/fs/nr_open").read_text()) if allowed >> CAP_SYS_RESOURCE & 1 else hard


def facts_for(privileged: bool) -> HostFacts:
    """With every device node of the host for a privileged container."""
    facts = host_facts()
    return facts.replace(devices=tuple(all_devices())) if privileged else facts


def all_devices() -> Iterator[Device]:
    for folder, folders, files in os.walk("/dev"):
        folders[:] = [name for name in folders if name not in ("pts", "shm", "mqueue", "fd")]
        for name in files:
            path = f"{folder}/{name}"
            if path in OWN_DEVICES or os.path.islink(path):
                continue
            device = device_node(path)
            if device is not None:
                yield device


def device_node(path: str, target: str = "", access: str = "rwm") -> Device | None:
    """The node at `path`; None when it is not a device."""
    status = os.stat(path) if os.path.exists(path) else None
    if status is None or not (stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)):
        return None
    return Device(
        path=target or path,
        type="c" if stat.S_ISCHR(status.st_mode) else "b",
        major=os.major(status.st_rdev),
        minor=os.minor(status.st_rdev),
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        access=access,
    )


def wanted_devices(wanted: tuple[WantedDevice, ...]) -> Iterator[Device]:
    """The nodes that a service asks for; a directory stands for all nodes in it. Raises NotFoundError."""
    for entry in wanted:
        if os.path.isdir(entry.source):
            for name in sorted(os.listdir(entry.source)):
                device = device_node(f"{entry.source}/{name}", f"{entry.target}/{name}", entry.permissions)
                if device is not None:
                    yield device
            continue
        device = device_node(entry.source, entry.target, entry.permissions)
        if device is None:
            raise NotFoundError(f"there is no device {entry.source} on this host")
        yield device


def block_devices(paths: Iterator[str]) -> dict[str, tuple[int, int]]:
    """(major, minor) of each path. Raises NotFoundError."""
    found = {}
    for path in paths:
        try:
            status = os.stat(path)
        except OSError as error:
            raise NotFoundError(f"blkio_config: there is no device {path} on this host") from error
        found[path] = (os.major(status.st_rdev), os.minor(status.st_rdev))
    return found
