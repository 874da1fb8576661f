"""A Docker Engine of one's own for a comparison: in this process's network namespace, gone afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

IMAGE = "localhost/benchbox:1"
PATIENCE = 60.0
"""Seconds for the engine to come up, or to go."""


class Engine:
    def __init__(self, sock: Path) -> None:
        self.sock = sock

    def run(self, *words: str, stdin: int | None = None) -> str:
        """Output of a docker command. Raises CalledProcessError."""
        command = ["docker", "-H", f"unix://{self.sock}", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True, stdin=stdin).stdout.strip()

    def container(self, *flags: str) -> int:
        """A container that does nothing; the pid of its first process."""
        identity = self.run("run", "-d", *flags, IMAGE, "/bin/sleep", "100000")
        return int(self.run("inspect", "-f", "{{.State.Pid}}", identity))

    def import_image(self) -> None:
        with tempfile.TemporaryFile() as file:
            with tarfile.open(fileobj=file, mode="w") as tar:
                tar.add("/bin/busybox", "bin/sleep")
            file.seek(0)
            self.run("import", "-", IMAGE, stdin=file.fileno())

    def end(self) -> None:
        """Its containers go, so that it leaves no process behind."""
        if running := self.run("ps", "-q").split():
            self.run("rm", "-f", *running)


@contextmanager
def engine() -> Iterator[Engine | None]:
    """None where no engine can be run; with what is needed it takes some seconds to come up."""
    if not all(map(shutil.which, ("docker", "dockerd", "containerd"))) or not os.path.exists("/bin/busybox"):
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="engine") as name:
        folder = Path(name)
        command = ["dockerd", "--host", f"unix://{folder}/sock", "--pidfile", f"{folder}/pid"]
        command += ["--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec"]
        with open(folder / "log", "wb") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        found = Engine(folder / "sock")
        try:
            yield found if _ready(found, process) else None
        finally:
            if process.poll() is None:
                if found.sock.exists():
                    found.end()
                process.terminate()
                process.wait(PATIENCE)
            unmount(folder)


def _ready(found: Engine, process: subprocess.Popen[bytes]) -> bool:
    """Whether it answers, and has its image."""
    end = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < end:
        try:
            found.run("version")
            found.import_image()
        except subprocess.CalledProcessError:
            time.sleep(0.2)
        else:
            return True
    return False


def unmount(folder: Path) -> None:
    """Engines leave mounts of network namespaces, and sometimes of their root."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    for path in sorted((line.split()[4] for line in lines), key=len, reverse=True):
        if path.startswith(f"{folder}/"):
            subprocess.run(["umount", "-l", path], check=False)
