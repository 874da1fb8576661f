"""The same promises over IPv6."""

from __future__ import annotations

import socket

import pytest

from composer.network.nft.rules import PublishedPort
from tests.network.conftest import silent, talk
from tests.network.site import Site

pytestmark = pytest.mark.kernel
V6 = socket.AF_INET6
LAN = ("2001:db8:1::1/64", "2001:db8:1::2/64")


def test_containers_of_a_network_talk(site: Site) -> None:
    record = site.network("front", enable_ipv6=True)
    (a, _), (b, at_b) = site.container("a-1", "front"), site.container("b-1", "front")
    address = at_b[0].addresses[1].partition("/")[0]
    assert record.pools[1].subnet.startswith("fd")
    talk(a.open(V6), b.listen("::", 80), (address, 80))


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_the_host_reaches_a_published_port(site: Site, kind: int) -> None:
    site.network("front", enable_ipv6=True)
    site.host.neighbour(*LAN)
    web, made = site.container("web-1", "front")
    inside = made[0].addresses[1].partition("/")[0]
    site.publish(PublishedPort("", 8080, "tcp" if kind == 1 else "udp", 80, "", inside))
    talk(site.host.open(V6, kind), web.listen("::", 80, kind), ("2001:db8:1::1", 8080))


def test_another_host_is_seen_as_itself(site: Site) -> None:
    site.network("front", enable_ipv6=True)
    other = site.host.neighbour(*LAN)
    web, made = site.container("web-1", "front")
    inside = made[0].addresses[1].partition("/")[0]
    server = web.listen("::", 80)
    site.publish(PublishedPort("", 8080, "tcp", 80, "", inside))
    peer, _ = talk(other.open(V6), server, ("2001:db8:1::1", 8080))
    assert peer[0] == "2001:db8:1::2"
    site.publish(PublishedPort("::1", 8080, "tcp", 80, "", inside))
    assert silent(other.open(V6), ("2001:db8:1::1", 8080))
    other.run("ip", "-6", "route", "add", "default", "via", "2001:db8:1::1")
    assert silent(other.open(V6), (inside, 80))


def test_containers_reach_other_hosts_as_the_host(site: Site) -> None:
    site.network("front", enable_ipv6=True)
    other = site.host.neighbour(*LAN)
    web, _ = site.container("web-1", "front")
    peer, _ = talk(web.open(V6), other.listen("::", 80), ("2001:db8:1::2", 80))
    assert peer[0] == "2001:db8:1::1"


def test_hairpin(site: Site) -> None:
    site.network("front", enable_ipv6=True)
    site.host.neighbour(*LAN)
    web, made = site.container("web-1", "front")
    inside = made[0].addresses[1].partition("/")[0]
    site.publish(PublishedPort("", 8080, "tcp", 80, "", inside))
    talk(web.open(V6), web.listen("::", 80), ("2001:db8:1::1", 8080))


def test_an_internal_network_reaches_nothing(site: Site) -> None:
    record = site.network("inside", enable_ipv6=True, internal=True)
    site.host.neighbour(*LAN)
    (a, at_a), (b, _) = site.container("a-1", "inside"), site.container("b-1", "inside")
    b.run("ip", "-6", "route", "add", "default", "via", record.gateway(6))
    site.host.listen("::", 9000)
    for address in ("2001:db8:1::1", record.gateway(6)):
        assert silent(b.open(V6), (address, 9000))
    talk(b.open(V6), a.listen("::", 80), (at_a[0].addresses[1].partition("/")[0], 80))


def test_without_ipv6_there_is_none_in_the_container(site: Site) -> None:
    site.network("front")
    web, _ = site.container("web-1", "front")
    assert "inet6" not in web.run("ip", "address", "show", "dev", "eth0")


def test_a_host_without_ipv6_still_serves_ipv4(site: Site) -> None:
    site.host.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
    site.network("front", enable_ipv6=True)
    (a, _), (b, at_b) = site.container("a-1", "front"), site.container("b-1", "front")
    talk(a.open(), b.listen("0.0.0.0", 80), (at_b[0].addresses[0].partition("/")[0], 80))
