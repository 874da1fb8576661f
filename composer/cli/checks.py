"""What `doctor` looks at on this host. Each check is a function of the paths and says what it found."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from composer.disk import is_locked
from composer.errors import ComposerError
from composer.paths import Paths
from composer.record import stacks

State = Literal["good", "warning", "bad"]


class Check(NamedTuple):
    """One finding. `remedy` says what to do about it; nothing when it is good."""

    title: str
    state: State
    text: str
    remedy: str = ""


OLDEST = (5, 11)
"""Overlay mounts in user namespaces came last of all that is used."""
CONTROLLERS = ("cpu", "memory", "pids")
RESOLV_CONF = Path("/etc/resolv.conf")
LEAST_DISK, LEAST_INODES = 2 << 30, 10_000
LEAST_INSTANCES = 128
UNFIT = {0x6969: "nfs", 0x794C7630: "overlayfs", 0x65735546: "fuse"}
"""statfs(2) types on which an overlay's upper directory cannot be."""


def kernel(paths: Paths) -> Iterator[Check]:
    release = os.uname().release
    numbers = tuple(int("".join(c for c in part if c.isdigit()) or 0) for part in release.split(".")[:2])
    if numbers < OLDEST:
        yield Check("kernel", "bad", f"{release} is too old", "5.11 or newer is needed")
    else:
        yield Check("kernel", "good", f"Linux {release}")
    missing = [name for name in ("mnt", "uts", "ipc", "pid", "net", "cgroup") if not namespace(name)]
    if missing:
        yield Check(
            "namespaces", "bad", f"the kernel has no {', '.join(missing)}", "a kernel with CONFIG_NAMESPACES"
        )
    else:
        yield Check("namespaces", "good", "all there")
    if "overlay" not in Path("/proc/filesystems").read_text():
        yield Check("overlayfs", "bad", "the kernel does not know it", "`modprobe overlay`")
    else:
        yield Check("overlayfs", "good", "known to the kernel")
    seccomp = Path("/proc/sys/kernel/seccomp/actions_avail")
    if not seccomp.exists():
        yield Check(
            "seccomp", "warning", "not in this kernel: containers run unfiltered", "CONFIG_SECCOMP_FILTER"
        )


def namespace(name: str) -> bool:
    return Path(f"/proc/self/ns/{name}").exists()


def rights(paths: Paths) -> Iterator[Check]:
    if os.geteuid() == 0:
        yield Check("user", "good", "root")
        return
    limit = Path("/proc/sys/user/max_user_namespaces")
    if limit.exists() and limit.read_text().strip() == "0":
        yield Check(
            "user", "bad", "not root, and user namespaces are off", "`sysctl user.max_user_namespaces=15000`"
        )
    else:
        yield Check(
            "user", "warning", f"uid {os.geteuid()}: not all is possible without root", "run it with sudo"
        )


def user_namespaces(paths: Paths) -> Iterator[Check]:
    from composer.supervisor.userns import DEFAULT, SWITCH, obstacle

    title = "user namespaces"
    found, _ = obstacle(paths)
    if found:
        yield Check(title, "warning", f"containers run without, as with Docker: {found}")
    elif (os.environ.get(SWITCH) or DEFAULT) == "host":
        yield Check(
            title, "good", f"possible; used where a service says `userns_mode: private`, or {SWITCH}=private"
        )
    else:
        yield Check(title, "good", "root in a container is nobody on this host")


def cgroups(paths: Paths) -> Iterator[Check]:
    from composer.runtime import cgroup

    layout = cgroup.layout()
    there = set(layout.mounts) | set(layout.v2)
    missing = [name for name in CONTROLLERS if name not in there]
    kinds = {"v1": "version 1", "v2": "version 2", "hybrid": "both versions"}
    if missing:
        yield Check(
            "cgroups",
            "bad" if len(missing) == len(CONTROLLERS) else "warning",
            f"{kinds[layout.kind]}, without {', '.join(missing)}: such limits are refused",
            "`cgroup_enable=memory` on the kernel's command line, or delegate them (systemd: Delegate=yes)",
        )
    else:
        yield Check(
            "cgroups", "good", f"{kinds[layout.kind]}, with {', '.join(sorted(there & set(CONTROLLERS)))}"
        )


def network(paths: Paths) -> Iterator[Check]:
    from composer.network import links, registry
    from composer.network.addresses import free_subnet
    from composer.network.netlink import Netlink
    from composer.network.nft.neighbours import findings
    from composer.network.publish import firewall

    try:
        with firewall() as filters:
            found = findings(filters)
        yield Check("nftables", "good", "answers")
    except (ComposerError, OSError) as error:
        yield Check("nftables", "bad", str(error), "`modprobe nf_tables`, or a kernel with CONFIG_NF_TABLES")
        found = []
    for finding in found:
        yield Check("firewall", "warning", finding.problem, finding.remedy)
    forward = Path("/proc/sys/net/ipv4/ip_forward").read_text().strip()
    text = "on" if forward == "1" else "off; composer turns it on with the first network"
    yield Check("ip_forward", "good", text)
    networks = registry.networks(paths)
    taken = [pool.subnet for record in networks for pool in record.pools]
    try:
        with Netlink() as host:
            subnet = free_subnet([*taken, *links.routes(host, socket.AF_INET)])
        yield Check("addresses", "good", f"{len(networks)} networks here; the next gets {subnet}")
    except (ComposerError, OSError) as error:
        yield Check("addresses", "bad", str(error), "`composer network prune`, or give networks a `subnet`")


def names(paths: Paths) -> Iterator[Check]:
    from composer.network import sysctl
    from composer.network.dns.resolvconf import upstreams
    from composer.supervisor.hostfile import text_of

    text = text_of(RESOLV_CONF)
    asked = ", ".join(upstreams(text))
    if "nameserver" in text:
        yield Check("names", "good", f"others than the stack's are asked of {asked}")
    else:
        yield Check(
            "names",
            "warning",
            f"{RESOLV_CONF} names no resolver; {asked} is asked",
            f"a line `nameserver …` in {RESOLV_CONF}, or `dns` in the services",
        )
    if not sysctl.has_ipv6():
        yield Check("ipv6", "good", "off on this host: networks have IPv4 only")


def disk(paths: Paths) -> Iterator[Check]:
    place = next(path for path in (paths.state, *paths.state.parents) if path.exists())
    usage, counts = shutil.disk_usage(place), os.statvfs(place)
    free = f"{usage.free / 1e9:.1f} GB free at {place}"
    if usage.free < LEAST_DISK or (counts.f_files and counts.f_favail < LEAST_INODES):
        yield Check("disk", "warning", f"{free}, {counts.f_favail} inodes", "`composer system prune`")
    else:
        yield Check("disk", "good", free)
    if not os.access(place, os.W_OK):
        yield Check("state", "bad", f"{place} cannot be written", "another COMPOSER_STATE_DIR")
    kind = filesystem(place)
    if kind:
        yield Check(
            "state",
            "bad",
            f"{place} is on {kind}, which cannot hold containers",
            "another COMPOSER_STATE_DIR",
        )


def filesystem(path: Path) -> str:
    """The kind of file system when containers cannot be on it; "" when they can."""
    from composer.runtime.linux import filesystem_magic

    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return UNFIT.get(filesystem_magic(descriptor), "")
    finally:
        os.close(descriptor)


def limits(paths: Paths) -> Iterator[Check]:
    for name, least in (("max_user_instances", LEAST_INSTANCES), ("max_user_watches", 8192)):
        value = int(Path(f"/proc/sys/fs/inotify/{name}").read_text())
        if value < least:
            yield Check(
                "limits",
                "warning",
                f"fs.inotify.{name} is {value}",
                f"`sysctl fs.inotify.{name}={least * 4}`",
            )


def leftovers(paths: Paths) -> Iterator[Check]:
    """Stacks whose keeper went down, and what their supervisors complained of."""
    names = []
    for record in stacks(paths):
        here = paths.stack(record["stack"])
        if here.run.exists() and not is_locked(here.life):
            names.append(record["stack"])
            yield Check(
                "stack",
                "warning",
                f"{record['stack']} was not taken down: its keeper, or the machine, went down",
                f"`composer -p {record['stack']} up -d` or `… down`",
            )
        if text := last_words(here.diagnostics):
            yield Check("stack", "warning", f"{record['stack']}: {text}", f"see {here.diagnostics}")
    if not names:
        yield Check("stacks", "good", f"{len(stacks(paths))} here, nothing left behind")


def last_words(path: Path) -> str:
    """The last line that a keeper or a supervisor printed: they have nothing to print when all is well."""
    try:
        lines = path.read_text(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1] if lines else ""


CHECKS: tuple[Callable[[Paths], Iterator[Check]], ...] = (
    kernel,
    rights,
    user_namespaces,
    cgroups,
    network,
    names,
    disk,
    limits,
    leftovers,
)
