"""containerd with this runtime in place of runc, as Docker Engine and Kubernetes have it."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from composer.runtime import cgroup
from tests.runtime.box import BUSYBOX, drain

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(not shutil.which("ctr"), reason="containerd is not installed"),
]

ROOT = Path(__file__).parents[2]
CONFIG = """\
version = 2
root = "{directory}/root"
state = "{directory}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{directory}/socket"
"""


class Containerd:
    def __init__(self, directory: Path) -> None:
        self.runtime = directory / "composer-runtime"
        self.group = f"/composer-test-{directory.name}"
        path = f"import sys; sys.path.insert(0, {str(ROOT)!r})"
        self.runtime.write_text(
            f"#!{sys.executable}\n{path}\nfrom composer.runtime.cli import main\nmain()\n"
        )
        self.runtime.chmod(0o755)
        self.rootfs = directory / "rootfs"
        (self.rootfs / "bin").mkdir(parents=True)
        shutil.copy(BUSYBOX, self.rootfs / "bin" / "busybox")
        for name in ("sh", "sleep", "tty", "true"):
            (self.rootfs / "bin" / name).symlink_to("busybox")
        self.ctr = ["ctr", "--address", f"{directory}/socket"]
        config = directory / "config.toml"
        config.write_text(CONFIG.format(directory=directory))
        self.process = subprocess.Popen(["containerd", "-c", config], stderr=subprocess.PIPE, text=True)
        assert self.process.stderr
        for line in self.process.stderr:
            if "containerd successfully booted" in line:
                break

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*self.ctr, *words], capture_output=True, text=True, timeout=60, check=False)

    def words(self, *words: str) -> list[str]:
        """`ctr run`, up to the container's command; the last word is its name."""
        *flags, name = words
        flags += ["--cgroup", f"{self.group}/{name}", "--runc-binary", str(self.runtime), "--rootfs"]
        return ["run", *flags, str(self.rootfs), name]

    def end(self) -> None:
        for name in self("container", "ls", "-q").stdout.split():
            self("task", "rm", "--force", name)
            self("container", "rm", name)
        self.process.terminate()
        self.process.communicate(timeout=30)
        cgroup.open(self.group).remove()


@pytest.fixture(scope="module")
def containerd() -> Iterator[Containerd]:
    with tempfile.TemporaryDirectory(prefix="cd", dir="/tmp") as directory:  # sockets want short paths
        containerd = Containerd(Path(directory))
        try:
            yield containerd
        finally:
            containerd.end()


def test_output_exit_code_and_what_is_missing(containerd: Containerd) -> None:
    done = containerd(*containerd.words("--rm", "one"), "/bin/sh", "-c", "echo hello $HOME; exit 5")
    assert (done.stdout, done.returncode) == ("hello /\n", 5), done.stderr
    done = containerd(*containerd.words("--rm", "two"), "absent")
    assert "absent: executable file not found in $PATH" in done.stderr


def test_exec_pause_and_kill(containerd: Containerd) -> None:
    assert containerd(*containerd.words("-d", "three"), "/bin/sleep", "100").returncode == 0
    done = containerd("task", "exec", "--exec-id", "e", "three", "/bin/sh", "-c", "echo inside; exit 3")
    assert (done.stdout, done.returncode) == ("inside\n", 3), done.stderr
    for verb, status in (("pause", "PAUSED"), ("resume", "RUNNING")):
        assert containerd("task", verb, "three").returncode == 0
        assert status in containerd("task", "ls").stdout


def test_a_terminal(containerd: Containerd) -> None:
    master, terminal = pty.openpty()
    words = [*containerd.ctr, *containerd.words("--rm", "--tty", "four"), "/bin/tty"]
    with subprocess.Popen(words, stdin=terminal, stdout=terminal, stderr=terminal) as done:
        os.close(terminal)
        assert "/dev/" in drain(master)
    os.close(master)
    assert done.returncode == 0
