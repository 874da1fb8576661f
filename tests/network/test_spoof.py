"""A container that forges: frames put on the wire as they are, and a neighbour that must not hear them."""

from __future__ import annotations

import socket
import struct
import subprocess

import pytest

from composer.network import links
from composer.network.nft import apply, spoof
from composer.network.nft.table import render
from composer.network.publish import firewall, unpublish
from composer.paths import Paths
from tests.network.conftest import Host, icmp6, talk, udp
from tests.network.site import Site

pytestmark = pytest.mark.kernel

ARP, IP, IP6, VLAN = 0x0806, 0x0800, 0x86DD, 0x8100
BROADCAST = b"\xff" * 6
OWN, OTHER, VICTIM = "172.17.0.2", "172.17.0.3", "172.17.0.9"


def heard(listener: socket.socket, marker: bytes) -> bool:
    """Whether a frame with `marker` comes by, before one that the host sends as the last."""
    found = False
    while b"THE END" not in (frame := listener.recv(2000)):
        found = found or marker in frame
    return found


class Segment:
    """A forger and a neighbour on one network, and what the neighbour's wire carries."""

    def __init__(self, site: Site, **fields: bool) -> None:
        self.site = site
        self.record = site.network("front", **fields)
        self.forger, self.at_forger = site.container("forger-1", "front")
        self.neighbour, self.at_neighbour = site.container("neighbour-1", "front")
        with self.neighbour.inside():
            self.wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self.wire.settimeout(5)
        self.wire.bind(("eth0", 3))
        self.own = bytes.fromhex(self.at_forger[0].mac.replace(":", ""))
        self.other = bytes.fromhex(self.at_neighbour[0].mac.replace(":", ""))

    def passes(
        self, packet: bytes, protocol: int, source: bytes | None = None, to: bytes | None = None
    ) -> bool:
        with self.forger.inside(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind(("eth0", protocol))
            raw.send((to or self.other) + (source or self.own) + protocol.to_bytes(2, "big") + packet)
        self.site.host.send_raw(self.record.link, self.other, b"THE END".ljust(46), 0x88B5)
        return heard(self.wire, packet[:40])

    def close(self) -> None:
        self.wire.close()


@pytest.fixture
def segment(site: Site) -> Segment:
    return site.closing(Segment(site))


def arp(mac: bytes, sender: str, target: str, operation: int = 2) -> bytes:
    head = struct.pack(">HHBBH", 1, IP, 6, 4, operation)
    return (head + mac + socket.inet_aton(sender) + bytes(6) + socket.inet_aton(target)).ljust(46, b"\0")


def test_honest_frames_pass(segment: Segment) -> None:
    assert segment.passes(udp(OWN, OTHER, 9), IP)
    assert segment.passes(arp(segment.own, OWN, OTHER), ARP)
    assert segment.passes(arp(segment.own, "0.0.0.0", OTHER, 1), ARP, to=BROADCAST)


def test_forged_frames_do_not(segment: Segment) -> None:
    assert not segment.passes(udp(VICTIM, OTHER, 9), IP)
    assert not segment.passes(udp(OWN, OTHER, 9), IP, source=b"\x02\x42\xac\x11\x00\x09")
    assert not segment.passes(arp(segment.own, VICTIM, OTHER), ARP)
    assert not segment.passes(arp(segment.own, "172.17.0.1", OTHER), ARP, to=BROADCAST)
    assert not segment.passes(b"\x00\x05\x08\x00" + udp(VICTIM, OTHER, 9), VLAN)
    assert not segment.passes(b"x" * 60, 0x88B6)


def test_a_network_without_ipv6_carries_none(segment: Segment) -> None:
    assert not segment.passes(icmp6("fe80::1", "ff02::1", 134, bytes(12)), IP6, to=b"\x33\x33\0\0\0\1")


def test_router_advertisements_and_redirects(site: Site) -> None:
    segment = site.closing(Segment(site, enable_ipv6=True))
    own, victim = segment.at_forger[0].addresses[1].partition("/")[0], segment.record.gateway(6)
    everyone = b"\x33\x33\0\0\0\1"
    for source in (own, spoof.link_local(segment.at_forger[0].mac)):
        assert not segment.passes(icmp6(source, "ff02::1", 134, bytes(12)), IP6, to=everyone)
        assert not segment.passes(icmp6(source, "ff02::1", 137, bytes(36)), IP6, to=everyone)
        assert segment.passes(icmp6(source, "ff02::1", 128, bytes(4)), IP6, to=everyone)
    assert not segment.passes(icmp6(victim, "ff02::1", 128, bytes(4)), IP6, to=everyone)


def test_unguarded_containers_may(site: Site) -> None:
    """Who may administer its network may take other addresses too."""
    site.guarded = False
    segment = site.closing(Segment(site))
    assert segment.passes(udp(VICTIM, OTHER, 9), IP)
    assert segment.passes(udp(OWN, OTHER, 9), IP, source=b"\x02\x42\xac\x11\x00\x09")


def test_foreign_frames_are_not_flooded_to_a_guarded_port(site: Site) -> None:
    segment = site.closing(Segment(site))
    stranger = b"\x02\x42\xac\x11\x00\x77"
    site.host.send_raw(segment.record.link, stranger, b"for somebody else".ljust(46), 0x88B5)
    site.host.send_raw(segment.record.link, segment.other, b"THE END".ljust(46), 0x88B5)
    assert not heard(segment.wire, b"for somebody else")


def test_a_restarted_container_is_at_home_again(site: Site) -> None:
    site.network("front")
    peer, at_peer = site.container("peer-1", "front")
    server = peer.listen("0.0.0.0", 80)
    target = (at_peer[0].addresses[0].partition("/")[0], 80)
    listed = set()
    for _ in range(3):
        web, _ = site.container("web-1", "front")
        talk(web.open(), server, target)
        with site.host.watch_links() as gone:
            web.end()
            gone("cv")
        listed.add(site.host.run("nft", "list", "table", "bridge", "composer-demo-senders"))
    assert len(listed) == 1


def test_two_stacks_on_one_network(site: Site, host: Host, paths: Paths) -> None:
    record = site.network("front")
    other = site.closing(Site(host, paths, "other"))
    other.records["front"] = record
    other.publish()
    (a, at_a), (b, _) = site.container("a-1", "front"), other.container("b-1", "front")
    talk(b.open(), a.listen("0.0.0.0", 80), (at_a[0].addresses[0].partition("/")[0], 80))


def test_bytes_and_text_are_the_same_rules(host: Host) -> None:
    def listing() -> str:
        return subprocess.run(["nft", "list", "ruleset"], check=True, capture_output=True, text=True).stdout

    table = spoof.table("demo")
    with firewall() as opened:
        apply.add_elements(opened, table, {"senders4": [("02:42:0a:00:00:02", "10.0.0.2")], "senders6": []})
        apply.add_elements(opened, table, {"senders4": [("02:42:0a:00:00:03", "10.0.0.3")], "senders6": []})
        ours = listing()
        unpublish(opened, "demo")
    assert listing() == ""
    elements = (
        (("02:42:0a:00:00:02", "10.0.0.2"), ()),
        (("02:42:0a:00:00:03", "10.0.0.3"), ()),
    )
    full = table.replace(sets=(table.sets[0].replace(elements=elements), table.sets[1]))
    subprocess.run(["nft", "-f", "-"], input=render(full), check=True, text=True)
    assert listing() == ours


def test_link_local_is_what_the_kernel_makes(site: Site) -> None:
    site.network("front", enable_ipv6=True)
    web, made = site.container("web-1", "front")
    assert spoof.link_local(made[0].mac) in web.run("ip", "address", "show", "eth0")
    assert links.find(web.netlink, ["eth0"])["eth0"].mac == made[0].mac
