"""Identities: from the runtime's root to the container's user. Numbers only; names were resolved before.

No name service, and no program or library of the container's (CVE-2019-14271). Of its files only /etc/passwd
is read, with a bound, from inside, and only for a home that nobody has said.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from composer.runtime import linux
from composer.runtime.inroot import closing

_LONGEST_PASSWD = 1 << 20
_NO_ID = 2**32 - 1  # setresuid(2) takes it for "as it is", which would be root


def become_root() -> None:
    """Be the root of the user namespace that was just entered; until then one is nobody there."""
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


@contextmanager
def acting_as(uid: int, gid: int) -> Iterator[None]:
    """Files made by this thread belong to somebody else; no capability is lost meanwhile.

    In a container's files the host's root has no id, and so could make none.
    """
    _, permitted, inheritable = linux.capget()
    old = linux.set_filesystem_ids(uid, gid)
    try:
        linux.capset(permitted, permitted, inheritable)
        yield
    finally:
        linux.set_filesystem_ids(*old)
        linux.capset(permitted, permitted, inheritable)


def own_streams(streams: Iterable[int], user: Mapping[str, Any], host_id: Callable[[str, int], int]) -> None:
    """Give those of the streams that are pipes to the container's user, so that it can open /dev/stdout.

    Pipes of no name only: anything else may be somebody's. `host_id` says the host's id of one inside.
    """
    ids = [host_id(kind, user.get(kind, 0)) for kind in ("uid", "gid")]
    for stream in streams:
        if linux.filesystem_magic(stream) == linux.PIPEFS_MAGIC:
            try:
                os.fchown(stream, *ids)
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.EINVAL):
                    raise  # else it comes from outside of the user namespace that the runtime is in


def switch(user: Mapping[str, Any]) -> None:
    """Take on uid, gid, groups and umask. The permitted capabilities stay, and are made effective again.

    What is to remain of them is the next step's matter. An empty list of groups is set too: the groups of
    whoever started the runtime mean nothing here.
    """
    gid, uid = user.get("gid", 0), user.get("uid", 0)
    for number in (uid, gid):
        if not 0 <= number < _NO_ID:
            raise OSError(errno.EINVAL, "is no id of a user or group", str(number))
    os.umask(user.get("umask", 0o022))
    linux.prctl(linux.PR_SET_KEEPCAPS, 1)
    os.setgroups(user.get("additionalGids") or [])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    linux.prctl(linux.PR_SET_KEEPCAPS, 0)
    _, permitted, inheritable = linux.capget()
    linux.capset(permitted, permitted, inheritable)


def home(uid: int) -> str:
    """Where the /etc/passwd of this root has the user's home, passwd(5); "/" if it tells none.

    Descriptors of the host are still open here, to which no link of the container may lead.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
    try:
        with closing(
            linux.openat2(linux.AT_FDCWD, "/etc/passwd", flags, linux.RESOLVE_NO_MAGICLINKS)
        ) as file:
            text = os.read(file, _LONGEST_PASSWD) if stat.S_ISREG(os.fstat(file).st_mode) else b""
    except OSError:
        return "/"
    rows = (line.split(":") for line in os.fsdecode(text).splitlines())
    return next((row[5] for row in rows if len(row) > 5 and row[2] == str(uid) and row[5]), "/")
