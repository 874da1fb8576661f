"""The stage: the first of the two processes a container comes from. It has the host's view and rights.

It makes and enters the control group, opens everything of the host that the container will get, joins the
namespaces that exist already, and ends with a clone into all the new ones.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from composer.runtime import cgroup, linux, mounts, process, users
from composer.runtime.errors import StepError
from composer.runtime.inroot import Root
from composer.runtime.namespaces import (
    Namespaces,
    enter_new_time,
    host_id,
    join,
    new_userns,
    open_joined,
    write_maps,
)
from composer.runtime.overlay import Overlay, Owner
from composer.runtime.pending import Line, run_steps
from composer.runtime.rootfs import Node, nodes, open_nodes, open_root


class Job:
    """What the steps work on. Written by the stage, then copied into the container's process by the clone."""

    def __init__(
        self,
        line: Line,
        spec: Mapping[str, Any],
        bundle: str,
        *,
        name: str,
        overlay: Overlay | None,
        network_sockets: bool,
        program: bytes | None,
        preserve: int,
        listener: int,
        shown: int,
    ) -> None:
        self.line = line
        self.spec = spec
        self.process: Mapping[str, Any] = spec.get("process") or {}
        self.linux: Mapping[str, Any] = spec.get("linux") or {}
        self.bundle = bundle
        self.name = name
        self.overlay = overlay
        self.network_sockets = network_sockets
        self.program = program  # the compiled seccomp filter
        self.preserve = preserve
        self.listener = listener
        self.shown = shown  # a user namespace with the container's mappings, for id-mapped mounts
        self.namespaces = Namespaces.of(self.linux.get("namespaces") or ())
        self.operations: list[mounts.Operation] = []
        self.group: cgroup.Group | None = None
        self.unified = -1
        self.root = Root(-1)
        self.joined: list[tuple[str, int]] = []
        self.processes = -1  # the host's /proc
        self.outside = -1  # the mount namespace to return to, for a container that has none of its own
        self.userns: dict[str, int] = {}  # text of the mappings → descriptor
        self.owner: Owner | None = None  # whose layers and nodes are shown to be; None: the host's
        self.nodes: list[Node] = []
        self.opened_nodes: dict[str, int] = {}
        self.proc = -1  # a procfs nobody else can reach
        self.terminal = -1
        self.init = -1  # the program of pid 1, if it is ours

    def mapped(self, uids: Any, gids: Any) -> int:
        """The user namespace with these mappings; made once."""
        key = _key(uids, gids)
        if key not in self.userns:
            self.userns[key] = new_userns(uids, gids)
        return self.userns[key]

    @property
    def mappings(self) -> tuple[Any, Any]:
        return self.linux.get("uidMappings") or (), self.linux.get("gidMappings") or ()

    @property
    def own_dev(self) -> bool:
        return any(op.destination == "/dev" and isinstance(op, mounts.Filesystem) for op in self.operations)


def _key(uids: Any, gids: Any) -> str:
    return f"{uids}{gids}"


def _hide(_: Job) -> None:
    linux.prctl(linux.PR_SET_DUMPABLE, 0)


# What would change the machine, or nothing, when its namespace is the machine's.
_NEEDS = (
    *(("hostname", "uts"), ("domainname", "uts"), ("linux.timeOffsets", "time")),
    *(("linux.uidMappings", "user"), ("linux.gidMappings", "user")),
)
# The runtime makes these itself, so the rules of the specification must let it.
_DEFAULT_DEVICES: list[dict[str, Any]] = [
    {"allow": True, "type": "c", "access": "m"},
    {"allow": True, "type": "b", "access": "m"},
    *(
        {"allow": True, "type": "c", "major": major, "minor": minor, "access": "rwm"}
        for major, minor in ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (136, None))
    ),
]


def _check(job: Job) -> None:
    if job.linux.get("intelRdt"):
        raise StepError("specification", errno.EOPNOTSUPP, "linux.intelRdt", "is not supported")
    for field, kind in _NEEDS:
        part, _, name = field.rpartition(".")
        if (job.linux if part else job.spec).get(name) and not job.namespaces.has(kind):
            raise StepError("specification", errno.EINVAL, field, f"needs a {kind} namespace")
    if job.network_sockets and "network" not in job.namespaces.new:
        raise StepError(
            "specification", errno.EINVAL, "linux.namespaces", "no new network to open sockets in"
        )


def _enter_cgroup(job: Job) -> None:
    """The group is the caller's to remove, also after a failure.

    On v2 the container's process is cloned into it, unless a cgroup namespace is joined before: where
    delegation has borders (nsdelegate), nobody clones into a group from inside of one.
    """
    path = job.linux.get("cgroupsPath")
    if not path:
        return
    resources = dict(job.linux.get("resources") or {})
    if resources.get("devices"):
        resources["devices"] = [*resources["devices"], *_DEFAULT_DEVICES]
    job.group = cgroup.open(path)
    job.group.create(resources)
    cloned = "cgroup" not in job.namespaces.joined
    job.group.enter(cloned=cloned)
    job.unified = unified_of(job.group) if cloned else -1


def _prepare_process(job: Job) -> None:
    process.prepare(job.process)


def _open_root(job: Job) -> None:
    path = os.path.join(job.bundle, (job.spec.get("root") or {}).get("path") or "rootfs")
    propagation = job.linux.get("rootfsPropagation") or ""
    job.root = Root(open_root(path, propagation, job.overlay, job.owner))


def _open_mounts(job: Job) -> None:
    job.operations = mounts.operations(job.spec, job.bundle)
    host = mounts.Host(job.mapped, job.owner, _groups(job.group), alone=cgroup.layout().kind == "v2")
    for operation in job.operations:
        operation.open(host)


def _groups(group: cgroup.Group | None) -> dict[str, str]:
    """Hierarchy's mount point → the container's directory in it (without a group of its own: all of it)."""
    where = cgroup.layout()
    points = [*dict.fromkeys(where.mounts.values()), *([where.unified] if where.unified else [])]
    if group is None:
        return {point: point for point in points}
    return {
        point: directory
        for point in points
        for directory in group.directories
        if directory.startswith(point + "/")
    }


def _open_devices(job: Job) -> None:
    job.nodes = nodes(job.linux.get("devices") or (), own=job.own_dev)
    if job.owner:
        job.opened_nodes = open_nodes(job.nodes, job.owner, partial(host_id, job.linux))


def _open_namespaces(job: Job) -> None:
    job.joined = open_joined(job.namespaces.joined)
    if not job.namespaces.has("mount"):
        job.outside = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    if "user" in job.namespaces.joined:
        job.shown = dict(job.joined)["user"]
    if all(job.mappings) and job.namespaces.has("user"):
        job.userns[_key(*job.mappings)] = job.shown
        uid, gid = (host_id(job.linux, kind, 0) for kind in ("uid", "gid"))
        job.owner = Owner(job.shown, uid, gid)
    elif "user" in job.namespaces.new:
        raise StepError("namespaces", errno.EINVAL, "linux.uidMappings", "a user namespace needs mappings")


def _own_streams(job: Job) -> None:
    users.own_streams(job.process.get("user") or {}, partial(host_id, job.linux))


def _join_namespaces(job: Job) -> None:
    if "time" in job.namespaces.new:
        enter_new_time(job.linux.get("timeOffsets") or {})
    job.processes = os.open("/proc", linux.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    join(job.joined, job.namespaces.joined)


STEPS: tuple[tuple[str, Callable[[Job], None]], ...] = (
    ("hiding", _hide),
    ("specification", _check),
    ("cgroup", _enter_cgroup),
    ("process", _prepare_process),
    ("namespaces", _open_namespaces),
    ("root", _open_root),
    ("mounts", _open_mounts),
    ("devices", _open_devices),
    ("streams", _own_streams),
    ("namespaces", _join_namespaces),
)


def run(job: Job, body: Callable[[Job], None]) -> None:
    """All steps, then `body` in the container's process."""
    run_steps(STEPS, job)
    flags = job.namespaces.clone_flags | (linux.CLONE_NEWNS if job.outside >= 0 else 0)
    spawn(job.line, flags, job.unified, job.process, lambda: body(job), partial(_map, job))


def _map(job: Job, pid: int) -> None:
    """Give the container's new user namespace its ids, which only somebody outside may do."""
    if "user" in job.namespaces.new:
        write_maps(job.processes, pid, *job.mappings)


def unified_of(group: cgroup.Group) -> int:
    """The group's directory in cgroup v2, to clone into, or -1. Other namespaces do not see its path."""
    return os.open(group.unified, os.O_RDONLY | os.O_CLOEXEC) if group.unified else -1


def spawn(
    line: Line,
    flags: int,
    unified: int,
    process_spec: Mapping[str, Any],
    body: Callable[[], None],
    prepare: Callable[[int], None] = lambda pid: None,
) -> None:
    """Clone a sibling that runs `body`; tell the caller who it is, `prepare` it, and only then let it begin.

    `unified` is a descriptor of its cgroup v2 directory, or -1: opened before any mount namespace was joined.
    """
    ready, wake = os.pipe()
    try:
        pid, pidfd = linux.clone(flags | linux.CLONE_PARENT, cgroup=unified)
    except OSError as error:
        raise StepError.of("clone", error) from error
    if pid == 0:
        os.close(wake)
        if not os.read(ready, 1):
            os._exit(1)
        os.close(ready)
        body()
        return
    line.send("process", [pidfd], pid=pid)
    try:
        prepare(pid)
    except OSError as error:
        raise StepError.of("namespaces", error) from error
    try:
        process.schedule(pid, process_spec.get("scheduler"))
    except OSError as error:
        raise StepError.of("scheduler", error) from error
    os.write(wake, b"1")
    os._exit(0)
