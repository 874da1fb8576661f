"""Kernel parameters of the container's own namespaces, and of no others."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping

from composer.runtime import linux
from composer.runtime.errors import StepError
from composer.runtime.inroot import closing

# Whose a parameter is: the first row that fits, the rest belong to the machine. sysctl(2), namespaces(7).
_OWNERS = (
    ("net/", "network"),
    ("fs/mqueue/", "ipc"),
    ("kernel/msg", "ipc"),
    ("kernel/sem", "ipc"),
    ("kernel/shm", "ipc"),
    ("kernel/hostname", "uts"),
    ("kernel/domainname", "uts"),
    ("user/", "user"),
)


def file_of(name: str) -> str:
    """`net.ipv4.ip_forward` or `net/ipv4/conf/eth0.1/mtu`: the first separator says, sysctl(8)."""
    dot, slash = name.find("."), name.find("/")
    if dot >= 0 and (slash < 0 or dot < slash):
        return name.translate({ord("."): "/", ord("/"): "."})
    return name


def apply(proc: int, values: Mapping[str, str], has: Callable[[str], bool]) -> None:
    """Write them through a procfs that nobody else can reach or cover. Raises StepError, OSError."""
    inside = linux.RESOLVE_BENEATH | linux.RESOLVE_NO_SYMLINKS | linux.RESOLVE_NO_XDEV
    for name, value in values.items():
        path = file_of(name)
        if not {"", ".", ".."}.isdisjoint(path.split("/")):
            raise StepError("sysctl", errno.EINVAL, name, "is no name of a parameter")
        owner = next((kind for prefix, kind in _OWNERS if path.startswith(prefix)), None)
        if owner is None:
            raise StepError("sysctl", errno.EPERM, name, "belongs to the machine, not to a namespace")
        if not has(owner):
            raise StepError("sysctl", errno.EPERM, name, f"needs a {owner} namespace of its own")
        try:
            with closing(linux.openat2(proc, f"sys/{path}", os.O_WRONLY, inside)) as descriptor:
                os.write(descriptor, value.encode())
        except OSError as error:
            raise OSError(error.errno, os.strerror(error.errno or 0), name) from error
