"""Published ports and networks end to end: sockets in namespaces that play containers and other hosts."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import pytest

from composer.network import endpoints
from composer.network.nft.rules import PublishedPort
from composer.network.publish import is_published, teardown, watch
from tests.network.conftest import silent, talk, udp, unheard
from tests.network.site import Site

pytestmark = pytest.mark.kernel

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM


def _ip(made: Sequence[endpoints.Endpoint]) -> str:
    return endpoints.addresses_of(made[0])[0]


def test_containers_of_a_network_talk(site: Site) -> None:
    site.network("front")
    (a, _), (b, at_b) = site.container("a-1", "front"), site.container("b-1", "front")
    server = b.listen("0.0.0.0", 80)
    peer, _ = talk(a.open(), server, (_ip(at_b), 80))
    assert peer[0].startswith("172.17.0.")


@pytest.mark.parametrize("kind", [TCP, UDP])
@pytest.mark.parametrize("address", ["127.0.0.1", "198.51.100.1"])
def test_the_host_reaches_a_published_port(site: Site, kind: int, address: str) -> None:
    site.network("front")
    site.host.neighbour()
    web, made = site.container("web-1", "front")
    protocol = "tcp" if kind == TCP else "udp"
    site.publish(PublishedPort("", 8080, protocol, 80, _ip(made)))
    _, source = talk(site.host.open(kind=kind), web.listen("0.0.0.0", 80, kind), (address, 8080))
    assert source == (address, 8080)


@pytest.mark.parametrize("kind", [TCP, UDP])
def test_another_host_reaches_it_and_is_seen_as_itself(site: Site, kind: int) -> None:
    site.network("front")
    other = site.host.neighbour()
    web, made = site.container("web-1", "front")
    site.publish(PublishedPort("", 8080, "tcp" if kind == TCP else "udp", 80, _ip(made)))
    peer, _ = talk(other.open(kind=kind), web.listen("0.0.0.0", 80, kind), ("198.51.100.1", 8080))
    assert peer[0] == "198.51.100.2"


def test_hairpin(site: Site) -> None:
    """A container reaches itself and a neighbour by the host's address."""
    site.network("front")
    site.host.neighbour()
    (web, made), (peer, _) = site.container("web-1", "front"), site.container("peer-1", "front")
    site.publish(PublishedPort("", 8080, "tcp", 80, _ip(made)))
    server = web.listen("0.0.0.0", 80)
    talk(web.open(), server, ("198.51.100.1", 8080))
    talk(peer.open(), server, ("198.51.100.1", 8080))


def test_networks_are_apart(site: Site) -> None:
    site.network("front")
    site.network("back")
    (a, _), (b, at_b) = site.container("a-1", "front"), site.container("b-1", "back")
    b.listen("0.0.0.0", 80)
    assert silent(a.open(), (_ip(at_b), 80))


def test_loopback_ports_are_closed_to_others(site: Site) -> None:
    site.network("front")
    other = site.host.neighbour()
    web, made = site.container("web-1", "front")
    server = web.listen("0.0.0.0", 80)
    site.publish(PublishedPort("127.0.0.1", 8080, "tcp", 80, _ip(made)))
    talk(site.host.open(), server, ("127.0.0.1", 8080))
    assert silent(other.open(), ("198.51.100.1", 8080))
    other.run("ip", "route", "add", "172.16.0.0/12", "via", "198.51.100.1")
    assert silent(other.open(), (_ip(made), 80))


def test_loopback_ports_are_closed_even_with_route_localnet(site: Site) -> None:
    site.network("front")
    other = site.host.neighbour()
    web, made = site.container("web-1", "front")
    server = web.listen("0.0.0.0", 80, UDP)
    site.host.run("sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1", "net.ipv4.conf.all.rp_filter=0")
    mac = site.host.mac(f"lan{other.pid}")
    for port, host_ip, heard in ((1053, "", True), (1054, "127.0.0.1", False)):
        site.publish(PublishedPort(host_ip, 8080, "udp", 80, _ip(made)))
        other.send_raw("lan0", mac, udp("198.51.100.2", "127.0.0.1", 8080, port))
        assert unheard(server) is not heard
        if heard:
            server.recv(100)


def test_containers_cannot_reach_the_hosts_loopback(site: Site) -> None:
    record = site.network("front")
    web, _ = site.container("web-1", "front")
    server = site.host.listen("127.0.0.1", 9000, UDP)
    packet = udp("172.17.0.2", "127.0.0.1", 9000)
    web.send_raw("eth0", site.host.mac(record.link), packet)
    assert unheard(server)
    site.host.run("nft", "delete", "chain", "inet", "composer-demo", "guard")
    web.send_raw("eth0", site.host.mac(record.link), packet)
    assert not unheard(server), "the guard is what keeps it out"


def test_containers_reach_other_hosts_as_the_host(site: Site) -> None:
    site.network("front")
    other = site.host.neighbour()
    web, _ = site.container("web-1", "front")
    peer, _ = talk(web.open(), other.listen("0.0.0.0", 80), ("198.51.100.2", 80))
    assert peer[0] == "198.51.100.1"


def test_an_internal_network_leads_nowhere_but_can_publish(site: Site) -> None:
    site.network("inside", internal=True)
    site.network("front")
    other = site.host.neighbour()
    (a, at_a), (b, _) = site.container("a-1", "inside"), site.container("b-1", "inside")
    gateway = site.records["inside"].gateway(4)
    site.host.listen("0.0.0.0", 9000)
    assert silent(a.open(), (gateway, 9000))
    b.run("ip", "route", "add", "default", "via", gateway)
    for address in ("198.51.100.1", "172.17.0.1", "172.18.0.1"):
        assert silent(b.open(), (address, 9000))
    other.listen("0.0.0.0", 9000)
    assert silent(b.open(), ("198.51.100.2", 9000))
    server = a.listen("0.0.0.0", 80)
    talk(b.open(), server, (_ip(at_a), 80))
    site.publish(PublishedPort("", 8080, "tcp", 80, _ip(at_a)))
    talk(other.open(), server, ("198.51.100.1", 8080))
    talk(site.host.open(), server, ("127.0.0.1", 8080))


def test_teardown_leaves_nothing(site: Site) -> None:
    before = site.host.run("ip", "-o", "link")
    site.network("front")
    site.network("back", internal=True)
    web, made = site.container("web-1", "front", "back")
    site.publish(PublishedPort("", 8080, "tcp", 80, _ip(made)))
    endpoints.detach(web.netlink, [endpoint.interface for endpoint in made])
    teardown(site.paths, site.stack)
    assert site.host.run("nft", "list", "ruleset") == ""
    assert site.host.run("ip", "-o", "link") == before
    assert [path.name for path in site.paths.networks.iterdir()] == [".leases.json"]


def test_a_udp_client_follows_when_a_port_leads_elsewhere(site: Site) -> None:
    """A flow that keeps sending must not stick to the old container, nor to nothing."""
    site.network("front")
    other = site.host.neighbour()
    (a, at_a), (b, at_b) = site.container("a-1", "front"), site.container("b-1", "front")
    servers = [a.listen("0.0.0.0", 53, UDP), b.listen("0.0.0.0", 53, UDP)]
    client, target = other.open(kind=UDP), ("198.51.100.1", 53)
    keeper = other.open(kind=UDP)
    client.sendto(b"too early", target)
    for server, made in zip(servers, (at_a, at_b), strict=True):
        site.publish(PublishedPort("", 53, "udp", 53, _ip(made)), PublishedPort("", 54, "udp", 53, _ip(at_a)))
        talk(client, server, target)
        talk(keeper, servers[0], ("198.51.100.1", 54))
    kept = site.host.run("conntrack", "-L", "-p", "udp", "--orig-port-dst", "54")
    assert "[ASSURED]" in kept or "src=198.51.100.2" in kept
    site.publish()
    assert site.host.run("conntrack", "-L", "-p", "udp") == ""


def test_a_flow_that_goes_where_it_should_is_not_cut(site: Site) -> None:
    site.network("front")
    web, made = site.container("web-1", "front")
    port = PublishedPort("", 53, "udp", 53, _ip(made))
    site.publish(port)
    talk(site.host.open(kind=UDP), web.listen("0.0.0.0", 53, UDP), ("127.0.0.1", 53))
    before = site.host.run("conntrack", "-L", "-p", "udp", "-o", "id")
    site.publish(port, PublishedPort("", 8080, "tcp", 80, _ip(made)))
    after = site.host.run("conntrack", "-L", "-p", "udp", "-o", "id")
    assert before.rpartition("id=")[2] == after.rpartition("id=")[2] != ""


def test_stacks_are_apart_but_for_published_ports(site: Site) -> None:
    """By address nothing passes; by a port of the host it does, and the caller is seen as itself."""
    other = site.closing(Site(site.host, site.paths, "other"))
    site.network("front")
    other.network("front")
    site.host.neighbour()
    (web, made), (guest, at_guest) = site.container("web-1", "front"), other.container("guest-1", "front")
    server = web.listen("0.0.0.0", 80)
    guest.listen("0.0.0.0", 80)
    assert silent(guest.open(), (_ip(made), 80))
    assert silent(web.open(), (_ip(at_guest), 80))
    site.publish(PublishedPort("", 8080, "tcp", 80, _ip(made)))
    peer, _ = talk(guest.open(), server, ("198.51.100.1", 8080))
    assert peer[0] == _ip(at_guest)
    site.publish(PublishedPort("127.0.0.1", 8080, "tcp", 80, _ip(made)))
    assert silent(guest.open(), ("198.51.100.1", 8080))


def test_a_flushed_ruleset_is_noticed_and_put_back(site: Site) -> None:
    site.network("front")
    before = site.host.run("nft", "list", "ruleset")
    events = site.closing(watch())
    assert unheard(events)
    site.host.run("nft", "flush", "ruleset")
    assert not unheard(events)
    events.drain()
    assert unheard(events)
    assert not is_published(site.firewall, site.stack)
    site.publish()
    assert is_published(site.firewall, site.stack)
    assert site.host.run("nft", "list", "ruleset") == before
