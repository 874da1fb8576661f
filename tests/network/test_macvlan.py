"""Containers on the host's own wire."""

from __future__ import annotations

import pytest

from composer.errors import NotFoundError, StackFileError
from composer.model.stack import FrozenMap, IpamPool
from composer.network.lifecycle import remove_networks
from tests.network.conftest import silent, talk
from tests.network.site import Site

pytestmark = pytest.mark.kernel
IPAM = (IpamPool("198.51.100.0/24", "198.51.100.2", "198.51.100.64/26"),)


def test_a_container_is_a_neighbour_of_other_hosts(site: Site) -> None:
    other = site.host.neighbour()
    parent = f"lan{other.pid}"
    site.network("wire", driver="macvlan", driver_opts=FrozenMap({"parent": parent}), ipam=IPAM)
    (a, at_a), (b, at_b) = site.container("a-1", "wire"), site.container("b-1", "wire")
    assert at_a[0].addresses == ("198.51.100.64/24",)
    peer, _ = talk(a.open(), other.listen("0.0.0.0", 80), ("198.51.100.2", 80))
    assert peer[0] == "198.51.100.64"
    talk(a.open(), b.listen("0.0.0.0", 80), (at_b[0].addresses[0].partition("/")[0], 80))


def needs(site: Site, parent: str, kind: str, *more: str) -> None:
    """Skip where the kernel does not have such interfaces."""
    if site.host.status("ip", "link", "add", "probe", "link", parent, "type", kind, *more):
        pytest.skip(f"this kernel has no {kind}")
    site.host.run("ip", "link", "delete", "probe")


def test_a_vlan_parent_is_made_and_removed(site: Site) -> None:
    """802.1Q: what containers send carries the number, and reaches who is in that VLAN, not who is beside."""
    other = site.host.neighbour()
    parent = f"lan{other.pid}"
    needs(site, parent, "vlan", "id", "9")
    before = site.host.run("ip", "-o", "link")
    options = FrozenMap({"parent": f"{parent}.7"})
    record = site.network("wire", driver="macvlan", driver_opts=options, ipam=IPAM)
    assert "vlan protocol 802.1Q id 7" in site.host.run("ip", "-d", "link", "show", f"{parent}.7")
    other.run("ip", "link", "add", "inside", "link", "lan0", "type", "vlan", "id", "7")
    other.run("ip", "link", "set", "inside", "up")
    container, _ = site.container("a-1", "wire")
    server = other.listen("0.0.0.0", 80)
    assert silent(container.open(), ("198.51.100.2", 80))
    other.run("ip", "address", "delete", "198.51.100.2/24", "dev", "lan0")
    other.run("ip", "address", "add", "198.51.100.2/24", "dev", "inside")
    peer, _ = talk(container.open(), server, ("198.51.100.2", 80))
    assert peer[0] == "198.51.100.64"
    container.end()
    remove_networks(site.paths, [record])
    assert site.host.run("ip", "-o", "link") == before


def test_ipvlan_shares_the_hosts_mac(site: Site) -> None:
    other = site.host.neighbour()
    parent = f"lan{other.pid}"
    needs(site, parent, "ipvlan")
    site.network("wire", driver="ipvlan", driver_opts=FrozenMap({"parent": parent}), ipam=IPAM)
    (a, _), (b, at_b) = site.container("a-1", "wire"), site.container("b-1", "wire")
    peer, _ = talk(a.open(), other.listen("0.0.0.0", 80), ("198.51.100.2", 80))
    assert peer[0] == "198.51.100.64"
    assert a.mac("eth0") == b.mac("eth0") == site.host.mac(parent)
    talk(other.open(), b.listen("0.0.0.0", 80), (at_b[0].addresses[0].partition("/")[0], 80))
    talk(a.open(), b.listen("0.0.0.0", 81), (at_b[0].addresses[0].partition("/")[0], 81))


@pytest.mark.parametrize("mode", ["l2", "l3", "l3s"])
@pytest.mark.parametrize("flag", ["bridge", "private", "vepa"])
def test_modes_of_ipvlan(site: Site, mode: str, flag: str) -> None:
    parent = f"lan{site.host.neighbour().pid}"
    needs(site, parent, "ipvlan")
    options = FrozenMap({"parent": parent, "ipvlan_mode": mode, "ipvlan_flag": flag})
    site.network("wire", driver="ipvlan", driver_opts=options, ipam=IPAM)
    container, _ = site.container("a-1", "wire")
    assert f"ipvlan  mode {mode} {flag}" in container.run("ip", "-d", "link", "show", "eth0")


def test_ipvlan_that_routes_is_reached_by_who_has_a_route(site: Site) -> None:
    other = site.host.neighbour()
    parent = f"lan{other.pid}"
    needs(site, parent, "ipvlan")
    other.run("ip", "route", "add", "203.0.113.0/24", "via", "198.51.100.1")
    ipam = (IpamPool("203.0.113.0/24", "203.0.113.1", "203.0.113.64/26"),)
    options = FrozenMap({"parent": parent, "ipvlan_mode": "l3"})
    site.network("far", driver="ipvlan", driver_opts=options, ipam=ipam)
    container, _ = site.container("a-1", "far")
    peer, _ = talk(container.open(), other.listen("0.0.0.0", 80), ("198.51.100.2", 80))
    assert peer[0] == "203.0.113.64"
    talk(other.open(), container.listen("0.0.0.0", 80), ("203.0.113.64", 80))


def test_a_parent_that_was_there_stays(site: Site) -> None:
    other = site.host.neighbour()
    options = FrozenMap({"parent": f"lan{other.pid}"})
    record = site.network("wire", driver="macvlan", driver_opts=options, ipam=IPAM)
    remove_networks(site.paths, [record])
    assert f"lan{other.pid}" in site.host.run("ip", "link")


def test_parents_that_cannot_be(site: Site) -> None:
    with pytest.raises(StackFileError, match="needs the option `parent`"):
        site.network("a", driver="macvlan")
    with pytest.raises(NotFoundError, match=r"no interface nosuch\.7"):
        site.network("b", driver="macvlan", driver_opts=FrozenMap({"parent": "nosuch.7"}), ipam=IPAM)
