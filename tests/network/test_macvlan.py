"""Containers on the host's own wire."""

from __future__ import annotations

import pytest

from composer.errors import NotFoundError, StackFileError
from composer.model.stack import FrozenMap, IpamPool
from composer.network.lifecycle import remove_networks
from tests.network.conftest import talk
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


def test_a_vlan_parent_is_made_and_removed(site: Site) -> None:
    other = site.host.neighbour()
    parent = f"lan{other.pid}"
    if site.host.status("ip", "link", "add", "probe", "link", parent, "type", "vlan", "id", "9"):
        pytest.skip("this kernel has no 802.1Q")
    before = site.host.run("ip", "-o", "link")
    options = FrozenMap({"parent": f"{parent}.7"})
    record = site.network("wire", driver="macvlan", driver_opts=options, ipam=IPAM)
    assert "vlan protocol 802.1Q id 7" in site.host.run("ip", "-d", "link", "show", f"{parent}.7")
    remove_networks(site.paths, [record])
    assert site.host.run("ip", "-o", "link") == before


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
