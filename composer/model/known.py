"""Names that the kernel gives things, for whoever reads files and whoever makes containers."""

from __future__ import annotations

import signal
from collections.abc import Mapping

ULIMITS = frozenset(
    ("as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss")
) | frozenset(("rtprio", "rttime", "sigpending", "stack"))
SYSCTLS: Mapping[str, tuple[str, ...]] = {
    "ipc": ("kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."),
    "network": ("net.",),
    "uts": ("kernel.domainname", "kernel.hostname"),
}
"""Which sysctls belong to which namespace; all others are the host's, and refused."""
LARGEST_SIGNAL = 64


def signal_number(text: str) -> int:
    """`SIGTERM`, `term`, `15`, `RTMIN+3`. ValueError for what is no signal."""
    if text.isdecimal() and 1 <= int(text) <= LARGEST_SIGNAL:
        return int(text)
    name, plus, offset = text.upper().removeprefix("SIG").partition("+")
    known = signal.Signals.__members__.get(f"SIG{name}")
    if known and (not plus or offset.isdecimal()):
        number = known + int(offset or 0)
        if number <= LARGEST_SIGNAL:
            return number
    raise ValueError(f"{text} is no signal")
