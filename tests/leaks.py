"""What a test may not leave behind: processes, mounts, namespaces, links, nftables, cgroups, files.

Several tests run side by side, so a test answers only for what carries its own marks: the names of its
stacks and its run directory. The shared fixture in tests/conftest.py asks the kernel after each kernel test.
"""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Iterator
from pathlib import Path


def processes(mark: str) -> Iterator[str]:
    """Processes whose command line or environment mentions `mark`, except this one and its ancestors."""
    ours = set(ancestors())
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in ours:
            continue
        try:
            text = (entry / "cmdline").read_bytes() + b"\0" + (entry / "environ").read_bytes()
        except OSError:
            continue
        if mark.encode() in text and not ends(int(entry.name)):
            yield f"process {entry.name}: {text[:120].replace(bytes(1), b' ').decode(errors='replace')}"


def ends(pid: int, seconds: float = 5.0) -> bool:
    """Whether a process that may be on its way out is gone soon."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)


def ancestors() -> Iterator[int]:
    pid = os.getpid()
    while pid > 0:
        yield pid
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def mounts(mark: str) -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if mark in line:
            yield f"mount {line.split()[4]}"


def cgroups(mark: str) -> Iterator[str]:
    for path, folders, _ in os.walk("/sys/fs/cgroup"):
        for folder in folders:
            if mark in folder:
                yield f"cgroup {path}/{folder}"


def tables(mark: str) -> Iterator[str]:
    for line in subprocess.run(
        ["nft", "list", "tables"], capture_output=True, text=True, check=True
    ).stdout.splitlines():
        if mark in line:
            yield f"nftables {line}"


def left_behind(marks: list[str]) -> list[str]:
    """Everything that carries one of the marks and should be gone."""
    finders = (processes, mounts, cgroups, tables)
    return [finding for mark in marks for finder in finders for finding in finder(mark)]
