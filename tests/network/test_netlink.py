"""The codec, against the kernel and against pyroute2."""

from __future__ import annotations

import errno
import json
import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.network import links, netlink
from composer.network.netlink import Message, Netlink, NetlinkError
from tests.network.conftest import Host

BRIDGE = "02:42:00:00:00:01"


@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=50))))
def test_attributes_come_back(pairs: list[tuple[int, bytes]]) -> None:
    data = b"".join(netlink.attribute(kind, value) for kind, value in pairs)
    assert len(data) % 4 == 0
    assert [(kind, bytes(value)) for kind, value in netlink.attributes(data)] == pairs


@given(st.binary(max_size=200))
def test_hostile_bytes_end(data: bytes) -> None:
    assert sum(len(value) + 4 for _, value in netlink.attributes(data)) <= len(data) + 3


def test_numbers_have_the_right_order() -> None:
    assert netlink.u32(1, 5) == struct.pack("=HHI", 8, 1, 5)
    assert netlink.be32(1, 5) == struct.pack("=HH", 8, 1) + b"\0\0\0\5"
    assert netlink.be64(1, 5)[4:] == b"\0\0\0\0\0\0\0\5"
    assert netlink.string(1, "ab") == struct.pack("=HH", 7, 1) + b"ab\0\0"


@pytest.mark.kernel
def test_a_failure_says_what_and_why_and_does_not_stop_the_rest(host: Host) -> None:
    with pytest.raises(NetlinkError) as caught:
        host.netlink.request(
            [
                links.add_bridge("br0", BRIDGE, 1500),
                links.add_bridge("br0", BRIDGE, 1500),
                links.set_up("nosuch"),
                links.set_up("br0"),
            ]
        )
    assert caught.value.errno == errno.EEXIST
    assert caught.value.message == "adding bridge br0: File exists"
    assert caught.value.__notes__ == ["bringing nosuch up: No such device"]
    assert links.find(host.netlink, ["br0"])["br0"].up


@pytest.mark.kernel
def test_the_kernels_remark_is_kept(host: Host) -> None:
    host.netlink.request([links.add_bridge("br0", BRIDGE, 1500)])
    index = links.find(host.netlink, ["br0"])["br0"].index
    with pytest.raises(NetlinkError, match=r"adding default route by 192\.0\.2\.1: .* \(Nexthop"):
        host.netlink.request([links.set_up("br0"), links.add_route(index, "192.0.2.1")])


@pytest.mark.kernel
def test_some_failures_may_be_forgiven(host: Host) -> None:
    assert host.netlink.request([links.delete_link("nosuch")], forgive=(errno.ENODEV,)) == []
    assert links.find(host.netlink, ["nosuch", "lo"]).keys() == {"lo"}


@pytest.mark.kernel
def test_many_requests_and_a_dump_of_many(host: Host) -> None:
    names = [f"b{number}" for number in range(300)]
    host.netlink.request([links.add_bridge(name, BRIDGE, 1500) for name in names])
    assert {link.name for link in links.links(host.netlink)} >= set(names)
    assert links.find(host.netlink, names).keys() == set(names)
    group = 77
    found = links.find(host.netlink, names).values()
    host.netlink.request([*(links.set_group(link.index, group) for link in found), links.delete_group(group)])
    assert [link.name for link in links.links(host.netlink) if link.kind == "bridge"] == []


@pytest.mark.kernel
def test_a_descriptor_keeps_its_namespace(host: Host) -> None:
    other = host.space()
    with Netlink(os.dup(other.netlink.fileno())) as wrapped:
        wrapped.request([links.add_bridge("inside", BRIDGE, 1500)])
    assert "inside" in other.run("ip", "link")
    assert "inside" not in host.run("ip", "link")


@pytest.mark.kernel
def test_a_batch_that_nobody_answers_is_an_error(host: Host) -> None:
    with pytest.raises(NetlinkError, match=r"Operation not supported|Invalid argument"):
        host.netlink.request([Message(9999, 0, b"\0" * 16, "asking nonsense")])


@pytest.mark.kernel
def test_pyroute2_sees_what_we_made(host: Host) -> None:
    from pyroute2 import IPRoute

    other = host.space()
    host.netlink.request([links.add_bridge("br0", BRIDGE, 1400), links.set_up("br0")])
    bridge = links.find(host.netlink, ["br0"])["br0"]
    host.netlink.request(
        [
            links.add_veth("v0", bridge.index, 1400, peer="eth0", mac="02:42:0a:00:00:02", pid=other.pid),
            links.set_port("v0", isolated=True, hairpin=True, locked=True),
            links.set_up("v0"),
            links.add_address(bridge.index, "10.0.0.1/24"),
        ]
    )
    with IPRoute() as oracle:
        (port,) = oracle.get_links(ifname="v0")
        assert port.get("master") == bridge.index
        assert port.get("mtu") == 1400
        assert port.get("flags") & 1
        (address,) = oracle.get_addr(index=bridge.index, family=2)
        assert (address.get("address"), address["prefixlen"]) == ("10.0.0.1", 24)
    (shown,) = json.loads(host.run("ip", "-d", "-j", "link", "show", "v0"))
    details = shown["linkinfo"]["info_slave_data"]
    assert details["isolated"] is details["hairpin"] is details["locked"] is True
    assert "02:42:0a:00:00:02" in other.run("ip", "link", "show", "eth0")
