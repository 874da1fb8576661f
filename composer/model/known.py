"""Names that the kernel gives things, and bounds, for whoever reads files and whoever makes containers."""

from __future__ import annotations

import re
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
LARGEST_PORT = 65_535
LEAST_MEMORY = 6 << 20
"""Bytes; Docker takes no less."""
CAPABILITIES = frozenset(
    ("AUDIT_CONTROL", "AUDIT_READ", "AUDIT_WRITE", "BLOCK_SUSPEND", "BPF", "CHECKPOINT_RESTORE", "CHOWN")
) | frozenset(
    (
        *("DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "IPC_LOCK", "IPC_OWNER", "KILL", "LEASE"),
        *("LINUX_IMMUTABLE", "MAC_ADMIN", "MAC_OVERRIDE", "MKNOD", "NET_ADMIN", "NET_BIND_SERVICE"),
        *("NET_BROADCAST", "NET_RAW", "PERFMON", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYSLOG"),
        *("SYS_ADMIN", "SYS_BOOT", "SYS_CHROOT", "SYS_MODULE", "SYS_NICE", "SYS_PACCT", "SYS_PTRACE"),
        *("SYS_RAWIO", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "WAKE_ALARM"),
    )
)
"""capabilities(7), without `CAP_`."""

_EXPOSED = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(?:tcp|udp|sctp))?", re.ASCII)


def is_exposed(text: str) -> bool:
    """`80`, `80/udp`, `8000-8010/tcp`: what `expose` takes."""
    found = _EXPOSED.fullmatch(text)
    return found is not None and 0 < int(found[1]) <= int(found[2] or found[1]) <= LARGEST_PORT


def is_capability(text: str) -> bool:
    """With or without `CAP_`, in any case; ALL is everything."""
    name = text.upper().removeprefix("CAP_")
    return name == "ALL" or name in CAPABILITIES


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
