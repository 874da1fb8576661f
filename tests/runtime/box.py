"""A small container for the tests of the runtime: busybox on an overlay, its output, its end."""

from __future__ import annotations

import copy
import os
import select
import shutil
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from composer.runtime import cgroup
from composer.runtime.create import Overlay, Pending, Stdio, create
from composer.runtime.enter import enter

BUSYBOX = Path("/bin/busybox")
DEADLINE = 20.0
NAMESPACES = ("pid", "network", "ipc", "uts", "mount", "cgroup")
MOUNTS: tuple[dict[str, Any], ...] = (
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {"destination": "/dev", "type": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=64m"]},
    {
        "destination": "/dev/pts",
        "type": "devpts",
        "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    },
    {"destination": "/dev/shm", "type": "tmpfs", "options": ["nosuid", "noexec", "nodev", "mode=1777"]},
    {"destination": "/dev/mqueue", "type": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
    {"destination": "/sys", "type": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
)
CAPABILITIES = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_SETGID",
    "CAP_SETUID",
]
PATH = "PATH=/bin"
APPLETS = (
    *("sh", "cat", "sleep", "true", "mount", "ls", "id", "tty", "stty", "uname", "stat", "mkdir", "touch"),
    *("mknod", "chown", "chmod", "ps", "kill"),
)
NOWHERE = Stdio(-1, -1, -1)


class Result(NamedTuple):
    output: str
    status: int  # as a shell has it: 128 and more for a signal


class Box:
    """Layers and a specification; every container made here is gone at the end, with its group."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.layer = directory / "layer"
        (self.layer / "bin").mkdir(parents=True)
        shutil.copy(BUSYBOX, self.layer / "bin" / "busybox")
        for name in APPLETS:
            (self.layer / "bin" / name).symlink_to("busybox")
        self.name = f"composer-test-{uuid.uuid4().hex[:12]}"
        self.pending: list[Pending] = []
        self.groups: list[str] = []

    def spec(self, *args: str, **linux: Any) -> dict[str, Any]:
        """A usual container of this root that runs `args`; keywords go into `linux`."""
        return {
            "ociVersion": "1.2.0",
            "process": {
                "args": list(args),
                "env": [PATH],
                "cwd": "/",
                "user": {"uid": 0, "gid": 0},
                "capabilities": dict.fromkeys(("bounding", "permitted", "effective"), CAPABILITIES),
            },
            "root": {"path": "root"},
            "mounts": copy.deepcopy(list(MOUNTS)),
            "linux": {"namespaces": [{"type": kind} for kind in NAMESPACES], **linux},
        }

    def overlay(self) -> Overlay:
        place = self.directory / uuid.uuid4().hex[:8]
        for name in ("upper", "work"):
            (place / name).mkdir(parents=True)
        return Overlay((str(self.layer),), str(place / "upper"), str(place / "work"))

    def create(self, spec: dict[str, Any], stdio: Stdio = NOWHERE, **keywords: Any) -> Pending:
        keywords.setdefault("overlay", self.overlay())
        pending = create(spec, str(self.directory), stdio, **keywords)
        self.pending.append(pending)
        path = spec["linux"].get("cgroupsPath")
        if path:
            self.groups.append(path)
        wait(pending, "created")
        return pending

    def start(self, spec: dict[str, Any], stdio: Stdio = NOWHERE, **keywords: Any) -> Pending:
        pending = self.create(spec, stdio, **keywords)
        pending.start()
        wait(pending, "running")
        return pending

    def run(self, spec: dict[str, Any], **keywords: Any) -> Result:
        """From create to exit; what it wrote to both streams."""
        with output() as (reader, writer):
            pending = self.start(spec, Stdio(-1, writer, writer), **keywords)
            os.close(writer)
            return Result(drain(reader), status(pending))

    def shell(self, script: str, **linux: Any) -> str:
        """The output of a script in a usual container; it must succeed."""
        result = self.run(self.spec("sh", "-ec", script, **linux))
        assert result.status == 0, result.output
        return result.output

    def enter(self, container: Pending, spec: dict[str, Any], stdio: Stdio, **process: Any) -> Pending:
        merged = {"env": [PATH], "cwd": "/", "capabilities": spec["process"]["capabilities"], **process}
        pending = enter(container.pidfd, container.pid, merged, stdio, spec=spec)
        self.pending.append(pending)
        wait(pending, "running")
        return pending

    def exec(self, container: Pending, spec: dict[str, Any], *args: str, **process: Any) -> Result:
        with output() as (reader, writer):
            pending = self.enter(container, spec, Stdio(-1, writer, writer), args=list(args), **process)
            os.close(writer)
            return Result(drain(reader), status(pending))

    def end(self) -> None:
        # The last first: a pid 1 does not end before everything in its namespace has been reaped.
        for pending in reversed(self.pending):
            pending.close()
            if pending.pidfd >= 0 and pending.state != "failed":
                finish(pending.pidfd)
            for descriptor in (pending.pidfd, pending.console, *pending.sockets.values()):
                if descriptor >= 0:
                    os.close(descriptor)
        for path in self.groups:
            group = cgroup.open(path)
            if group.exists():
                group.remove()


def finish(pidfd: int) -> None:
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    except (ProcessLookupError, ChildProcessError):
        pass  # a test has waited for it


def wait(pending: Pending, state: str) -> None:
    """Until it is there; a failed step is raised."""
    deadline = time.monotonic() + DEADLINE
    while pending.state != state:
        if pending.error:
            raise pending.error
        ready, _, _ = select.select([pending.channel], [], [], deadline - time.monotonic())
        assert ready, f"still {pending.state}"
        pending.advance()


def status(pending: Pending) -> int:
    ready, _, _ = select.select([pending.pidfd], [], [], DEADLINE)
    assert ready, "does not end"
    ended = os.waitid(os.P_PIDFD, pending.pidfd, os.WEXITED)
    assert ended is not None
    return ended.si_status if ended.si_code == os.CLD_EXITED else 128 + ended.si_status


@contextmanager
def output() -> Iterator[tuple[int, int]]:
    """A pipe; the reader is closed at the end, the writer is the user's."""
    reader, writer = os.pipe()
    try:
        yield reader, writer
    finally:
        os.close(reader)


def drain(reader: int) -> str:
    """All that comes until every writer has gone. A terminal that was hung up ends the same way."""
    data = b""
    while select.select([reader], [], [], DEADLINE)[0]:
        try:
            part = os.read(reader, 65536)
        except OSError:
            break
        if not part:
            break
        data += part
    return data.decode(errors="replace")
