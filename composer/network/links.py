"""Links, addresses and routes as rtnetlink messages (pure), and the few questions about them.

Numbers are those of <linux/if_link.h>, <linux/if_bridge.h>, <linux/rtnetlink.h>. Knows no stacks and no
files.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import sys
from collections.abc import Iterable, Sequence

from composer.network.netlink import (
    CREATE,
    EXCL,
    REPLACE,
    Answer,
    Message,
    Netlink,
    attribute,
    attributes,
    nested,
    string,
    text,
    u8,
    u32,
)
from composer.value import Value

_NEWLINK, _DELLINK, _GETLINK, _NEWADDR, _NEWROUTE, _DELROUTE, _GETROUTE, _NEWNEIGH = (
    16,
    17,
    18,
    20,
    24,
    25,
    26,
    28,
)
_IFINFO = struct.Struct("=BxHiII")
_IFADDR = struct.Struct("=BBBBI")
_RTMSG = struct.Struct("=BBBBBBBBI")
_NDMSG = struct.Struct("=BxxxiHBB")
_UP = 0x1
_NODAD, _NOPREFIXROUTE = 0x02, 0x200
_AF_BRIDGE, _NUD_NOARP, _NTF_MASTER = 7, 0x40, 0x04

_MAC, _NAME, _MTU, _LINK, _MASTER, _LINKINFO, _NET_NS_PID, _ALIAS, _AF_SPEC, _GROUP = (
    1,
    3,
    4,
    5,
    10,
    18,
    19,
    20,
    26,
    27,
)
_STATS64, _EXT_MASK = 23, 29
_KIND, _DATA, _PORT_KIND, _PORT_DATA = 1, 2, 4, 5
_ADDR_GEN_MODE, _ADDR_GEN_NONE = 8, 1

_PORT_FLAGS = {"hairpin": 4, "learning": 8, "flood": 9, "isolated": 33, "locked": 39}
"""IFLA_BRPORT_MODE, _LEARNING, _UNICAST_FLOOD, _ISOLATED, _LOCKED."""

MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
IPVLAN_MODES = {"l2": 0, "l3": 1, "l3s": 2}
_IPVLAN_FLAGS = {"bridge": 0, "private": 1, "vepa": 2}


class Link(Value):
    """What the kernel says of an interface. Counters are since its birth; `rx` is what it received."""

    index: int
    name: str
    kind: str
    mac: str
    mtu: int
    up: bool
    master: int
    group: int
    rx_bytes: int
    rx_packets: int
    rx_errors: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_errors: int
    tx_dropped: int


def _link(
    kind: int, flags: int, what: str, *parts: bytes, index: int = 0, up: bool = False, family: int = 0
) -> Message:
    state = _UP if up else 0
    return Message(kind, flags, _IFINFO.pack(family, 0, index, state, state) + b"".join(parts), what)


def _mac(value: str) -> bytes:
    return bytes.fromhex(value.replace(":", ""))


def add_bridge(name: str, mac: str, mtu: int) -> Message:
    """A bridge, down. A given `mac` keeps it from changing with its ports, which would cut connections."""
    info = nested(_LINKINFO, string(_KIND, "bridge"))
    return _link(
        _NEWLINK,
        CREATE | EXCL,
        f"adding bridge {name}",
        string(_NAME, name),
        attribute(_MAC, _mac(mac)),
        u32(_MTU, mtu),
        info,
    )


def add_veth(name: str, master: int, mtu: int, *, peer: str, mac: str, pid: int, alias: str = "") -> Message:
    """A veth pair: `name` here, a port of bridge `master`; `peer`, down, in the network namespace of
    `pid`.
    """
    inside = _IFINFO.pack(0, 0, 0, 0, 0) + b"".join(
        (string(_NAME, peer), attribute(_MAC, _mac(mac)), u32(_MTU, mtu), u32(_NET_NS_PID, pid))
    )
    info = nested(_LINKINFO, string(_KIND, "veth"), nested(_DATA, nested(1, inside)))
    parts = (string(_NAME, name), u32(_MTU, mtu), u32(_MASTER, master), info)
    return _link(_NEWLINK, CREATE | EXCL, f"adding interface {peer} of {alias or name}", *parts)


def add_macvlan(parent: int, mtu: int, *, peer: str, mac: str, pid: int, mode: str = "bridge") -> Message:
    """A macvlan on interface `parent`, born as `peer` in the network namespace of `pid`."""
    info = nested(_LINKINFO, string(_KIND, "macvlan"), nested(_DATA, u32(1, MACVLAN_MODES[mode])))
    parts = (
        string(_NAME, peer),
        attribute(_MAC, _mac(mac)),
        u32(_LINK, parent),
        u32(_MTU, mtu),
        u32(_NET_NS_PID, pid),
    )
    return _link(_NEWLINK, CREATE | EXCL, f"adding macvlan interface {peer}", *parts, info)


def add_ipvlan(
    parent: int, mtu: int, *, peer: str, pid: int, mode: str = "l2", flag: str = "bridge"
) -> Message:
    """An ipvlan on interface `parent`; it shares the parent's MAC."""
    data = nested(
        _DATA,
        attribute(1, struct.pack("=H", IPVLAN_MODES[mode])),
        attribute(2, struct.pack("=H", _IPVLAN_FLAGS[flag])),
    )
    info = nested(_LINKINFO, string(_KIND, "ipvlan"), data)
    parts = (string(_NAME, peer), u32(_LINK, parent), u32(_MTU, mtu), u32(_NET_NS_PID, pid))
    return _link(_NEWLINK, CREATE | EXCL, f"adding ipvlan interface {peer}", *parts, info)


def add_vlan(name: str, parent: int, number: int) -> Message:
    """The 802.1Q interface `name` (such as eth0.10) on `parent`."""
    data = nested(_DATA, attribute(1, struct.pack("=H", number)))
    info = nested(_LINKINFO, string(_KIND, "vlan"), data)
    return _link(
        _NEWLINK,
        CREATE | EXCL,
        f"adding VLAN interface {name}",
        string(_NAME, name),
        u32(_LINK, parent),
        info,
    )


def set_port(name: str, *, group: int = 0, **flags: bool) -> Message:
    """Settings of a bridge port, by the names in `_PORT_FLAGS`."""
    data = [u8(_PORT_FLAGS[key], value) for key, value in flags.items()]
    info = nested(_LINKINFO, string(_PORT_KIND, "bridge"), nested(_PORT_DATA, *data))
    what = f"setting up bridge port {name}"
    return _link(_NEWLINK, 0, what, string(_NAME, name), u32(_GROUP, group), info)


def add_static_mac(port: int, mac: str) -> Message:
    """Tell a bridge that `mac` lives behind the port with this index; a locked port lets in no other."""
    body = _NDMSG.pack(_AF_BRIDGE, port, _NUD_NOARP, _NTF_MASTER, 0) + attribute(2, _mac(mac))
    return Message(_NEWNEIGH, CREATE | REPLACE, body, f"tying {mac} to its bridge port")


def set_up(name: str) -> Message:
    return _link(_NEWLINK, 0, f"bringing {name} up", string(_NAME, name), up=True)


def no_link_local(name: str) -> Message:
    """No fe80:: address by itself: bridge ports need none, and each would send a dozen multicast frames."""
    mode = nested(_AF_SPEC, nested(socket.AF_INET6, u8(_ADDR_GEN_MODE, _ADDR_GEN_NONE)))
    return _link(_NEWLINK, 0, f"configuring IPv6 of {name}", string(_NAME, name), mode)


def set_group(index: int, group: int) -> Message:
    return _link(_NEWLINK, 0, f"grouping interface {index}", u32(_GROUP, group), index=index)


def delete_group(group: int) -> Message:
    """Every interface of `group`, with one grace period of the kernel for all of them."""
    return _link(_DELLINK, 0, "deleting interfaces", u32(_GROUP, group))


def delete_link(name: str) -> Message:
    return _link(_DELLINK, 0, f"deleting interface {name}", string(_NAME, name))


def get_link(name: str) -> Message:
    return _link(_GETLINK, 0, f"looking up interface {name}", string(_NAME, name))


def add_address(index: int, interface: str, *, what: str = "", prefix_route: bool = True) -> Message:
    """`interface` is an address with prefix length. IPv6 without duplicate detection: the allocator is
    sure.
    """
    address = ipaddress.ip_interface(interface)
    v6 = address.version == 6
    flags = (_NODAD if v6 else 0) | (0 if prefix_route else _NOPREFIXROUTE)
    family = socket.AF_INET6 if v6 else socket.AF_INET
    body = _IFADDR.pack(family, address.network.prefixlen, flags & 0xFF, 0, index)
    parts = attribute(1, address.packed) + attribute(2, address.packed) + u32(8, flags)
    return Message(_NEWADDR, CREATE | REPLACE, body + parts, f"adding address {interface}{what}")


def add_route(index: int, gateway: str, *, metric: int = 0) -> Message:
    """A default route by `gateway` ("0.0.0.0" or "::" is on-link) through interface `index`."""
    address = ipaddress.ip_address(gateway)
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    scope = 253 if address.is_unspecified else 0
    body = _RTMSG.pack(family, 0, 0, 0, 254, 3, scope, 1, 0) + u32(4, index)
    if not address.is_unspecified:
        body += attribute(5, address.packed)
    if metric:
        body += u32(6, metric)
    return Message(_NEWROUTE, CREATE | REPLACE, body, f"adding default route by {gateway}")


def delete_default_routes(family: int) -> Message:
    body = _RTMSG.pack(family, 0, 0, 0, 254, 0, 255, 0, 0)
    return Message(_DELROUTE, 0, body, "deleting the default route")


def find(socket_: Netlink, names: Iterable[str]) -> dict[str, Link]:
    """The links with these names; one that does not exist is left out."""
    answers = socket_.request([get_link(name) for name in names], forgive=(19,))
    found = [read_link(answer) for answer in answers]
    return {link.name: link for link in found}


def links(socket_: Netlink) -> list[Link]:
    """All links of the namespace."""
    body = _IFINFO.pack(0, 0, 0, 0, 0)
    return [read_link(answer) for answer in socket_.dump(_GETLINK, body, "listing interfaces")]


def index_of(answer: Answer) -> int:
    """The interface's number, from what the kernel answers to `get_link`."""
    index: int = _IFINFO.unpack_from(answer.body)[2]
    return index


def read_link(answer: Answer) -> Link:
    _, _, index, flags, _ = _IFINFO.unpack_from(answer.body)
    fields = dict(attributes(answer.body[_IFINFO.size :]))
    info = dict(attributes(fields.get(_LINKINFO, b"")))
    counters: Sequence[int] = (0,) * 8
    if _STATS64 in fields:
        counters = struct.unpack_from("=8Q", fields[_STATS64])
    rx, tx, rx_bytes, tx_bytes, rx_errors, tx_errors, rx_dropped, tx_dropped = counters
    return Link(
        index=index,
        name=text(fields[_NAME]),
        kind=text(info.get(_KIND, b"")),
        mac=bytes(fields.get(_MAC, b"")).hex(":"),
        mtu=_number(fields.get(_MTU)),
        up=bool(flags & _UP),
        master=_number(fields.get(_MASTER)),
        group=_number(fields.get(_GROUP)),
        rx_bytes=rx_bytes,
        rx_packets=rx,
        rx_errors=rx_errors,
        rx_dropped=rx_dropped,
        tx_bytes=tx_bytes,
        tx_packets=tx,
        tx_errors=tx_errors,
        tx_dropped=tx_dropped,
    )


def _number(value: memoryview | None) -> int:
    return int.from_bytes(value, sys.byteorder) if value else 0


def routes(socket_: Netlink, family: int) -> list[str]:
    """The destinations in the main table, as prefixes; the default route is left out."""
    found = []
    for answer in socket_.dump(_GETROUTE, _RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0), "listing routes"):
        fields = _RTMSG.unpack_from(answer.body)
        attrs = dict(attributes(answer.body[_RTMSG.size :]))
        table = _number(attrs.get(15)) or fields[4]
        if 1 in attrs and fields[1] and table != 255:
            found.append(f"{ipaddress.ip_address(bytes(attrs[1]))}/{fields[1]}")
    return found
