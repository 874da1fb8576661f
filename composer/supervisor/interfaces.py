"""Settings of single interfaces under /proc/sys/net. They are those of the namespace of whoever writes, so a
thread goes there and never comes back.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from composer.errors import ConflictError
from composer.network import sysctl
from composer.network.endpoints import Endpoint
from composer.runtime import linux


def set_sysctls(made: Sequence[Endpoint]) -> None:
    """What the endpoints of one container ask for by `driver_opts`. Raises ConflictError."""
    wanted = {name: value for endpoint in made for name, value in endpoint.sysctls}
    if wanted:
        with ThreadPoolExecutor(1) as thread:
            thread.submit(_write, made[0].pid, wanted).result()


def _write(pid: int, wanted: Mapping[str, str]) -> None:
    space = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        linux.setns(space, linux.CLONE_NEWNET)
    finally:
        os.close(space)
    for name, value in wanted.items():
        try:
            there = sysctl.write(name, value)
        except OSError as error:
            raise ConflictError(f"cannot set net/{name} to {value}: {error.strerror}") from error
        if not there:
            raise ConflictError(f"this kernel has no setting net/{name}")
