"""One step's container, from its configuration to its exit code, and what its mounts stand on. K."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from composer.errors import ImageError
from composer.runtime import cgroup
from composer.runtime.create import Stdio, create
from composer.runtime.errors import StepError
from composer.syscalls import open_in_root

LAST_LINES = 20
_LONGEST_LINE = 1 << 16
Output = Callable[[str], None]


def carry_out(bundle: Mapping[str, Any], place: Path, output: Output) -> tuple[int, list[str]]:
    """Run the container to its end: its exit code and the last lines it printed. Raises ImageError."""
    group = cgroup.open(bundle["linux"]["cgroupsPath"])
    (place / "cgroup").write_text(group.path)
    read, write = os.pipe()
    try:
        pending = create(bundle, str(place), Stdio(-1, write, write))
    finally:
        os.close(write)
    try:
        pending.until("created")
        pending.start()
        pending.until("running")
        last = relay(read, output)
        ended = os.waitid(os.P_PIDFD, pending.pidfd, os.WEXITED)
    except StepError as error:
        if error.step == "exec":
            return 127 if error.errno == 2 else 126, [str(error)]
        raise ImageError(f"the step's container could not be started: {error}") from error
    finally:
        os.close(read)
        pending.close()
        if group.exists():
            group.kill()
            group.remove()
    assert ended is not None
    return (ended.si_status if ended.si_code == os.CLD_EXITED else 128 + ended.si_status), last


def relay(read: int, output: Output) -> list[str]:
    """Each line as it comes, until the last writer is gone; the last of them."""
    last: list[str] = []
    rest = b""
    while data := os.read(read, 1 << 16):
        *lines, rest = (rest + data).split(b"\n")
        if len(rest) > _LONGEST_LINE:
            lines, rest = [*lines, rest], b""
        for line in lines:
            _tell(line, last, output)
    if rest:
        _tell(rest, last, output)
    return last


def _tell(line: bytes, last: list[str], output: Output) -> None:
    """Of a line that redraws itself, what it showed in the end."""
    text = line.rstrip(b"\r").rpartition(b"\r")[2].decode(errors="replace")
    output(text)
    last.append(text)
    del last[:-LAST_LINES]


def failed(code: int, last: list[str]) -> str:
    """What became of a command, and what it said last."""
    known = {126: " (not executable)", 127: " (command not found)", 137: " (perhaps for want of memory)"}
    how = f"was killed by signal {code - 128}" if code > 128 else f"ended with exit code {code}"
    lines = "".join(f"\n    {line}" for line in last)
    return f"this step {how}{known.get(code, '')}" + (f"; the last it said:{lines}" if lines else "")


# What mounts stand on


def missing(root: Path, targets: list[str]) -> list[str]:
    """Of the places of mounts, and the directories above them, those that are not there; deepest first."""
    folder = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    found = set()
    try:
        for target in targets:
            path = target.rstrip("/")
            while path:
                try:
                    os.close(open_in_root(folder, os.fsencode(path), os.O_PATH))
                    break
                except OSError:
                    found.add(path)
                path = path.rpartition("/")[0]
    finally:
        os.close(folder)
    return sorted(found, key=len, reverse=True)


def clear(root: Path, paths: list[str]) -> None:
    """Take away what is still as empty as it was made."""
    folder = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for path in paths:
            above, _, leaf = path.rpartition("/")
            try:
                parent = open_in_root(
                    folder, os.fsencode(above.lstrip("/") or "."), os.O_PATH | os.O_DIRECTORY
                )
            except OSError:
                continue
            try:
                status = os.stat(leaf, dir_fd=parent, follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    os.rmdir(leaf, dir_fd=parent)
                elif stat.S_ISREG(status.st_mode) and not status.st_size:
                    os.unlink(leaf, dir_fd=parent)
            except OSError:
                continue  # the command filled it, or took it away itself
            finally:
                os.close(parent)
    finally:
        os.close(folder)
