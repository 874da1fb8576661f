"""A keeper of one's own, whose supervisor only says who it is, and containers made of the host's programs."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import select
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from composer.disk import is_locked
from composer.keeper.client import Keeper, KeeperGoneError
from composer.keeper.launch import address, launch
from composer.keeper.wire import Message
from composer.runtime import cgroup
from tests.leaks import ends, left_behind

SUPERVISOR = """
import os, socket
api = socket.socket(fileno=3)
while True:
    client, _ = api.accept()
    client.sendall(b"%d" % os.getpid())
    client.close()
"""
DEADLINE = 30.0


def await_end(group: cgroup.Group) -> None:
    """A container that was given up while it was made ends by itself, a moment after its keeper."""
    for directory in group.directories:
        for folder, _, _ in os.walk(directory):
            try:
                pids = (Path(folder) / "cgroup.procs").read_text().split()
            except OSError:
                continue
            for pid in map(int, pids):
                assert ends(pid), f"process {pid} does not end"


class Corner:
    """One keeper in its own directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.run = root / "run"
        self.diagnostics = root / "diagnostics.log"
        self.clients: list[Keeper] = []

    def launch(self, *command: str) -> bool:
        words = command or (sys.executable, "-I", "-S", "-c", SUPERVISOR, str(self.root))
        return launch(self.run, list(words), self.diagnostics)

    def client(self) -> Keeper:
        self.clients.append(Keeper(self.run))
        return self.clients[-1]

    def supervisor(self) -> int:
        """The pid of the supervisor that answers at the API's socket."""
        directory = os.open(self.run, os.O_PATH)
        with socket.socket(socket.AF_UNIX) as api:
            api.settimeout(DEADLINE)
            api.connect(address(directory, "api.sock"))
            os.close(directory)
            return int(api.recv(64))

    def bundle(self, name: str, *args: str, terminal: bool = False, **process: Any) -> Path:
        """A bundle whose root shows the host's programs."""
        place = self.root / "bundles" / name
        rootfs = place / "rootfs"
        for folder in ("usr", "proc", "dev", "tmp", "shared"):
            (rootfs / folder).mkdir(parents=True)
        for link in ("bin", "sbin", "lib", "lib64"):
            (rootfs / link).symlink_to(f"usr/{link}")
        shared = self.root / "shared"
        shared.mkdir(exist_ok=True)
        binds = [("/usr", "/usr", "ro"), (str(shared), "/shared", "rw")]
        mounts = [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance"]},
        ]
        mounts += [
            {"destination": inside, "type": "bind", "source": outside, "options": ["rbind", mode]}
            for outside, inside, mode in binds
        ]
        kinds = ("mount", "pid", "ipc", "uts", "network")
        spec = {
            "ociVersion": "1.0.2",
            "root": {"path": "rootfs"},
            "process": self.process(*args, terminal=terminal, **process),
            "mounts": mounts,
            "linux": {"namespaces": [{"type": kind} for kind in kinds], "cgroupsPath": self.group(name)},
        }
        (place / "config.json").write_text(json.dumps(spec))
        return place

    def group(self, name: str) -> str:
        return f"/{self.root.name}/{name}"

    @staticmethod
    def process(*args: str, terminal: bool = False, **more: Any) -> dict[str, Any]:
        environment = ["PATH=/usr/bin:/bin"]
        user = {"uid": 0, "gid": 0}
        return {
            "args": list(args),
            "cwd": "/",
            "env": environment,
            "user": user,
            "terminal": terminal,
            **more,
        }

    def log(self, name: str) -> Path:
        return self.root / f"{name}.log"

    def create(self, keeper: Keeper, name: str, *args: str, log: Message | None = None, **more: Any) -> int:
        """Create a container; its pid. Its descriptors are closed again."""
        process = more.pop("process", {})
        bundle = self.bundle(name, *args, terminal=more.pop("tty", False), **process)
        options = {"path": str(self.log(name)), **(log or {})}
        answer = keeper.call("create", id=name, bundle=str(bundle), log=options, **more)
        for fd in answer["fds"].values():
            os.close(fd)
        return int(answer["pid"])

    def start(self, keeper: Keeper, name: str, *args: str, **more: Any) -> int:
        pid = self.create(keeper, name, *args, **more)
        keeper.call("start", id=name)
        return pid

    def printed(self, name: str, stream: str = "stdout") -> bytes:
        """What a container printed, put together again."""
        lines = self.log(name).read_bytes().splitlines(keepends=True)
        mine = (line for line in lines if line[31:37] == stream.encode())
        return b"".join(line[40:] if line[38:39] == b"F" else line[40:-1] for line in mine)

    def end(self) -> list[str]:
        try:
            with Keeper(self.run) as keeper:
                keeper.call("quit", kill=True)
        except KeeperGoneError:
            pass
        for client in self.clients:
            client.close()
        gone(self.run / "life")
        group = cgroup.open(f"/{self.root.name}")
        await_end(group)
        if group.exists():
            group.remove()
        found = left_behind([self.root.name])
        said = self.diagnostics.read_text() if self.diagnostics.exists() else ""
        shutil.rmtree(self.root)
        return [*found, *(line for line in said.splitlines() if "Error" in line or "Traceback" in line)]


def gone(life: Path) -> None:
    """Wait until nobody holds the lock."""
    if life.exists():
        with open(life) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
        assert not is_locked(life)


def wait_exit(keeper: Keeper, name: str) -> Message:
    """The exit event of `name`; others before it are passed over."""
    while True:
        event = keeper.event()
        if event["event"] == "exit" and event["id"] == name:
            return event


def readable(fd: int) -> bool:
    return bool(select.select([fd], [], [], DEADLINE)[0])


@pytest.fixture
def corner() -> Iterator[Corner]:
    corner = Corner(Path("/tmp") / f"k{secrets.token_hex(4)}")
    corner.root.mkdir(mode=0o755)
    try:
        yield corner
    finally:
        found = corner.end()
    assert not found, "\n".join(found)


@pytest.fixture
def keeper(corner: Corner) -> Keeper:
    """A connection to a fresh keeper, with its events."""
    assert corner.launch()
    client = corner.client()
    client.call("subscribe")
    return client
