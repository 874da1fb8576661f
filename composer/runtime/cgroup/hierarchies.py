"""Which cgroup hierarchies the host has mounted, and where a group's directories are in them.

https://docs.kernel.org/admin-guide/cgroup-v1/cgroups.html and cgroup-v2.html; proc_pid_mountinfo(5),
cgroups(7).
"""

from __future__ import annotations

import functools
import os
import posixpath
import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

from composer.runtime.cgroup.files import CgroupError, read

_V1 = {
    *("blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "hugetlb", "memory", "misc"),
    *("net_cls", "net_prio", "perf_event", "pids", "rdma"),
}
_LONGEST = 4096 - 256


class Layout(NamedTuple):
    """What is mounted. `mounts` maps a v1 controller (or `name=systemd`) to its mount point.

    `roots` says which part of a hierarchy a mount point shows, where that is not all of it; `v2` lists the
    controllers that the unified hierarchy has.
    """

    kind: Literal["v1", "hybrid", "v2"]
    mounts: dict[str, str]
    unified: str | None
    roots: Mapping[str, str] = {}
    v2: frozenset[str] = frozenset()


@functools.cache
def layout() -> Layout:
    """The layout of the caller's mount namespace, looked at once."""
    found = parse(read("/proc/self/mountinfo"))
    if found.unified is None:
        return found
    return found._replace(v2=frozenset(read(f"{found.unified}/cgroup.controllers").split()))


def limits_swap(where: Layout) -> bool:
    """Whether this kernel can limit swap: before Linux 6.1 that was for its command line to say.

    On v2 the groups below the root show it; as long as none of them limits memory, it is taken to be so.
    """
    if "memory" in where.mounts:
        return os.path.exists(f"{where.mounts['memory']}/memory.memsw.limit_in_bytes")
    groups = [entry.path for entry in os.scandir(where.unified) if entry.is_dir()]
    limited = [path for path in groups if os.path.exists(f"{path}/memory.max")]
    return not limited or os.path.exists(f"{limited[0]}/memory.swap.max")


def parse(mountinfo: str) -> Layout:
    """Pure. Of several mounts of one hierarchy the one below /sys/fs/cgroup counts."""
    rows = [_mount(line) for line in mountinfo.splitlines() if " - cgroup" in line]
    rows.sort(key=lambda row: not row[1].startswith("/sys/fs/cgroup"))
    mounts: dict[str, str] = {}
    roots: dict[str, str] = {}
    unified: str | None = None
    for root, point, filesystem, options in rows:
        if filesystem == "cgroup2":
            unified = unified or point
        else:
            for name in options:
                if name in _V1 or name.startswith("name="):
                    mounts.setdefault(name, point)
        if root != "/":
            roots.setdefault(point, root)
    if not mounts and unified is None:
        raise CgroupError("no cgroup file system is mounted", hint="mount cgroup2 on /sys/fs/cgroup")
    kind: Literal["v1", "hybrid", "v2"] = "v2" if not mounts else "hybrid" if unified else "v1"
    return Layout(kind, mounts, unified, roots)


def _mount(line: str) -> tuple[str, str, str, list[str]]:
    """Root, mount point, type and super options of one line."""
    left, right = line.split(" - ", 1)
    root, point = (_unescape(part) for part in left.split(" ")[3:5])
    kind, _, options = right.split(" ", 2)
    return root, point, kind, options.split(",")


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def own(text: str) -> dict[str, str]:
    """/proc/PID/cgroup as controller → path; the unified hierarchy's name is empty."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        _, names, path = line.split(":", 2)
        found.update(dict.fromkeys(names.split(","), path))
    return found


def directories(path: str, where: Layout) -> tuple[dict[str, str], str | None]:
    """The directories of the group `path`: by v1 controller, and the unified one. Raises CgroupError."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or ".." in parts or "\0" in path or len(path) > _LONGEST:
        raise CgroupError(f"cgroupsPath {path[:80]!r} names no group below the root", path=path)
    inner = "/".join(parts)
    if path.startswith("/"):
        bases = dict.fromkeys([*where.mounts, ""], "")
    else:
        bases = {name: _visible(base, name, where) for name, base in own(read("/proc/self/cgroup")).items()}
        if where.kind == "v2":
            bases[""] = posixpath.dirname(bases[""])
    dirs = {name: posixpath.join(point, bases[name], inner) for name, point in where.mounts.items()}
    return dirs, where.unified and posixpath.join(where.unified, bases[""], inner)


def _visible(path: str, name: str, where: Layout) -> str:
    """A group's path as seen below the mount point, which may show only a part of the hierarchy."""
    point = where.mounts.get(name) if name else where.unified
    root = where.roots.get(point or "", "/").rstrip("/")
    if (path + "/").startswith("/../") or not (path + "/").startswith(root + "/"):
        raise CgroupError(
            f"this process's own cgroup {path} is not visible below {point}",
            path=path,
            hint="give an absolute cgroupsPath",
        )
    return path[len(root) :].strip("/")
