"""A container that another OCI runtime makes (runc, crun, …), told of by the same channel as our own.

    caller ──fork──▶ helper ──spawn──▶ RUNTIME create, RUNTIME start
                     the root's layers, in a mount namespace of its own

The other runtime's process is gone when its container is there, which so becomes a child of the nearest
subreaper: that has to be the caller. What it keeps on disk is kept in the bundle, and goes with it.
"""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Mapping
from typing import Any

from composer.runtime import linux, namespaces
from composer.runtime.errors import StepError
from composer.runtime.inroot import closing
from composer.runtime.overlay import Overlay
from composer.runtime.pending import Line, Pending, Stdio, forked, run_steps
from composer.runtime.rootfs import open_root

_PATIENCE = 10.0  # seconds for a terminal that should be there already
_STATE, _PID, _LOG, _CONSOLE = "oci", "oci.pid", "oci.log", "oci.sock"


class Job:
    def __init__(
        self,
        line: Line,
        program: str,
        spec: Mapping[str, Any],
        bundle: str,
        name: str,
        overlay: Overlay | None,
        network_sockets: bool,
    ) -> None:
        self.line = line
        self.program = program
        self.spec = spec
        self.bundle = bundle
        self.name = name
        self.overlay = overlay
        self.network_sockets = network_sockets
        self.console: socket.socket | None = None
        self.pid = 0

    def run(self, *words: str) -> None:
        """One call of the other runtime. Raises StepError with what it says."""
        log = ("--log", f"{self.bundle}/{_LOG}", "--log-format", "json")
        command = [self.program, "--root", f"{self.bundle}/{_STATE}", *log, *words]
        _, status = os.waitpid(os.posix_spawn(self.program, command, os.environ), 0)
        if status:
            raise _understood(self._complaint(), self.spec["process"]["args"][0], self.program)

    def _complaint(self) -> str:
        """The last error that it logged."""
        try:
            with open(f"{self.bundle}/{_LOG}") as log:
                rows = [json.loads(line) for line in log]
            return str([row["msg"] for row in rows if row["level"] == "error"][-1])
        except (OSError, ValueError, KeyError, IndexError, TypeError):
            return ""


# Other runtimes only have words for it: a failed exec of the container's own program → errno. crun's need not
# name the program.
_WORDS = (
    ("not found", errno.ENOENT),
    ("no such file", errno.ENOENT),
    ("permission denied", errno.EACCES),
    ("not a directory", errno.ENOTDIR),
    ("is a directory", errno.EACCES),
    ("exec format error", errno.ENOEXEC),
)


def _understood(complaint: str, name: str, runtime: str) -> StepError:
    """The error of a call: about the container's program `name`, or else about the runtime. Pure."""
    lower = complaint.lower()
    found = [number for words, number in _WORDS if words in lower]
    if found and ("open executable" in lower or ("exec" in lower and name in complaint)):
        return StepError("exec", found[0], name, complaint)
    return StepError("runtime", 0, runtime, complaint)


def create(
    program: str,
    spec: Mapping[str, Any],
    bundle: str,
    stdio: Stdio,
    *,
    name: str,
    network_sockets: bool = False,
    overlay: Overlay | None = None,
) -> Pending:
    """As `create.create`. `program` is looked for on PATH; `spec` is what the bundle's config.json says."""

    def body(line: Line) -> None:
        run_steps(STEPS, Job(line, program, spec, bundle, name, overlay, network_sockets))
        os._exit(0)

    return forked(body, stdio)


def _find(job: Job) -> None:
    import shutil

    found = shutil.which(job.program)
    if not found:
        raise StepError("runtime", errno.ENOENT, job.program, "there is no such program on PATH")
    job.program = found


def _root(job: Job) -> None:
    if job.overlay is None:
        return
    mount = open_root("", "", job.overlay, None)
    linux.unshare(linux.CLONE_NEWNS)
    linux.set_propagation("/", linux.MS_SLAVE | linux.MS_REC)
    path = os.path.join(job.bundle, job.spec["root"]["path"])
    with closing(mount), closing(os.open(path, linux.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as target:
        linux.move_mount(mount, target, path)


def _clear(job: Job) -> None:
    """Of what an earlier container of this bundle left."""
    import shutil

    os.chdir(job.bundle)
    shutil.rmtree(_STATE, ignore_errors=True)
    for name in (_PID, _LOG, _CONSOLE):
        try:
            os.unlink(name)
        except FileNotFoundError:
            pass


def _create(job: Job) -> None:
    words = ["create", "--bundle", job.bundle, "--pid-file", f"{job.bundle}/{_PID}"]
    if job.spec["process"].get("terminal"):
        job.console = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        job.console.bind(_CONSOLE)  # relative, as a path to a socket has 107 bytes only
        job.console.listen(1)
        job.console.settimeout(_PATIENCE)
        words += ["--console-socket", _CONSOLE]
    job.run(*words, job.name)


def _process(job: Job) -> None:
    with open(_PID) as file:
        job.pid = int(file.read())
    with closing(os.pidfd_open(job.pid)) as pidfd:
        job.line.send("process", [pidfd], pid=job.pid)


def _terminal(job: Job) -> None:
    if job.console is None:
        return
    with job.console, job.console.accept()[0] as sender:
        _, (master,), _, _ = socket.recv_fds(sender, 4096, 1)
    with closing(master):
        job.line.send("console", [master])


def _network(job: Job) -> None:
    if not job.network_sockets:
        return
    with closing(os.open(f"/proc/{job.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)) as space:
        linux.setns(space, linux.CLONE_NEWNET)
    namespaces.send_sockets(job.line)


def _wait(job: Job) -> None:
    """In a process beside this one, whom the caller ends when it hears that the container is there."""
    if linux.clone(linux.CLONE_PARENT)[0]:
        os._exit(0)
    job.line.send("created")
    job.line.wait("start")


def _start(job: Job) -> None:
    job.run("start", job.name)


STEPS = (
    ("runtime", _find),
    ("root", _root),
    ("runtime", _clear),
    ("runtime", _create),
    ("process", _process),
    ("terminal", _terminal),
    ("network", _network),
    ("created", _wait),
    ("start", _start),
)
