"""Host ports, reserved by sockets that are bound and never used: a taken port is known before anything
starts.

The kernel then keeps everybody else off the port. Traffic never meets these sockets: it is translated before.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path

from composer.errors import ConflictError, UsageError
from composer.network import sysctl
from composer.network.netlink import NETLINK_SOCK_DIAG, Answer, Netlink, NetlinkError
from composer.network.nft.expr import PROTOCOLS
from composer.value import Value

_DIAG_REQUEST = struct.Struct("=BBBxI2s2s16s16sI8s")
_DIAG_BY_FAMILY = 20
_ANY_STATE_BUT_TIME_WAIT = 0xFFFFFFFF & ~(1 << 6)
_LISTENING = 1 << 10
_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM, "sctp": socket.SOCK_STREAM}
_TRIES = 20
"""Random ports to try until one is free for IPv4 and IPv6 alike."""


class PortWish(Value):
    """`published` is "" (any), "8080", or "8000-8010" (the first free one); `host_ip` "" every address."""

    host_ip: str = ""
    published: str = ""
    protocol: str = "tcp"
    owner: str = ""
    """Who wants it, for messages."""
    preferred: int = 0
    """Tried before the others: what it was the last time."""


class Reservation(Value):
    """A port and the sockets that hold it, one per IP version; it lasts until they are closed."""

    wish: PortWish
    port: int
    sockets: tuple[socket.socket, ...]


class Holder(Value):
    """Who has a port. `pid` 0: a process that we may not see."""

    pid: int = 0
    name: str = ""

    def __str__(self) -> str:
        return f"{self.name} (process {self.pid})" if self.pid else "another process"


Known = Callable[[str, int], str]
"""(protocol, port) → who has it, in words, when the caller knows better than the kernel; else ""."""


def reserve(wishes: Iterable[PortWish], known: Known = lambda _protocol, _port: "") -> list[Reservation]:
    """Reserve all ports or none. Raises ConflictError that says which port is taken and by whom."""
    done: list[Reservation] = []

    def who(protocol: str, port: int) -> str:
        same = (r.wish.owner for r in done if (r.wish.protocol, r.port) == (protocol, port))
        return next(same, "") or known(protocol, port) or str(holder(protocol, port) or Holder())

    try:
        for wish in wishes:
            done.append(_reserve(wish, who))  # noqa: PERF401 - what is done must be undone
    except BaseException:
        for reservation in done:
            free(reservation)
        raise
    return done


def free(reservation: Reservation) -> None:
    for held in reservation.sockets:
        held.close()


def candidates(published: str) -> Sequence[int]:
    """The ports to try, in order; (0,) lets the kernel choose. Raises UsageError."""
    low, dash, high = published.partition("-")
    if not published:
        return (0,)
    if low.isdecimal() and (high.isdecimal() or not dash):
        ports = range(int(low), int(high or low) + 1)
        if ports and ports[0] > 0 and ports[-1] < 65536:
            return ports
    raise UsageError(f"{published!r} is not a port or a range of ports", hint="1 to 65535")


def _reserve(wish: PortWish, who: Known) -> Reservation:
    ports, host_ip = candidates(wish.published), wish.host_ip
    addresses = [host_ip] if host_ip else ["0.0.0.0", *(["::"] if sysctl.has_ipv6() else [])]
    first = (wish.preferred,) if wish.preferred else ()
    for port in (*first, *(ports if ports != (0,) else (0,) * _TRIES)):
        try:
            return _bind_all(wish, addresses, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise _explain(wish, host_ip, port, error) from None
    raise _taken(wish, addresses, ports, who)


def _bind_all(wish: PortWish, addresses: Sequence[str], port: int) -> Reservation:
    """Raises OSError as bind(2) does; nothing stays bound then."""
    sockets: list[socket.socket] = []
    try:
        for address in addresses:
            sockets.append(_bind(address, port, wish.protocol))
            port = port or sockets[0].getsockname()[1]
    except BaseException:
        for opened in sockets:
            opened.close()
        raise
    return Reservation(wish, port, tuple(sockets))


def _bind(address: str, port: int, protocol: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        made = socket.socket(family, _KINDS[protocol] | socket.SOCK_CLOEXEC, PROTOCOLS[protocol])
    except OSError as error:
        if protocol != "sctp" or error.errno != errno.EPROTONOSUPPORT:
            raise
        return _stand_in(address, port)
    try:
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            made.bind((address, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE or protocol != "tcp" or holder(protocol, port) is not None:
                raise
            # Only the remains of closed connections (TIME_WAIT) are in the way.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((address, port))
    except BaseException:
        made.close()
        raise
    return made


def _stand_in(address: str, port: int) -> socket.socket:
    """A kernel without SCTP sockets still translates SCTP; the name of a Unix socket keeps other stacks
    off.
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        made.bind(f"\0composer/sctp/{address}/{port}")
    except BaseException:
        made.close()
        raise
    return made


def _explain(wish: PortWish, host_ip: str, port: int, error: OSError) -> ConflictError:
    what = f"{wish.owner}: " if wish.owner else ""
    if error.errno == errno.EADDRNOTAVAIL:
        return ConflictError(f"{what}this host has no address {host_ip} to publish port {port} on")
    if error.errno in (errno.EACCES, errno.EPERM):
        return ConflictError(
            f"{what}only root may publish port {port}", hint="choose a port from 1024 on, or run as root"
        )
    return ConflictError(f"{what}cannot publish {wish.protocol} port {port}: {error.strerror}")


def _taken(wish: PortWish, addresses: Sequence[str], ports: Sequence[int], who: Known) -> ConflictError:
    what = f"{wish.owner}: " if wish.owner else ""
    if len(ports) > 1:
        return ConflictError(f"{what}every {wish.protocol} port of {wish.published} is taken")
    where = addresses[0] if len(addresses) == 1 else "this host"
    return ConflictError(
        f"{what}{wish.protocol} port {ports[0]} of {where} is taken by {who(wish.protocol, ports[0])}",
        hint="stop it, or publish another port",
    )


def holder(protocol: str, port: int) -> Holder | None:
    """Who has a socket bound to the port; None when nobody, or nobody that the kernel will name."""
    inodes = set()
    for family in (socket.AF_INET, socket.AF_INET6):
        number = port.to_bytes(2, "big")
        request = _DIAG_REQUEST.pack(
            family, PROTOCOLS[protocol], 0, _ANY_STATE_BUT_TIME_WAIT, number, b"", b"", b"", 0, b"\xff" * 8
        )
        with Netlink(protocol=NETLINK_SOCK_DIAG) as diag:
            try:
                answers = diag.dump(_DIAG_BY_FAMILY, request, "listing sockets")
            except NetlinkError as error:
                if error.errno != errno.ENOENT:  # a kernel without this protocol has nobody using it
                    raise
                continue
        inodes |= {_inode(answer) for answer in answers if bytes(answer.body[4:6]) == number}
    return _process(inodes) if inodes else None


def listening(diag: Netlink) -> Iterator[int]:
    """TCP ports on which others than the host itself are listened to, in the namespace of a socket for
    sock_diag(7): in far less time than /proc/net/tcp takes, which goes through everybody's connections.
    """
    for family in (socket.AF_INET, socket.AF_INET6):
        request = _DIAG_REQUEST.pack(
            family, PROTOCOLS["tcp"], 0, _LISTENING, b"", b"", b"", b"", 0, b"\xff" * 8
        )
        try:
            answers = diag.dump(_DIAG_BY_FAMILY, request, "listing sockets")
        except NetlinkError as error:
            if error.errno != errno.ENOENT:  # a kernel without IPv6
                raise
            continue
        for answer in answers:
            address = bytes(answer.body[8 : 12 if family == socket.AF_INET else 24])
            if not ip_address(address).is_loopback:
                yield int.from_bytes(answer.body[4:6], "big")


def _inode(answer: Answer) -> int:
    return int(struct.unpack_from("=I", answer.body, 68)[0])


def _process(inodes: set[int]) -> Holder:
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal():
            continue
        try:
            for descriptor in (process / "fd").iterdir():
                if os.readlink(descriptor) in wanted:
                    return Holder(int(process.name), (process / "comm").read_text().strip())
        except OSError:
            continue  # it ended, or is not ours to look into
    return Holder()


def is_local(address: str) -> bool:
    """Whether this host has the address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
