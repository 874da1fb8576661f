"""Run another process in a container that runs already: `exec` of the command line, health checks.

The container may be hostile. The joining process is not dumpable before it enters anything, so nothing inside
can trace it or reach its descriptors; it is named by a pidfd, so no other process can take its place; the
control group is entered first, so that it is limited and found from its first instruction.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from typing import Any

from composer.runtime import cgroup, linux, mounts, namespaces, process, stage, tty, users
from composer.runtime.inroot import Root, closing
from composer.runtime.launch import Launch, compile_filter, labelled
from composer.runtime.pending import Line, Pending, Stdio, forked, run_steps


class Job:
    def __init__(
        self,
        line: Line,
        pidfd: int,
        pid: int,
        spec_process: Mapping[str, Any],
        spec: Mapping[str, Any],
        program: bytes | None,
        preserve: int,
    ) -> None:
        self.line = line
        self.pid = pid
        self.pidfd = pidfd
        self.process = spec_process
        self.spec = spec
        self.linux: Mapping[str, Any] = spec.get("linux") or {}
        self.program = program
        self.preserve = preserve
        self.namespaces = namespaces.Namespaces.of(self.linux.get("namespaces") or ())
        self.unified = -1
        self.proc = -1
        self.terminal = -1


def enter(
    container_pidfd: int,
    container_pid: int,
    process: Mapping[str, Any],
    stdio: Stdio,
    *,
    spec: Mapping[str, Any],
    preserve: int = 0,
) -> Pending:
    """Start `process` (an OCI process) in the container made of `spec`; it starts at once.

    The filter is the container's own, but a process that has the key `privileged`, which is ours and not the
    specification's, goes without. Raises StepError for a filter that cannot be compiled.
    """
    program = None if process.get("privileged") else compile_filter(spec)

    def body(line: Line) -> None:
        job = Job(line, container_pidfd, container_pid, process, spec, program, preserve)
        run_steps(HOST_STEPS, job)
        stage.spawn(line, 0, job.unified, job.process, lambda: run_steps(STEPS, job))
        os._exit(0)

    return forked(body, stdio, started=True, preserve=preserve, keep=(container_pidfd,))


def _hide(_: Job) -> None:
    linux.prctl(linux.PR_SET_DUMPABLE, 0)


def _enter_cgroup(job: Job) -> None:
    path = job.linux.get("cgroupsPath")
    if not path:
        return
    if cgroup.layout().kind == "v2":
        # A container that manages groups of its own has moved below the one it was started in, which may
        # then hold no processes, cgroups(7).
        with open(f"/proc/{job.pid}/cgroup") as groups:
            path = groups.read().strip().partition("::")[2]
    group = cgroup.open(path)
    group.enter(cloned=True)
    job.unified = stage.unified_of(group)


def _prepare_process(job: Job) -> None:
    with closing(os.open("/proc", linux.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as processes:
        process.prepare(job.process, processes)


def _own_streams(job: Job) -> None:
    users.own_streams((0, 1, 2), job.process.get("user") or {}, partial(namespaces.host_id, job.linux))


def _join(job: Job) -> None:
    """All at once, setns(2): the container's process decides nothing in between."""
    kinds = {*job.namespaces.new, *job.namespaces.joined} - {"cgroup"}
    if "mount" in kinds:
        linux.setns(job.pidfd, sum(namespaces.FLAGS[kind] for kind in kinds))
        return
    with closing(os.open(f"/proc/{job.pid}/root", linux.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as root:
        if kinds:
            linux.setns(job.pidfd, sum(namespaces.FLAGS[kind] for kind in kinds))
        os.fchdir(root)
        os.chroot(".")


def _join_cgroup(job: Job) -> None:
    # Only now: where delegation has borders (nsdelegate), nobody clones into a group from inside of one.
    if job.namespaces.has("cgroup"):
        linux.setns(job.pidfd, linux.CLONE_NEWCGROUP)
    os.close(job.pidfd)


def _session(_: Job) -> None:
    os.setsid()
    linux.join_session_keyring()


def _identity(job: Job) -> None:
    if job.namespaces.has("user"):
        users.become_root()


def _terminal(job: Job) -> None:
    if job.process.get("terminal"):
        root = Root(os.open("/", linux.O_PATH | os.O_CLOEXEC))
        user = job.process.get("user") or {}
        master, job.terminal = tty.open_pair(root, job.process.get("consoleSize"), user)
        job.line.send("console", [master])
        os.close(master)


def _own_proc(job: Job) -> None:
    if labelled(job.process):
        job.proc = mounts.new_filesystem("proc", "proc", (), "proc")


def _personality(job: Job) -> None:
    process.set_personality(job.linux.get("personality"))


def _launch(job: Job) -> None:
    seccomp_part = job.linux.get("seccomp") or {}
    Launch(job.process, seccomp_part, job.program, job.proc, job.terminal, job.preserve).run()


HOST_STEPS = (
    ("hiding", _hide),
    ("cgroup", _enter_cgroup),
    ("process", _prepare_process),
    ("streams", _own_streams),
    ("namespaces", _join),
)
STEPS = (
    ("namespaces", _join_cgroup),
    ("identity", _identity),
    ("session", _session),
    ("terminal", _terminal),
    ("procfs", _own_proc),
    ("personality", _personality),
    ("program", _launch),
)
