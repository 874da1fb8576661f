"""What a stage does for one container: everything that needs the host's view and rights, up to the clone.

It makes the control group, opens whatever of the host the container will get, and clones the container's
process into its new namespaces. Nothing of that changes the stage itself, which may go on with another
container; what would is done in a fork of it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from composer.runtime import cgroup, linux, mounts, process, users
from composer.runtime.errors import StepError
from composer.runtime.inroot import Root
from composer.runtime.launch import compile_filter
from composer.runtime.namespaces import (
    Namespaces,
    enter_new_time,
    host_id,
    join,
    open_joined,
    sample,
    write_maps,
)
from composer.runtime.overlay import Overlay, Owner
from composer.runtime.pending import Line, Stdio, run_steps, settle
from composer.runtime.rootfs import Node, nodes, open_nodes, open_root


class Order(NamedTuple):
    """A container to be made; see `create.create`."""

    spec: Mapping[str, Any]
    bundle: str
    name: str
    overlay: Overlay | None
    network_sockets: bool
    preserve: int


class Job:
    """What the steps work on. Written by the stage, then copied into the container's process by the clone."""

    def __init__(self, line: Line, order: Order, stdio: Stdio, listener: int) -> None:
        self.line = line
        self.spec = order.spec
        self.process: Mapping[str, Any] = order.spec.get("process") or {}
        self.linux: Mapping[str, Any] = order.spec.get("linux") or {}
        self.bundle = order.bundle
        self.name = order.name
        self.overlay = order.overlay
        self.network_sockets = order.network_sockets
        self.preserve = order.preserve
        self.stdio = stdio
        self.listener = listener
        self.program: bytes | None = None  # the compiled seccomp filter
        self.namespaces = Namespaces.of(self.linux.get("namespaces") or ())
        self.operations: list[mounts.Operation] = []
        self.doors: list[tuple[str, int]] = []  # of the group: path, descriptor
        self.group: cgroup.Group | None = None
        self.unified = -1
        self.root = Root(-1)
        self.joined: list[tuple[str, int]] = []
        self.processes = -1  # the host's /proc
        self.outside = -1  # the mount namespace to return to, for a container that has none of its own
        self.owner: Owner | None = None  # whose layers and nodes are shown to be; None: the host's
        self.nodes: list[Node] = []
        self.opened_nodes: dict[str, int] = {}
        self.proc = -1  # a procfs nobody else can reach
        self.terminal = -1
        self.init = -1  # the program of pid 1, if it is ours

    @property
    def mappings(self) -> tuple[Any, Any]:
        return self.linux.get("uidMappings") or (), self.linux.get("gidMappings") or ()

    @property
    def own_dev(self) -> bool:
        return any(op.destination == "/dev" and isinstance(op, mounts.Filesystem) for op in self.operations)

    @property
    def leaves(self) -> bool:
        """Whether the way to the container leads the stage itself where it would not come back from."""
        return bool(self.namespaces.joined) or "time" in self.namespaces.new

    def held(self) -> Iterator[int]:
        """The descriptors that the container's process gets, but for the channel and its streams."""
        one = (self.listener, self.unified, self.root.descriptor, self.processes, self.outside)
        yield from (descriptor for descriptor in one if descriptor >= 0)
        yield from (descriptor for _, descriptor in (*self.doors, *self.joined))
        yield from self.opened_nodes.values()
        for operation in self.operations:
            yield from operation.held()

    def release(self) -> None:
        """The stage needs nothing of it any more."""
        for descriptor in (*self.held(), *(stream for stream in self.stdio if stream >= 0)):
            os.close(descriptor)
        if self.owner:
            self.owner.close()
        self.line.socket.close()


_REFUSED = ("linux.intelRdt", "linux.netDevices", "linux.memoryPolicy", "process.execCPUAffinity")
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
    for field in _REFUSED:
        part, _, name = field.partition(".")
        if (job.linux if part == "linux" else job.process).get(name):
            raise StepError("specification", errno.EOPNOTSUPP, field, "is not supported")
    for field, kind in _NEEDS:
        part, _, name = field.rpartition(".")
        if (job.linux if part else job.spec).get(name) and not job.namespaces.has(kind):
            raise StepError("specification", errno.EINVAL, field, f"needs a {kind} namespace")
    if job.network_sockets and "network" not in job.namespaces.new:
        raise StepError(
            "specification", errno.EINVAL, "linux.namespaces", "no new network to open sockets in"
        )


def _compile(job: Job) -> None:
    job.program = compile_filter(job.spec)


def _make_cgroup(job: Job) -> None:
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
    job.doors = [(door, os.open(door, os.O_WRONLY | os.O_CLOEXEC)) for door in job.group.doors(cloned=cloned)]
    job.unified = unified_of(job.group) if cloned else -1


def _open_namespaces(job: Job) -> None:
    job.processes = os.open("/proc", linux.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    job.joined = open_joined(job.namespaces.joined)
    if not job.namespaces.has("mount"):
        job.outside = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    if all(job.mappings) and job.namespaces.has("user"):
        uid, gid = (host_id(job.linux, kind, 0) for kind in ("uid", "gid"))
        job.owner = Owner(sample(*job.mappings), uid, gid)
    elif "user" in job.namespaces.new:
        raise StepError("namespaces", errno.EINVAL, "linux.uidMappings", "a user namespace needs mappings")


def _open_root(job: Job) -> None:
    path = os.path.join(job.bundle, (job.spec.get("root") or {}).get("path") or "rootfs")
    propagation = job.linux.get("rootfsPropagation") or ""
    job.root = Root(open_root(path, propagation, job.overlay, job.owner))


def _open_mounts(job: Job) -> None:
    job.operations = mounts.operations(job.spec, job.bundle)
    host = mounts.Host(sample, job.owner, _groups(job.group), unified=cgroup.layout().unified or "")
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


def _own_streams(job: Job) -> None:
    streams = (stream for stream in job.stdio if stream >= 0)
    users.own_streams(streams, job.process.get("user") or {}, partial(host_id, job.linux))


STEPS: tuple[tuple[str, Callable[[Job], None]], ...] = (
    ("specification", _check),
    ("seccomp", _compile),
    ("cgroup", _make_cgroup),
    ("namespaces", _open_namespaces),
    ("root", _open_root),
    ("mounts", _open_mounts),
    ("devices", _open_devices),
    ("streams", _own_streams),
)


def run(job: Job, body: Callable[[Job], None]) -> None:
    """All steps, then `body` in the container's process. Raises StepError, in either of them."""
    run_steps(STEPS, job)
    if not job.leaves:
        _spawn(job, body, partial(_give, job))
        return
    pid, pidfd = linux.clone(linux.CLONE_PARENT)
    if pid == 0:
        job.line.send("helper", [os.pidfd_open(os.getpid())])
        run_steps(_STEPS_OF_FORK, job)
        _spawn(job, body, partial(_map, job))
        os._exit(0)
    os.close(pidfd)


def _prepare(job: Job) -> None:
    process.prepare(job.process, job.processes)


def _join_namespaces(job: Job) -> None:
    if "time" in job.namespaces.new:
        enter_new_time(job.linux.get("timeOffsets") or {})
    join(job.joined, job.namespaces.joined)
    job.joined = []


# What is inherited comes before the namespaces that take the host's rights away.
_STEPS_OF_FORK: tuple[tuple[str, Callable[[Job], None]], ...] = (
    ("process", _prepare),
    ("namespaces", _join_namespaces),
)


def _give(job: Job, pid: int) -> None:
    """From outside, so that the stage itself stays what it is."""
    try:
        process.prepare(job.process, job.processes, pid)
    except OSError as error:
        raise StepError.of("process", error) from error
    _map(job, pid)


def _map(job: Job, pid: int) -> None:
    """Give the container's new user namespace its ids, which only somebody outside may do."""
    if "user" in job.namespaces.new:
        write_maps(job.processes, pid, *job.mappings)


def _spawn(job: Job, body: Callable[[Job], None], prepare: Callable[[int], None]) -> None:
    def begin() -> None:
        settle(job.line, job.stdio, job.preserve, job.held())
        body(job)

    flags = job.namespaces.clone_flags | (linux.CLONE_NEWNS if job.outside >= 0 else 0)
    spawn(job.line, flags, job.unified, job.process, begin, prepare)


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
    """Clone a sibling that runs `body`; `prepare` it, tell the caller who it is, and only then let it begin.

    `unified` is a descriptor of its cgroup v2 directory, or -1: opened before any mount namespace was joined.
    """
    schedule = partial(process.schedule, scheduler=process_spec.get("scheduler"))
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
    try:
        run_steps((("namespaces", prepare), ("scheduler", schedule)), pid)
    finally:
        line.send("process", [pidfd], pid=pid)  # also after a failure: it is the caller's child to end
    os.write(wake, b"1")
    for descriptor in (ready, wake, pidfd):
        os.close(descriptor)
