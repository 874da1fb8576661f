"""The mounts of a container: what every container has, generated files, and what its service asks for."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping

from composer import oci
from composer.bundle.inputs import Binding, HostFacts, Place
from composer.bundle.owners import swapped
from composer.errors import UsageError
from composer.model.stack import Service

SHM_SIZE = 64 * 1024 * 1024
QUIET = ("nosuid", "noexec", "nodev")
OPPOSITES: Mapping[str, str] = {
    "exec": "noexec",
    "suid": "nosuid",
    "dev": "nodev",
    "rw": "ro",
    "atime": "noatime",
    "diratime": "nodiratime",
}
IDMAPPED: Mapping[str, str] = {"bind": "idmap", "rbind": "ridmap"}
RECURSIVE_READ_ONLY = (5, 12)
"""The first kernel that can make a whole tree read-only, mount_setattr(2)."""


def mounts(
    service: Service, place: Place, facts: HostFacts, namespaces: Mapping[str, str]
) -> list[oci.Mount]:
    """All mounts, parents before children. What the service mounts replaces what is there by default.

    Raises UsageError when two things of the service claim one place, or something would cover /proc or /sys.
    """
    own = [*_bindings(service, place, facts), *_grants(place)]
    taken: set[str] = set()
    for mount in own:
        target = mount["destination"]
        if target in taken:
            raise UsageError(f"service {service.name}: two mounts at {target}")
        if target == "/" or target == "/proc":
            raise UsageError(f"service {service.name}: nothing can be mounted at {target}")
        taken.add(target)
    common = [
        mount
        for mount in (*_common(service, place, facts, namespaces), *_files(service, place))
        if mount["destination"] not in taken
        and not ("/dev" in taken and mount["destination"].startswith("/dev/"))
    ]
    # A stable sort by depth: whatever is mounted inside another mount comes after it.
    return sorted([*common, *own], key=lambda mount: mount["destination"].rstrip("/").count("/"))


def _mount(target: str, kind: str, source: str, *options: str) -> oci.Mount:
    return oci.Mount(destination=target, type=kind, source=source, options=list(options))


def _common(
    service: Service, place: Place, facts: HostFacts, namespaces: Mapping[str, str]
) -> Iterator[oci.Mount]:
    lasting = () if service.privileged else ("ro",)
    yield _mount("/proc", "proc", "proc", *QUIET)
    yield _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k")
    group = () if facts.rootless else ("gid=5",)
    yield _mount(
        "/dev/pts",
        "devpts",
        "devpts",
        "nosuid",
        "noexec",
        "newinstance",
        "ptmxmode=0666",
        "mode=0620",
        *group,
    )
    yield from _ipc(service, place, namespaces)
    yield _mount("/sys", "sysfs", "sysfs", *QUIET, *lasting)
    yield _mount("/sys/fs/cgroup", "cgroup", "cgroup", *QUIET, "relatime", *lasting)


def _ipc(service: Service, place: Place, namespaces: Mapping[str, str]) -> Iterator[oci.Mount]:
    """/dev/shm goes with the ipc namespace; mqueue shows that of whoever mounts it, mq_overview(7)."""
    yield _mount("/dev/mqueue", "mqueue", "mqueue", *QUIET)
    if "ipc" not in namespaces:
        yield _mount("/dev/shm", "bind", "/dev/shm", "rbind", *QUIET)
    elif place.shm:
        yield _mount("/dev/shm", "bind", place.shm, "rbind", *QUIET)
    elif service.ipc != "none":
        yield _mount("/dev/shm", "tmpfs", "shm", *QUIET, "mode=1777", f"size={service.shm_size or SHM_SIZE}")


def _files(service: Service, place: Place) -> Iterator[oci.Mount]:
    mode = "ro" if service.read_only else "rw"
    for target, path in place.files.items():
        yield _mount(target, "bind", path, "rbind", mode, "rprivate")


def _grants(place: Place) -> Iterator[oci.Mount]:
    for target, path in place.grants.items():
        yield _mount(posixpath.normpath(target), "bind", path, "rbind", "ro", "rprivate", *QUIET)


def _bindings(service: Service, place: Place, facts: HostFacts) -> Iterator[oci.Mount]:
    for binding in place.bindings:
        target = posixpath.normpath(posixpath.join("/", binding.mount.target))
        if binding.mount.type == "tmpfs":
            yield _mount(target, "tmpfs", "tmpfs", *tmpfs_options(binding))
        else:
            options = bind_options(service, binding, facts)
            if place.first_id or binding.owner:
                options.insert(1, IDMAPPED[options[0]])
            mount = _mount(target, "bind", binding.path, *options)
            if binding.owner:
                disk, inside = binding.owner
                mount["uidMappings"] = swapped(place.first_id, disk[0], inside[0])
                mount["gidMappings"] = swapped(place.first_id, disk[1], inside[1])
            yield mount


def bind_options(service: Service, binding: Binding, facts: HostFacts) -> list[str]:
    """`recursive` as Docker has it: read-only covers what is mounted below, unless it says `writable`."""
    mount = binding.mount
    options = ["bind" if mount.recursive == "disabled" else "rbind"]
    if mount.read_only or mount.type == "image":
        whole = facts.kernel >= RECURSIVE_READ_ONLY
        if mount.recursive == "readonly" and not whole:
            raise UsageError(
                f"service {service.name}: recursive: readonly at {mount.target} needs Linux 5.12 or newer"
            )
        options.append("ro" if not whole or mount.recursive in ("writable", "disabled") else "rro")
    else:
        options.append("rw")
    options.append(mount.propagation or "rprivate")
    return options


def tmpfs_options(binding: Binding) -> list[str]:
    """Docker's careful defaults, each of which can be taken back (`exec` undoes `noexec`)."""
    mount = binding.mount
    options = [*QUIET, "rprivate"]
    if mount.read_only:
        options.append("ro")
    if mount.tmpfs_size:
        options.append(f"size={mount.tmpfs_size}")
    if mount.tmpfs_mode is not None:
        options.append(f"mode={mount.tmpfs_mode:o}")
    for option in mount.tmpfs_options:
        key = option.partition("=")[0]
        undone = {OPPOSITES.get(option, ""), *(yes for yes, no in OPPOSITES.items() if no == option)}
        options = [o for o in options if o not in undone and o.partition("=")[0] != key]
        options.append(option)
    return options
