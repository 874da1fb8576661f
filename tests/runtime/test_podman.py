"""podman with this runtime in place of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(not shutil.which("podman"), reason="podman is not installed"),
]

ROOT = Path(__file__).parents[2]
LIMITS = ("--network=none", "--ulimit=nofile=512:512", "--ulimit=nproc=512:512")


class Podman:
    def __init__(self, directory: Path) -> None:
        runtime = directory / "composer-runtime"
        runtime.write_text(f"#!{sys.executable}\nfrom composer.runtime.cli import main\nmain()\n")
        runtime.chmod(0o755)
        self.bundle = directory / "rootfs"
        (self.bundle / "bin").mkdir(parents=True)
        shutil.copy("/bin/busybox", self.bundle / "bin" / "busybox")
        for name in ("sh", "sleep", "id", "tty"):
            (self.bundle / "bin" / name).symlink_to("busybox")
        self.command = [
            *("podman", "--root", str(directory / "p"), "--runroot", str(directory / "r")),
            *("--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--events-backend=none"),
            *("--runtime", str(runtime)),
        ]

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        command = [*self.command, *words]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=False, env=environment
        )

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        flags = [words[0]] if words[0] in ("-d", "-t") else []
        return self("run", *flags, *LIMITS, "--rootfs", str(self.bundle), *words[len(flags) :])


@pytest.fixture
def podman() -> Iterator[Podman]:
    # podman wants short paths
    with tempfile.TemporaryDirectory(prefix="pm", dir="/tmp") as directory:
        podman = Podman(Path(directory))
        try:
            yield podman
        finally:
            assert podman("rm", "-f", "-a", "-t", "0").returncode == 0


def test_output_and_exit_code(podman: Podman) -> None:
    done = podman.run("sh", "-c", "echo hello; exit 5")
    assert (done.stdout, done.returncode) == ("hello\n", 5), done.stderr


def test_a_missing_program_is_127(podman: Podman) -> None:
    assert podman.run("/absent").returncode == 127


def test_exec_terminal_and_pause(podman: Podman) -> None:
    done = podman.run("-d", "sleep", "100")
    assert done.returncode == 0, done.stderr
    name = done.stdout.strip()
    done = podman("exec", name, "sh", "-c", "echo inside; exit 3")
    assert (done.stdout, done.returncode) == ("inside\n", 3), done.stderr
    assert podman("exec", "-u", "7:8", name, "id", "-u").stdout == "7\n"
    assert podman("exec", "-t", name, "tty").stdout.startswith("/dev/pts/")
    for verb in ("pause", "unpause", "kill"):
        assert podman(verb, name).returncode == 0
