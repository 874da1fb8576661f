"""Reading and writing the kernel's cgroup files, with errors that name the OCI field, the file and the
reason.
"""

from __future__ import annotations

import errno
import os

from composer.runtime.errors import StepError

DELEGATION = (
    "as a normal user this needs a delegated cgroup: log in through systemd on cgroup v2, "
    "or start with `systemd-run --user --scope -p Delegate=yes`"
)

_HINTS = {
    errno.EACCES: DELEGATION,
    errno.EPERM: DELEGATION,
    errno.EROFS: "the cgroup file system is mounted read-only here",
    errno.ENOENT: "this kernel was built without it, or the controller is switched off",
    errno.EINVAL: "the kernel refuses the value: out of range, or at odds with the parent group's",
    errno.EBUSY: "more is in use at the moment than the new limit allows, or the group holds processes",
    errno.ERANGE: "the value is out of range",
    errno.ENODEV: "there is no such device",
    errno.EOPNOTSUPP: "this kernel no longer supports it",
    errno.ENOSPC: "the kernel's limit on the number of groups is reached",
}


class CgroupError(StepError):
    """A group cannot be made, limited, read or removed.

    `field` is the OCI name of what was asked for (`memory.limit`; empty when it is about the group itself),
    `hint` what to do; the rest is StepError's.
    """

    def __init__(self, text: str, *, field: str = "", path: str = "", code: int = 0, hint: str = "") -> None:
        super().__init__("cgroup", code, path, f"linux.resources.{field}: {text}" if field else text)
        self.field = field
        self.hint = hint or _HINTS.get(code, "")


def failed(doing: str, error: OSError, path: str, field: str = "") -> CgroupError:
    code = error.errno or 0
    return CgroupError(f"{doing}: {os.strerror(code)}", field=field, path=path, code=code)


def read(path: str) -> str:
    """The whole of a file. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = [os.read(descriptor, 65536)]
        # A sequence file hands out a page at a time; only an empty read is the end.
        while parts[-1]:
            parts.append(os.read(descriptor, 65536))
    finally:
        os.close(descriptor)
    return b"".join(parts).decode()


def write(path: str, text: str) -> None:
    """One write(2), which is what the kernel takes as one command. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def keyed(text: str) -> dict[str, int]:
    """A flat keyed file (`memory.stat`, `cgroup.events`, …): one `name number` per line."""
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}
