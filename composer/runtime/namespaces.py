"""Namespaces: which to make, which to join, how identities map, and what a new network namespace gets.

https://github.com/opencontainers/runtime-spec/blob/v1.2.0/config-linux.md#namespaces
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import struct
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from composer.runtime import linux
from composer.runtime.errors import StepError
from composer.runtime.inroot import closing
from composer.runtime.pending import Line

# OCI name → flag. Joining goes in this order: the user namespace last, since it takes the host's rights away.
FLAGS = {
    "cgroup": linux.CLONE_NEWCGROUP,
    "ipc": linux.CLONE_NEWIPC,
    "network": linux.CLONE_NEWNET,
    "pid": linux.CLONE_NEWPID,
    "time": linux.CLONE_NEWTIME,
    "uts": linux.CLONE_NEWUTS,
    "mount": linux.CLONE_NEWNS,
    "user": linux.CLONE_NEWUSER,
}
_CLOCKS = ("monotonic", "boottime")
RESOLVER = "127.0.0.11"


class Namespaces(NamedTuple):
    """`new`: names of those to make; `joined`: name → path of those that exist."""

    new: frozenset[str]
    joined: Mapping[str, str]

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]]) -> Namespaces:
        paths: dict[str, str] = {}
        for row in rows:
            kind = row["type"]
            if kind not in FLAGS:
                raise StepError("namespaces", errno.EINVAL, kind, "no such namespace")
            if kind in paths:
                raise StepError("namespaces", errno.EINVAL, kind, "is listed twice")
            paths[kind] = row.get("path") or ""
        return cls(
            frozenset(kind for kind, path in paths.items() if not path),
            {kind: paths[kind] for kind in FLAGS if paths.get(kind)},
        )

    @property
    def clone_flags(self) -> int:
        """For the container's process. Time is entered before, cgroup after it was made."""
        return sum(FLAGS[kind] for kind in self.new - {"time", "cgroup"})

    def has(self, kind: str) -> bool:
        return kind in self.new or kind in self.joined


def open_joined(joined: Mapping[str, str]) -> list[tuple[str, int]]:
    """Descriptors of namespaces given by path, in joining order. Raises OSError."""
    return [(kind, os.open(path, os.O_RDONLY | os.O_CLOEXEC)) for kind, path in joined.items()]


def join(opened: Iterable[tuple[str, int]], joined: Mapping[str, str]) -> None:
    for kind, descriptor in opened:
        linux.setns(descriptor, FLAGS[kind], joined[kind])
        os.close(descriptor)


def enter_new_time(offsets: Mapping[str, Any]) -> None:
    """Make the time namespace that this process's children will be born in, time_namespaces(7)."""
    linux.unshare(linux.CLONE_NEWTIME)
    rows = []
    for clock, offset in offsets.items():
        if clock not in _CLOCKS:
            raise StepError("time namespace", errno.EINVAL, clock, "no such clock")
        rows.append(f"{clock} {offset.get('secs', 0)} {offset.get('nanosecs', 0)}\n")
    if rows:
        linux.write_file("/proc/self/timens_offsets", "".join(rows))


def new_userns(uid_mappings: Iterable[Mapping[str, int]], gid_mappings: Iterable[Mapping[str, int]]) -> int:
    """A user namespace with these mappings, as a descriptor; nobody lives in it.

    A child is needed to bring it into being: the maps are written from outside, user_namespaces(7).
    Raises OSError.
    """
    ready, wake = os.pipe()
    pid, pidfd = linux.clone(linux.CLONE_NEWUSER)
    if pid == 0:
        os.close(wake)
        os.read(ready, 1)
        os._exit(0)
    os.close(ready)
    try:
        with closing(os.open("/proc", linux.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as processes:
            write_maps(processes, pid, uid_mappings, gid_mappings)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(wake)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        os.close(pidfd)


_samples: dict[str, int] = {}


def sample(uid_mappings: Iterable[Mapping[str, int]], gid_mappings: Iterable[Mapping[str, int]]) -> int:
    """As `new_userns`, but made once and then remembered by this process: for id-mapped mounts."""
    key = f"{uid_mappings}{gid_mappings}"
    if key not in _samples:
        _samples[key] = new_userns(uid_mappings, gid_mappings)
    return _samples[key]


def write_maps(
    processes: int,
    pid: int,
    uid_mappings: Iterable[Mapping[str, int]],
    gid_mappings: Iterable[Mapping[str, int]],
) -> None:
    """Of the user namespace that a process was born into; `processes` is an open /proc. Raises OSError."""
    for name, mappings in (("uid_map", uid_mappings), ("gid_map", gid_mappings)):
        linux.write_file(f"{pid}/{name}", id_map(mappings), processes)


def id_map(mappings: Iterable[Mapping[str, int]]) -> str:
    """The text of uid_map and gid_map."""
    return "".join(f"{m['containerID']} {m['hostID']} {m['size']}\n" for m in mappings)


def host_id(linux_part: Mapping[str, Any], kind: str, inside: int) -> int:
    """What the host calls an id of the container; `kind` is uid or gid. Raises StepError."""
    rows = linux_part.get(f"{kind}Mappings")
    for row in rows or ():
        if 0 <= inside - row["containerID"] < row["size"]:
            return int(row["hostID"] + inside - row["containerID"])
    if rows:
        raise StepError(
            "namespaces", errno.EINVAL, f"linux.{kind}Mappings", f"has no row for the id {inside}"
        )
    return inside


def root_of(pid: int) -> int:
    """What the host calls the root of a process's user namespace: 0 in the host's own. Raises OSError."""
    with open(f"/proc/{pid}/uid_map") as rows:
        for row in rows:
            inside, outside, _ = map(int, row.split())
            if inside == 0:
                return outside
    raise OSError(errno.ESRCH, os.strerror(errno.ESRCH), str(pid))


def loopback_up() -> None:
    """netdevice(7): IFF_UP for lo."""
    siocsifflags, iff_up = 0x8914, 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        fcntl.ioctl(control, siocsifflags, struct.pack("16sH14x", b"lo", iff_up))


def send_sockets(line: Line) -> None:
    """From inside the network namespace to the caller."""
    opened = network_sockets()
    line.send("sockets", list(opened.values()), names=list(opened))
    for descriptor in opened.values():
        os.close(descriptor)


def network_sockets() -> dict[str, int]:
    """What others need of a network namespace without ever entering it; a socket keeps where it was opened.

    `netlink` configures links and addresses, `nfnetlink` rules; `dns-udp` and `dns-tcp` are the resolver's
    ends. All of 127/8 is local as soon as lo is up, so nothing has to be added for the address. Their ports
    are any: 53 is left to the container, and rules lead from there.
    """
    netlink_route, netlink_netfilter = 0, 12
    flags = socket.SOCK_CLOEXEC
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | flags)
    tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM | flags)
    for listener in (udp, tcp):
        listener.bind((RESOLVER, 0))
    tcp.listen(128)
    made = {
        "netlink": socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | flags, netlink_route),
        "nfnetlink": socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | flags, netlink_netfilter),
        "dns-udp": udp,
        "dns-tcp": tcp,
    }
    return {name: each.detach() for name, each in made.items()}
