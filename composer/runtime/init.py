"""The container's process, from its first instruction in the new namespaces to exec.

`STEPS` is the order, and the names that errors carry. Nothing may be imported once the root has been changed:
it would come from the container.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from composer.runtime import hooks, initproc, linux, mounts, namespaces, process, rootfs, sysctl, tty, users
from composer.runtime.inroot import Root, closing
from composer.runtime.launch import Launch, change_directory, find, labelled
from composer.runtime.pending import run_steps
from composer.runtime.stage import Job


def _enter_cgroup(job: Job) -> None:
    """Before anything else: it is limited, and found, from here on."""
    for path, door in job.doors:
        try:
            os.write(door, b"0")
        except OSError as error:
            raise OSError(error.errno, os.strerror(error.errno or 0), path) from None
        os.close(door)


def _identity(job: Job) -> None:
    if job.namespaces.has("user"):
        users.become_root()
    os.umask(0)


def _cgroup_namespace(job: Job) -> None:
    # Only now: its root is the group of whoever makes it.
    if "cgroup" in job.namespaces.new:
        linux.unshare(linux.CLONE_NEWCGROUP)


def _session(_: Job) -> None:
    os.setsid()
    linux.join_session_keyring()


def _network(job: Job) -> None:
    if "network" in job.namespaces.new:
        namespaces.loopback_up()
    if job.network_sockets:
        namespaces.send_sockets(job.line)


def _hostname(job: Job) -> None:
    for field, function in (("hostname", socket.sethostname), ("domainname", linux.setdomainname)):
        if job.spec.get(field):
            function(job.spec[field])


def _root(job: Job) -> None:
    job.root = rootfs.cover(job.root.descriptor)


def _mounts(job: Job) -> None:
    for operation in job.operations:
        operation.attach(job.root)


def _devices(job: Job) -> None:
    rootfs.populate_dev(job.root, job.nodes, job.opened_nodes, own=job.own_dev)


def _terminal(job: Job) -> None:
    if not job.process.get("terminal"):
        return
    master, job.terminal = tty.open_pair(
        job.root, job.process.get("consoleSize"), job.process.get("user") or {}
    )
    tty.bind_console(job.root, job.terminal)
    job.line.send("console", [master])
    os.close(master)
    for standard in (0, 1, 2):
        os.dup2(job.terminal, standard)  # the caller's own may be pipes, whose end somebody waits for


def _runtime_hooks(job: Job) -> None:
    if hooks.wanted(job.spec, *hooks.RUNTIME):
        job.line.send("hooks")
        job.line.wait("go")


def _run_hooks(job: Job, kind: str, status: str) -> None:
    hooks.run(job.spec, kind, hooks.state(job.spec, job.name, status, os.getpid(), job.bundle))


def _container_hooks(job: Job) -> None:
    _run_hooks(job, "createContainer", "created")


def _masked_paths(job: Job) -> None:
    rootfs.mask(job.root, job.linux.get("maskedPaths") or ())


def _readonly_paths(job: Job) -> None:
    rootfs.protect(job.root, job.linux.get("readonlyPaths") or ())


def _own_proc(job: Job) -> None:
    if job.linux.get("sysctl") or labelled(job.process):
        job.proc = mounts.new_filesystem("proc", "proc", (), "proc")


def _init_program(job: Job) -> None:
    if initproc.wanted(job.spec):
        job.init = initproc.prepare()


def _sysctl(job: Job) -> None:
    sysctl.apply(job.proc, job.linux.get("sysctl") or {}, job.namespaces.has)


def _working_directory(job: Job) -> None:
    os.umask(0o022)
    os.close(job.root.ensure(job.process.get("cwd") or "/", directory=True))


def _pivot(job: Job) -> None:
    propagation = job.linux.get("rootfsPropagation") or ""
    if job.outside < 0:
        rootfs.pivot(job.root, propagation)
    else:
        job.root = rootfs.leave(job.root, propagation, job.outside)
    if (job.spec.get("root") or {}).get("readonly"):
        linux.mount_setattr(job.root.descriptor, on=linux.MOUNT_ATTR_RDONLY, path="/")
    if "mount" in job.namespaces.new and not (job.spec.get("hooks") or job.process.get("terminal")):
        # Since Linux 6.8 mountinfo(5) lists mounts by when they came into being, and the stage opened the
        # host's first. A copy of the namespace has them all anew, in the order in which they are attached.
        # Not where hooks know the namespace by now, or an open terminal would lose its name.
        linux.unshare(linux.CLONE_NEWNS)
        with closing(os.open("/", linux.O_PATH | os.O_CLOEXEC)) as top:
            _unbindable_again(job, propagation, Root(top))


def _unbindable_again(job: Job, propagation: str, root: Root) -> None:
    """The copies of unbindable mounts are private."""
    places = [("/", propagation == "runbindable")] if propagation.endswith("unbindable") else []
    places += [
        (operation.destination, recursive)
        for operation in job.operations
        for kind, recursive in operation.options.propagation[-1:]
        if kind == linux.MS_UNBINDABLE
    ]
    for path, recursive in places:
        with closing(root.open(path)) as place:
            linux.mount_setattr(place, propagation=linux.MS_UNBINDABLE, recursive=recursive, path=path)


def _personality(job: Job) -> None:
    process.set_personality(job.linux.get("personality"))


def _look_for_program(job: Job) -> None:
    """Better now than at the start; the same search decides again then."""
    change_directory(job.process.get("cwd") or "/")
    find(job.process)


def _wait(job: Job) -> None:
    job.line.send("created")
    if job.listener >= 0:
        job.line.accept(job.listener)
    job.line.wait("start")


def _start_hooks(job: Job) -> None:
    _run_hooks(job, "startContainer", "created")


def _program(job: Job) -> None:
    seccomp = job.linux.get("seccomp") or {}
    launch = Launch(job.process, seccomp, job.program, job.proc, job.terminal, job.preserve)
    if initproc.wanted(job.spec):
        initproc.run(launch.run, job.init)
    else:
        launch.run()


STEPS: tuple[tuple[str, Callable[[Job], None]], ...] = (
    ("cgroup", _enter_cgroup),
    ("identity", _identity),
    ("cgroup namespace", _cgroup_namespace),
    ("session", _session),
    ("network", _network),
    ("hostname", _hostname),
    ("root", _root),
    ("mounts", _mounts),
    ("devices", _devices),
    ("terminal", _terminal),
    ("hooks", _runtime_hooks),
    ("createContainer hook", _container_hooks),
    ("procfs", _own_proc),
    ("init", _init_program),
    ("sysctl", _sysctl),
    ("masked paths", _masked_paths),
    ("read-only paths", _readonly_paths),
    ("cwd", _working_directory),
    ("pivot", _pivot),
    ("personality", _personality),
    ("exec", _look_for_program),
    ("start", _wait),
    ("startContainer hook", _start_hooks),
    ("program", _program),
)


def run(job: Job) -> None:
    """Returns only by StepError."""
    run_steps(STEPS, job)
