"""What the command line remembers of a container between one call and the next, and what follows from it.

One directory per container below the root: `state.json`, `config.json` as it was at create, and `start`, the
socket through which it is started. What the status is is asked of the kernel every time, never stored.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import sys
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from composer.runtime import cgroup, hooks
from composer.runtime.errors import StepError

Status = Literal["creating", "created", "running", "paused", "stopped"]
_ID = re.compile(r"[A-Za-z0-9_+.-]{1,1023}")
_REMEDY = "delete --force removes it"
# Which verbs make sense when, https://github.com/opencontainers/runtime-spec/blob/v1.2.0/runtime.md#lifecycle
_ALLOWED: dict[str, tuple[Status, ...]] = {
    "start": ("created",),
    "kill": ("created", "running", "paused"),
    "delete": ("stopped",),
    "exec": ("created", "running"),
    "pause": ("created", "running"),
    "resume": ("paused",),
    "update": ("created", "running", "paused"),
}


class Container(NamedTuple):
    """A container on disk. `born` is the start time of its process, which tells a reused pid."""

    directory: str
    id: str
    bundle: str
    pid: int
    born: int
    created: str
    spec: dict[str, Any]

    @property
    def start_socket(self) -> str:
        return f"{self.directory}/start"

    @property
    def group(self) -> cgroup.Group:
        return cgroup.open(self.spec["linux"]["cgroupsPath"])

    def open(self) -> int:
        """A pidfd of the container's process. Raises ProcessLookupError when it is no more."""
        pidfd = os.pidfd_open(self.pid) if self.pid else -1
        if pidfd < 0 or born(self.pid) != self.born:
            raise ProcessLookupError
        return pidfd

    def status(self) -> Status:
        if not self.pid:
            return "creating"
        try:
            os.close(self.open())
        except ProcessLookupError:
            return "stopped"
        if self.group.frozen:
            return "paused"
        return "created" if os.path.exists(self.start_socket) else "running"

    def require(self, verb: str) -> Status:
        """The status, if the verb is allowed in it. Raises StepError."""
        status = self.status()
        if status not in _ALLOWED[verb]:
            raise StepError(verb, text=f"container {self.id} is {status}")
        return status

    def describe(self, status: Status | None = None) -> dict[str, Any]:
        """The OCI state."""
        status = status or self.status()
        pid = 0 if status in ("stopped", "creating") else self.pid
        return hooks.state(self.spec, self.id, status, pid, self.bundle)

    def save(self) -> None:
        record = self._asdict()
        del record["directory"], record["spec"]
        write(f"{self.directory}/config.json", json.dumps(self.spec))
        write(f"{self.directory}/state.json", json.dumps(record))

    def kill(self) -> None:
        """End everything in its group, and its process wherever it is, and wait for that."""
        self.group.kill()
        with contextlib.suppress(ProcessLookupError):
            pidfd = self.open()
            try:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                _await(pidfd)
            finally:
                os.close(pidfd)

    def forget(self) -> None:
        """Remove the group and the record."""
        group = self.group
        if group.exists():
            group.remove()
        _remove(self.directory)

    def abandon(self) -> None:
        """Remove what a failed create made: its process is gone, so others in the group are somebody's."""
        with contextlib.suppress(StepError):
            self.group.remove()
        _remove(self.directory)


class Store:
    """All containers below one root directory."""

    def __init__(self, root: str) -> None:
        self.root = root

    def place(self, name: str) -> str:
        """Where a container of this id is kept. Raises StepError for an id that cannot be one."""
        if not _ID.fullmatch(name) or name in (".", ".."):
            raise StepError("id", text=f"{name[:80]!r} cannot be an id: letters, digits and _+.- only")
        return f"{self.root}/{name}"

    def reserve(self, name: str) -> str:
        """Claim an id for a new container. Raises StepError when it is taken."""
        directory = self.place(name)
        os.makedirs(self.root, mode=0o711, exist_ok=True)
        try:
            os.mkdir(directory, 0o700)
        except FileExistsError:
            raise StepError("id", text=f"container with id {name} exists already") from None
        return directory

    def load(self, name: str) -> Container:
        """Raises StepError when there is none, or none that can be read."""
        directory = self.place(name)
        try:
            record = json.loads(read(f"{directory}/state.json"))
            spec = json.loads(read(f"{directory}/config.json"))
            return Container(directory=directory, spec=spec, **record)
        except FileNotFoundError:
            if os.path.exists(directory):
                raise StepError("id", text=f"container {name} was never finished: {_REMEDY}") from None
            raise StepError("id", text=f"container {name} does not exist") from None
        except (ValueError, TypeError):
            raise StepError("id", text=f"the record of container {name} is damaged: {_REMEDY}") from None

    def discard(self, name: str) -> None:
        """Remove what is left of a container that cannot be loaded; there may be nothing."""
        directory = self.place(name)
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):  # then no group was made
            group = cgroup.open(json.loads(read(f"{directory}/config.json"))["linux"]["cgroupsPath"])
            group.kill()
            group.remove()
        with contextlib.suppress(FileNotFoundError):
            _remove(directory)

    def __iter__(self) -> Iterator[Container]:
        for name in sorted(os.listdir(self.root)) if os.path.isdir(self.root) else ():
            with contextlib.suppress(StepError):
                yield self.load(name)


def born(pid: int) -> int:
    """When the process started, in ticks since boot: field 22 of proc_pid_stat(5). 0 when it is no more."""
    try:
        fields = read(f"/proc/{pid}/stat").decode().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def document(path: str) -> Any:
    """What a JSON file says; - is the standard input. Raises StepError."""
    try:
        return json.loads(sys.stdin.buffer.read() if path == "-" else read(path))
    except OSError as error:
        raise StepError.of("specification", error) from None
    except (ValueError, RecursionError) as error:
        raise StepError("specification", path=path, text=f"is not JSON: {error}") from None


def write(path: str, text: str) -> None:
    """Whole or not at all."""
    temporary = f"{path}.new"
    with open(temporary, "w") as file:
        file.write(text)
    os.rename(temporary, path)


def _remove(directory: str) -> None:
    for name in os.listdir(directory):
        os.unlink(f"{directory}/{name}")
    os.rmdir(directory)


def _await(pidfd: int) -> None:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if not poll.poll(10_000):
        raise StepError("delete", text="the container's process does not end within 10 s of SIGKILL")
