"""What a bundle is made from besides the stack itself: facts of the host, and things already resolved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from composer import oci
from composer.model.stack import NOTHING, Mount
from composer.value import Value

IDS = 65_536
"""How many ids a user namespace has, from 0 on."""
NOBODY = 65_534


class Device(Value):
    """A device node of the host and where the container sees it. `access` is of `rwm`."""

    path: str
    type: Literal["b", "c"]
    major: int
    minor: int
    mode: int = 0o660
    uid: int = 0
    gid: int = 0
    access: str = "rwm"


class HostFacts(Value):
    """What the host is like. `capabilities` is how many capabilities its kernel knows (cap_last_cap + 1)."""

    hostname: str = "localhost"
    cgroup: Literal["v1", "hybrid", "v2"] = "v2"
    kernel: tuple[int, int] = (6, 1)
    capabilities: int = 41
    rootless: bool = False
    open_files: int = 524_288
    """The most open files that a process of ours may be allowed."""
    apparmor: str = ""
    """The default AppArmor profile, where the kernel has AppArmor and the profile is loaded."""
    selinux: str = ""
    """The label of the host's own processes, where the kernel has SELinux."""
    swap: bool = True
    """Whether its kernel can limit swap."""
    processors: frozenset[int] = frozenset()
    """The processors that are at work; none: not known."""
    devices: tuple[Device, ...] = ()
    """Every device node of the host: what a privileged container sees."""


class Account(Value):
    """Who a container runs as: numbers only."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    home: str = "/"


class Binding(Value):
    """A mount of the service and the host's path that it shows. `tmpfs` mounts have no path."""

    mount: Mount
    path: str = ""
    misfit: str = ""
    """What keeps it from being shown in a user namespace."""
    owner: tuple[tuple[int, int], tuple[int, int]] | None = None
    """For `x-owner`: (uid, gid) on disk, and the ones that are seen in their place."""


class Place(Value):
    """One container: its names, and everything about it that was resolved on this host."""

    id: str
    name: str
    number: int = 1
    first_id: int = 0
    """The host's id of its root; not 0: it has a user namespace, where ids count from there."""
    root: str = "rootfs"
    account: Account = Account()
    bindings: tuple[Binding, ...] = ()
    grants: Mapping[str, str] = NOTHING
    """Secrets and configs: path in the container → path on the host."""
    files: Mapping[str, str] = NOTHING
    """Generated files (/etc/hosts, /etc/hostname, /etc/resolv.conf) → path on the host."""
    devices: tuple[Device, ...] = ()
    """The service's `devices`, resolved; directories unfolded."""
    block_devices: Mapping[str, tuple[int, int]] = NOTHING
    """(major, minor) of each path in `blkio_config`."""
    joined: Mapping[str, str] = NOTHING
    """OCI namespace type → path, where a mode says `service:` or `container:`; theirs of `user` with it."""
    shm: str = ""
    """The host's view of the /dev/shm that comes with a joined ipc namespace."""
    seccomp: Mapping[str, Any] | None = None
    """The filter to load, `linux.seccomp`; None loads none."""


Image = Mapping[str, Any]
"""The `config` of an OCI image configuration: Env, Entrypoint, Cmd, User, WorkingDir, Volumes, …"""

Spec = oci.Spec
