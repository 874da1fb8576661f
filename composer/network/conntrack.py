"""Forget tracked connections, so that a changed port is not answered by what it used to lead to.

A UDP "connection" lives as long as packets keep coming: without this, a client that keeps sending would
reach the old container for ever.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from collections.abc import Callable, Collection

from composer.network import sysctl
from composer.network.netlink import Message, Netlink, attribute, attributes, nested, u8, u32
from composer.value import Value

_GET, _DELETE = 1 << 8 | 1, 1 << 8 | 2
_ORIGINAL, _REPLY, _ZONE, _FILTER = 1, 2, 18, 25
_ADDRESSES, _PROTOCOL = 1, 2
_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3
_BY_NUMBER = 1 << 3


class Flow(Value):
    """Datagrams to `address` and `port`, which are answered by `answers` (address, port)."""

    address: str
    port: int
    answers: tuple[str, int]


def forget_udp(socket_: Netlink, ports: Collection[int], stale: Callable[[Flow], bool]) -> None:
    """Forget the UDP flows to one of `ports` that are `stale`.

    `socket_` is of NETLINK_NETFILTER. Needs Linux 5.8 (filtered listing); raises NetlinkError. Looking
    costs the kernel some 20 ms, however few flows there are.
    """
    if not ports or sysctl.read("netfilter/nf_conntrack_count") in ("0", None):
        return
    protocol = nested(_ORIGINAL, nested(_PROTOCOL, u8(_NUMBER, socket.IPPROTO_UDP)))
    only = nested(_FILTER, u32(1, _BY_NUMBER), u32(2, 0))
    doomed = []
    for family in (socket.AF_INET, socket.AF_INET6):
        head = struct.pack("=BBH", family, 0, 0)
        for answer in socket_.dump(_GET, head + protocol + only, "listing connections"):
            found = dict(attributes(answer.body[4:]))
            flow = _flow(found)
            if flow.port in ports and stale(flow):
                name = nested(_ORIGINAL, bytes(found[_ORIGINAL]))
                zone = attribute(_ZONE, bytes(found[_ZONE])) if _ZONE in found else b""
                doomed.append(Message(_DELETE, 0, head + name + zone, "forgetting a connection"))
    socket_.request(doomed, forgive=(errno.ENOENT,))


def _flow(found: dict[int, memoryview]) -> Flow:
    original, reply = (dict(attributes(found[kind])) for kind in (_ORIGINAL, _REPLY))
    to, back = (dict(attributes(side[_ADDRESSES])) for side in (original, reply))
    return Flow(
        str(ipaddress.ip_address(bytes(to.get(2) or to[4]))),
        _port(original, _DESTINATION_PORT),
        (str(ipaddress.ip_address(bytes(back.get(1) or back[3]))), _port(reply, _SOURCE_PORT)),
    )


def _port(side: dict[int, memoryview], which: int) -> int:
    return int.from_bytes(dict(attributes(side[_PROTOCOL]))[which], "big")
