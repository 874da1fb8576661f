"""What each kind of fault checks, does and undoes. One class a kind; `KINDS` is the table of all.

Kinds that only change rules or answers have nothing to do here: those follow from what there is
(`Injection.settle`).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import anyio

from composer.errors import ComposerError, ConflictError, NotFoundError, UsageError
from composer.network.dns.server import TROUBLES
from composer.plan.options import Options
from composer.runtime.namespaces import root_of
from composer.runtime.users import acting_as
from composer.supervisor.loop import Operation
from composer.supervisor.world import Live
from composer.syscalls import open_in_root

if TYPE_CHECKING:
    from composer.supervisor.core import Core

FILE = ".composer-fills-this-disk-{}"
"""By the number of the fault."""
BOUNDED = frozenset(("tmpfs", "ext2", "ext3", "ext4", "xfs", "vfat"))
"""File systems whose files are on the device that stat(2) names: so the host's own can be told apart."""
LARGEST = 1 << 30
"""Bytes that filling a disk takes at most without being told how many: it may be memory."""


class Fault(TypedDict):
    """`since` and `until` (0: no end) in ns since the epoch. `tied`: it ends with the connection that asked
    for it. `state` is what undoing needs to know.
    """

    number: int
    kind: str
    targets: list[str]
    settings: dict[str, Any]
    since: int
    until: int
    tied: bool
    state: dict[str, Any]


class Kind:
    """`targets`: how many services, at least and at most (0: any). `networks`: also names of networks."""

    targets = (1, 0)
    networks = False
    settings: Mapping[str, Any] = {}
    """Names, with their defaults."""

    def __init__(self, core: Core, fault: Fault) -> None:
        self.core, self.fault = core, fault

    def check(self) -> None:
        """Before anything is done. Raises UsageError, NotFoundError, ConflictError."""
        least, most = self.targets
        targets, settings = self.fault["targets"], self.fault["settings"]
        if len(targets) < least or (most and len(targets) > most):
            count = f"{least}" if least == most else f"at least {least}"
            raise UsageError(f"{self.fault['kind']} needs {count} services")
        for target in targets:
            if not (self.networks and target in self.core.stack.networks):
                self.core.service(target)
        if unknown := settings.keys() - self.settings.keys():
            raise UsageError(f"{self.fault['kind']} has no setting {sorted(unknown)[0]!r}")
        for name, default in self.settings.items():
            if settings.setdefault(name, default) is None:
                raise UsageError(f"{self.fault['kind']} needs {name}")

    async def do(self) -> None:
        pass

    async def undo(self) -> None:
        """Done more than once, or after half of `do`, it does no harm."""

    async def again(self) -> None:
        """A supervisor took over, and the fault goes on."""

    def note(self, **state: Any) -> None:
        """What undoing needs to know is on disk before anything is done."""
        self.fault["state"] |= state
        self.core.faulty().write()

    def lives(self) -> Iterator[Live]:
        for target in self.fault["targets"]:
            yield from self.core.world.of_service(target)

    def running(self) -> list[Live]:
        """Raises ConflictError when nothing of it runs."""
        found = [live for live in self.lives() if live.plan.state == "running"]
        if not found:
            raise ConflictError(f"no container of {', '.join(self.fault['targets'])} is running")
        return found


class Network(Kind):
    """Rules, of networks that are ours."""

    def check(self) -> None:
        super().check()
        networks = self.core.stack.networks
        for target in self.fault["targets"]:
            if target not in networks and not any(x.networks for x in self.core.world.of_service(target)):
                raise ConflictError(f"no container of {target} is on a network of its own")


class Partition(Network):
    targets = (2, 0)


class Drop(Network):
    networks = True


class Slow(Network):
    networks = True
    settings: Mapping[str, Any] = {"delay": 0.0, "jitter": 0.0, "loss": 0.0}
    most: Mapping[str, float] = {"delay": 60, "jitter": 60, "loss": 1}

    def check(self) -> None:
        super().check()
        settings = self.fault["settings"]
        for name in self.settings:
            settings[name] = float(settings[name])
        if not all(0 <= settings[name] <= most for name, most in self.most.items()):
            raise UsageError("delay: up to 60 s, more or less by up to 60 s, and a loss of 0 to 100 %")


class Names(Kind):
    settings: Mapping[str, Any] = {"answer": "silent"}

    def check(self) -> None:
        super().check()
        if self.fault["settings"]["answer"] not in TROUBLES:
            raise UsageError("freeze-dns: there is no such answer", hint=", ".join(TROUBLES))


class Killed(Kind):
    """Down until it is over."""

    async def do(self) -> None:
        lives = self.running()
        self.note(services=sorted({live.plan.slot.service for live in lives}))
        for live in lives:
            live.change(stopped=True)
            await self.core.inside.signal(live, signal.SIGKILL)
        while any(live.plan.alive for live in lives):
            await self.core.pulse()

    async def undo(self) -> None:
        services = tuple(self.fault["state"].get("services") or ())
        if services:
            await fulfil(self.core, Options("start", time.time_ns(), services, no_deps=True))


class Paused(Kind):
    async def do(self) -> None:
        lives = self.running()
        self.note(containers=[live.name for live in lives])
        for live in lives:
            self.core.inside.pause(live, thaw=False)

    async def undo(self) -> None:
        for live in self.lives():
            if live.name in (self.fault["state"].get("containers") or ()) and live.plan.state == "paused":
                self.core.inside.pause(live, thaw=True)


class Clock(Kind):
    """Time namespaces: of the clocks that count from the start of the machine, not of the time of day."""

    settings: Mapping[str, Any] = {"seconds": None}

    def check(self) -> None:
        super().check()
        self.fault["settings"]["seconds"] = int(self.fault["settings"]["seconds"])
        if not self.fault["settings"]["seconds"]:
            raise UsageError("clock: nothing would be different", hint="by a second, or more")
        if not Path("/proc/self/ns/time").exists():
            raise ConflictError("this kernel has no time namespaces")
        with open("/proc/uptime") as file:
            up = int(float(file.read().split()[0]))
        if not -up < self.fault["settings"]["seconds"] < 1 << 32:
            raise UsageError(f"clock: it can go back by {up} s at most, the time since this machine started")

    async def do(self) -> None:
        self.core.notice("the time of day stays as it is: Linux has it once for all containers")
        await self.restart()

    async def undo(self) -> None:
        await self.restart()

    async def restart(self) -> None:
        """A process stays in its time namespace, so those that run begin again."""
        services = tuple({live.plan.slot.service for live in self.lives() if live.plan.alive})
        if services:
            await fulfil(self.core, Options("restart", time.time_ns(), services, no_deps=True))


class Filled(Kind):
    """A file that takes what is free, on a file system that is the container's alone: never the host's."""

    targets = (1, 1)
    settings: Mapping[str, Any] = {"path": None, "size": 0}

    @property
    def file(self) -> str:
        return FILE.format(self.fault["number"])

    async def do(self) -> None:
        for live in self.running():
            await anyio.to_thread.run_sync(self.fill, live)

    def fill(self, live: Live) -> None:
        """Raises ConflictError, NotFoundError."""
        path, size = self.fault["settings"]["path"], int(self.fault["settings"]["size"])
        folder = self.open(live.pid)
        try:
            check_bounded(self.core, live, path, folder)
            status = os.fstatvfs(folder)
            free = status.f_bavail * status.f_frsize
            if not size and free > LARGEST:
                raise ConflictError(
                    f"{path} in {live.name} has {free} bytes free, which may be memory",
                    hint="say with --size how many to take",
                )
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            first = root_of(live.pid)
            with acting_as(first, first):
                file = os.open(self.file, flags, 0o600, dir_fd=folder)
            try:
                allocate(file, min(size, free) if size else free)
            finally:
                os.close(file)
        except OSError as error:
            raise ConflictError(f"{path} in {live.name} cannot be filled: {error.strerror}") from error
        finally:
            os.close(folder)

    def open(self, pid: int) -> int:
        """The directory as the container sees it. Raises NotFoundError."""
        path = self.fault["settings"]["path"]
        try:
            root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                return open_in_root(root, os.fsencode(path), os.O_RDONLY | os.O_DIRECTORY)
            finally:
                os.close(root)
        except OSError as error:
            raise NotFoundError(f"{path} in {self.fault['targets'][0]}: {error.strerror}") from error

    async def undo(self) -> None:
        for live in self.lives():
            if not live.pid:
                continue
            try:
                folder = self.open(live.pid)
            except NotFoundError:
                continue
            try:
                os.unlink(self.file, dir_fd=folder)
            except OSError:
                pass  # it was not made
            finally:
                os.close(folder)


KINDS: Mapping[str, type[Kind]] = {
    "partition": Partition,
    "drop": Drop,
    "delay": Slow,
    "freeze-dns": Names,
    "kill": Killed,
    "pause": Paused,
    "clock": Clock,
    "fill-disk": Filled,
}


async def fulfil(core: Core, options: Options) -> None:
    """Raises ComposerError with what could not be done."""
    operation = Operation(options, lambda *_: None, lambda _: None)
    core.loop.submit(operation)
    await operation.finished.wait()
    if operation.failures:
        raise ComposerError("; ".join(f"{x.instance}: {x.reason}" for x in operation.failures))


def check_bounded(core: Core, live: Live, path: str, folder: int) -> None:
    """Raises ConflictError unless the open directory is on a file system that the host does not use."""
    kind = "unknown"
    with open(f"/proc/self/fdinfo/{folder}") as file:
        number = next(line.split()[1] for line in file if line.startswith("mnt_id"))
    for fields in mountinfo(live.pid):
        if fields[0] == number:
            kind = fields[fields.index("-") + 1]
    ours = str(core.paths.volumes)
    host = {fields[2] for fields in mountinfo(os.getpid()) if not fields[4].startswith(f"{ours}/")}
    device = os.fstat(folder).st_dev
    if kind not in BOUNDED or f"{os.major(device)}:{os.minor(device)}" in host:
        raise ConflictError(
            f"{path} in {live.name} is on a disk of this host, which is not to be filled",
            hint="fill a bounded place: a tmpfs with a size, /dev/shm, or a volume with `type: tmpfs`",
        )


def mountinfo(pid: int) -> Iterator[list[str]]:
    """The fields of each mount that a process sees, proc_pid_mountinfo(5)."""
    for line in Path(f"/proc/{pid}/mountinfo").read_text(errors="surrogateescape").splitlines():
        yield line.split()


def allocate(file: int, size: int) -> None:
    """As much of `size` bytes as there is room for: less and less at a time, until nothing fits."""
    at, step = 0, max(size, 1)
    while at < size and step >= 4096:
        try:
            os.posix_fallocate(file, at, min(step, size - at))
            at += min(step, size - at)
        except OSError as error:
            if error.errno != 28:  # ENOSPC
                raise
            step //= 2
