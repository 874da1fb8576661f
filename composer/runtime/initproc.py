"""Pid 1 for programs that cannot be one: it reaps orphans and passes signals on.

It works in any image, also an empty one, and brings nothing into it: a program of some hundred bytes, written
in assembly (init-*.s), is executed from sealed memory. So the container can neither change it nor put another
one in its place, it holds a few pages of memory, and nothing of the runtime stays behind in the container.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import struct
from collections.abc import Callable, Mapping
from typing import Any

from composer.runtime import linux
from composer.runtime.errors import StepError

ANNOTATION = "composer.init"
_CAP_KILL = 1 << 5
_MFD_EXEC = 0x10  # the kernel's name; Python has none
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_ADDRESS = 0x400000
# Machine: number of it in ELF, code assembled from init-<machine>.s. A test assembles it again.
_CODE = {
    "x86_64": (
        62,
        "488b74241031db0fb60684c0740c6bdb0a8d5c03d048ffc6ebedb880000000488d3d6400000031f631d2"
        "41ba080000000f0583f811741185c078df89c689dfb83e0000000f05ebd2b83d00000083cfff488d7424"
        "f0ba010000004531d20f0585c07eb739d875e18b7c24f089f883e07f750bc1ef0881e7ff000000eb068d"
        "b880000000b83c0000000f0507facb3ffeffffff",
    ),
    "aarch64": (
        183,
        "e20b40f913008052440180524314403883000034730e041b73c20051fcffff1700040010010080d20200"
        "80d2030180d2281180d2010000d41f440071e000005400ffff37e103002ae003132a281080d2010000d4"
        "f3ffff1700008092e14300d1220080d2030080d2882080d2010000d41f0000716dfdff541f00136be1fe"
        "ff54e0035fb80118007261000054003c08530200001420000211a80b80d2010000d407facb3ffeffffff",
    ),
}


def wanted(spec: Mapping[str, Any]) -> bool:
    return (spec.get("annotations") or {}).get(ANNOTATION) == "true"


def program(machine: str) -> bytes:
    """An ELF executable of one read-only segment, elf(5). Raises StepError for a machine without code."""
    if machine not in _CODE:
        raise StepError("init", errno.EOPNOTSUPP, machine, "there is no init for this machine")
    number, text = _CODE[machine]
    code = bytes.fromhex(text)
    header, segment, segments = 64, 56, 2
    start = header + segment * segments
    size = start + len(code)
    return b"".join(
        (
            b"\x7fELF\x02\x01\x01" + bytes(9),
            struct.pack("<HHIQQQIHHHHHH", 2, number, 1, _ADDRESS + start, header, 0, 0, 64, 56, 2, 64, 0, 0),
            struct.pack(
                "<IIQQQQQQ", 1, 5, 0, _ADDRESS, _ADDRESS, size, size, 4096
            ),  # PT_LOAD, read and execute
            struct.pack("<IIQQQQQQ", 0x6474E551, 6, 0, 0, 0, 0, 0, 16),  # PT_GNU_STACK, not executable
            code,
        )
    )


def prepare() -> int:
    """The program in sealed memory, open for reading. Needs /proc, so it comes before the root is changed."""
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        memory = os.memfd_create("init", flags | _MFD_EXEC)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        memory = os.memfd_create("init", flags)  # Linux before 6.3 knows no other kind
    os.write(memory, program(os.uname().machine))
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, _SEALS)
    # What is open for writing cannot be executed.
    reader = os.open(f"/proc/self/fd/{memory}", os.O_RDONLY | os.O_CLOEXEC)
    os.close(memory)
    return reader


def run(launch: Callable[[], None], init: int) -> None:
    """Fork; the child, in a session of its own, does `launch`. The parent becomes `init`, or dies of it."""
    blocked = [number for number in signal.valid_signals() if number not in (signal.SIGKILL, signal.SIGSTOP)]
    signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    pid, _ = linux.clone(0)
    if pid == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.setsid()
        launch()
        return
    # It may signal whatever user the child becomes, and that is all. An exec would give root its rights back.
    linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    linux.capset(_CAP_KILL, _CAP_KILL, 0)
    os.chdir("/")
    linux.close_range(0, init - 1)
    linux.close_range(init + 1)
    os.execve(init, ["init", str(pid)], {})
