"""Copies that share their content, where the file system can do that, and keep their holes everywhere."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from composer.syscalls import copy_content, unmount

pytestmark = pytest.mark.kernel


@pytest.fixture(params=["btrfs", "xfs"])
def reflinks(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file system with reflinks."""
    kind = request.param
    if shutil.which(f"mkfs.{kind}") is None or shutil.which("filefrag") is None:
        pytest.skip(f"mkfs.{kind} or filefrag is not installed")
    disk, point = tmp_path / "disk", tmp_path / "point"
    point.mkdir()
    with disk.open("wb") as file:
        file.truncate(400 << 20)
    subprocess.run([f"mkfs.{kind}", "-q", disk], check=True, capture_output=True)
    subprocess.run(["mount", "-o", "loop", disk, point], check=True)
    yield point
    unmount(point)


def copied(source: Path, target: Path) -> None:
    with source.open("rb") as reader, target.open("xb") as writer:
        copy_content(reader.fileno(), writer.fileno())


def test_content_is_shared(reflinks: Path) -> None:
    (reflinks / "a").write_bytes(os.urandom(1 << 20))
    copied(reflinks / "a", reflinks / "b")
    assert (reflinks / "a").read_bytes() == (reflinks / "b").read_bytes()
    os.sync()
    told = subprocess.run(["filefrag", "-v", reflinks / "b"], capture_output=True, text=True, check=True)
    assert "shared" in told.stdout


def test_elsewhere_it_is_copied_and_holes_stay(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file:
        file.write(b"x" * 5000)
        file.truncate(64 << 20)
        file.seek(32 << 20)
        file.write(b"y")
    copied(tmp_path / "a", tmp_path / "b")
    subprocess.run(["cmp", tmp_path / "a", tmp_path / "b"], check=True)
    assert (tmp_path / "b").stat().st_blocks * 512 < 1 << 20


def test_a_file_that_says_nothing_of_its_size(tmp_path: Path) -> None:
    copied(Path("/proc/version"), tmp_path / "version")
    assert (tmp_path / "version").read_bytes() == Path("/proc/version").read_bytes()
