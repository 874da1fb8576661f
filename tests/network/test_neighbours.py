"""Beside Docker, ufw and others: their chains made by iptables itself, ours among them."""

from __future__ import annotations

import pytest

from composer.network.nft.neighbours import chains, findings, goes_around, who_decides
from composer.network.nft.rules import PublishedPort
from composer.network.publish import unpublish
from tests.network.conftest import Host, Space, silent, talk
from tests.network.site import Site

pytestmark = pytest.mark.kernel

DOCKER = """*filter
:INPUT ACCEPT
:FORWARD DROP
:OUTPUT ACCEPT
:DOCKER -
:DOCKER-USER -
-A FORWARD -j DOCKER-USER
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A DOCKER-USER -j RETURN
COMMIT
"""
UFW = """*filter
:INPUT DROP
:FORWARD DROP
:OUTPUT ACCEPT
:ufw-before-input -
:ufw-before-forward -
:ufw-user-forward -
-A INPUT -j ufw-before-input
-A ufw-before-input -i lo -j ACCEPT
-A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -j ufw-before-forward
-A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-forward -j ufw-user-forward
COMMIT
"""


def restore(host: Host, text: str) -> None:
    path = host.scratch("rules", text)
    host.run("sh", "-c", f"iptables-nft-restore < {path}")


def published(site: Site) -> tuple[Space, Space, str]:
    """A neighbour, a container that is published on 8080, and its address."""
    site.network("front")
    other = site.host.neighbour()
    web, made = site.container("web-1", "front")
    address = made[0].addresses[0].partition("/")[0]
    site.publish(PublishedPort("", 8080, "tcp", 80, address))
    return other, web, address


def test_beside_docker_everything_works(site: Site) -> None:
    restore(site.host, DOCKER)
    other, web, address = published(site)
    server = web.listen("0.0.0.0", 80)
    talk(other.open(), server, ("198.51.100.1", 8080))
    talk(web.open(), other.listen("0.0.0.0", 81), ("198.51.100.2", 81))
    peer, _ = site.container("peer-1", "front")
    talk(peer.open(), server, (address, 80))
    talk(web.open(), server, ("198.51.100.1", 8080))


def test_dockers_containers_stay_apart(site: Site) -> None:
    restore(site.host, DOCKER)
    site.host.run("ip", "link", "add", "docker0", "type", "bridge")
    site.host.run("ip", "address", "add", "172.17.0.1/16", "dev", "docker0")
    site.host.run("ip", "link", "set", "docker0", "up")
    docker = site.host.space()
    site.host.run(
        "ip",
        "link",
        "add",
        "dv",
        "master",
        "docker0",
        "up",
        "type",
        "veth",
        "peer",
        "eth0",
        "netns",
        str(docker.pid),
    )
    docker.run(
        "sh",
        "-c",
        "ip addr add 172.17.0.9/16 dev eth0; ip link set eth0 up; ip route add default via 172.17.0.1",
    )
    _, web, address = published(site)
    assert address.startswith("172.18.")
    docker.listen("0.0.0.0", 80)
    web.listen("0.0.0.0", 80)
    assert silent(web.open(), ("172.17.0.9", 80))
    assert silent(docker.open(), (address, 80))


def test_our_rules_are_iptables_own_and_go_with_the_stack(site: Site) -> None:
    restore(site.host, DOCKER)
    before = site.host.run("iptables-nft-save")
    record = site.network("front")
    listed = site.host.run("iptables-nft", "-S", "FORWARD")
    for way in "io":
        rule = f'-A FORWARD -{way} {record.link} -m comment --comment "composer demo" -j ACCEPT'
        assert listed.count(rule) == 1
    site.publish()
    assert site.host.run("iptables-nft", "-S", "FORWARD") == listed
    unpublish(site.firewall, site.stack)

    def rules(text: str) -> list[str]:
        return [line.partition("[")[0] for line in text.splitlines() if not line.startswith("#")]

    assert rules(site.host.run("iptables-nft-save")) == rules(before)


def test_beside_ufw_it_decides_who_may_come_in(site: Site) -> None:
    restore(site.host, UFW)
    other, web, _ = published(site)
    server = web.listen("0.0.0.0", 80)
    talk(web.open(), other.listen("0.0.0.0", 81), ("198.51.100.2", 81))
    talk(site.host.open(), server, ("198.51.100.1", 8080))
    assert silent(other.open(), ("198.51.100.1", 8080))
    assert any("ufw route allow" in finding.remedy for finding in findings(site.firewall))
    site.host.run("iptables-nft", "-A", "ufw-user-forward", "-p", "tcp", "--dport", "80", "-j", "ACCEPT")
    talk(other.open(), server, ("198.51.100.1", 8080))


def test_a_denial_by_the_administrator_stands(site: Site) -> None:
    restore(site.host, DOCKER)
    site.host.run("iptables-nft", "-I", "DOCKER-USER", "-p", "tcp", "--dport", "80", "-j", "DROP")
    other, web, _ = published(site)
    web.listen("0.0.0.0", 80)
    assert silent(other.open(), ("198.51.100.1", 8080))


def test_a_forward_policy_of_others_is_found(site: Site) -> None:
    site.network("front")
    assert findings(site.firewall) == []
    site.host.run("nft", "add table inet mine")
    site.host.run("nft", "add chain inet mine wall { type filter hook forward priority 0; policy drop; }")
    site.host.run("nft", "add table inet firewalld")
    site.host.run(
        "nft", "add chain inet firewalld f { type filter hook forward priority 10; policy accept; }"
    )
    site.host.run("sysctl", "-qw", "net.ipv4.ip_forward=0")
    problems = [finding.problem for finding in findings(site.firewall)]
    assert [problem.split(" ")[0:3] for problem in problems] == [
        ["the", "nftables", "chain"],
        ["firewalld", "rejects", "what"],
        ["ipv4.ip_forward", "is", "off:"],
    ]


def test_published_ports_that_go_around_the_input_chain_are_found(site: Site) -> None:
    """Reachable as with Docker, and said so, unless a firewall decides about what is forwarded."""
    site.host.run("nft", "add table inet wall")
    site.host.run("nft", "add chain inet wall in { type filter hook input priority 0; policy drop; }")
    other, web, _ = published(site)
    server = web.listen("0.0.0.0", 80)
    talk(other.open(), server, ("198.51.100.1", 8080))
    assert goes_around(chains(site.firewall)) == "wall in"
    assert "other hosts reach them" in findings(site.firewall)[0].problem
    site.host.run("nft", "add chain inet wall f { type filter hook forward priority 0; }")
    rule = 'iifname != "lo" oifname "ct-*" ct status dnat drop'
    site.host.run("nft", "add rule inet wall f " + rule)
    assert silent(other.open(), ("198.51.100.1", 8080))
    site.host.run("nft", "flush table inet wall")
    site.host.run("nft", "add chain inet wall f { policy drop; }")
    assert who_decides(chains(site.firewall)) == "the nftables chain wall f"
    assert goes_around(chains(site.firewall)) == ""
    site.host.run("nft", 'add rule inet wall f iifname "ct-*" accept')
    site.host.run("nft", 'add rule inet wall f oifname "ct-*" ct state established,related accept')
    assert silent(other.open(), ("198.51.100.1", 8080))
    talk(web.open(), other.listen("0.0.0.0", 81), ("198.51.100.2", 81))
    site.host.run("nft", 'add rule inet wall f oifname "ct-*" ct status dnat accept')
    talk(other.open(), server, ("198.51.100.1", 8080))


def test_beside_firewalld_as_told(site: Site) -> None:
    """Its forward chain ends with a reject; our bridges in its trusted zone are let through."""
    other, web, _ = published(site)
    server = web.listen("0.0.0.0", 80)
    site.host.run("nft", "add table inet firewalld")
    hook = "type filter hook forward priority 10; policy accept;"
    site.host.run("nft", "add chain inet firewalld filter_FORWARD { " + hook + " }")
    chain = ("inet", "firewalld", "filter_FORWARD")
    site.host.run("nft", "add", "rule", *chain, "ct state { established, related } accept")
    site.host.run("nft", "add", "rule", *chain, "reject with icmpx admin-prohibited")
    assert silent(other.open(), ("198.51.100.1", 8080))
    assert silent(web.open(), ("198.51.100.2", 22))
    talk(site.host.open(), server, ("198.51.100.1", 8080))
    assert who_decides(chains(site.firewall)) == "firewalld"
    assert any("--zone=trusted" in finding.remedy for finding in findings(site.firewall))
    for way in ("iifname", "oifname"):
        site.host.run("nft", "insert", "rule", *chain, way, '"ct-*"', "accept")
    talk(other.open(), server, ("198.51.100.1", 8080))
    talk(web.open(), other.listen("0.0.0.0", 81), ("198.51.100.2", 81))


def filter_bridged(site: Site, value: str) -> None:
    """Whether iptables sees what is bridged. Who wants that loads the module for it, as Docker does."""
    settings = [f"net.bridge.bridge-nf-call-{table}={value}" for table in ("iptables", "ip6tables")]
    if site.host.status("sysctl", "-qw", *settings):
        site.host.run("modprobe", "br_netfilter")
        site.host.run("sysctl", "-qw", *settings)


@pytest.mark.parametrize("value", ["0", "1"])
def test_with_and_without_br_netfilter(site: Site, value: str) -> None:
    filter_bridged(site, value)
    other, web, address = published(site)
    peer, _ = site.container("peer-1", "front")
    server = web.listen("0.0.0.0", 80)
    for client in (other, site.host, web, peer):
        talk(client.open(), server, ("198.51.100.1", 8080))
    seen, _ = talk(peer.open(), server, (address, 80))
    assert seen[0].startswith("172.17.0.")


@pytest.mark.parametrize("value", ["0", "1"])
def test_containers_that_may_not_talk(site: Site, value: str) -> None:
    filter_bridged(site, value)
    site.network("front", driver_opts={"com.docker.network.bridge.enable_icc": "false"})
    site.host.neighbour()
    (web, made), (peer, _) = site.container("web-1", "front"), site.container("peer-1", "front")
    address = made[0].addresses[0].partition("/")[0]
    server = web.listen("0.0.0.0", 80)
    assert silent(peer.open(), (address, 80))
    site.publish(PublishedPort("", 8080, "tcp", 80, address))
    # br_netfilter translates while a frame is being bridged, so it meets the isolation of the ports.
    if value == "1":
        assert silent(peer.open(), ("198.51.100.1", 8080))
    else:
        talk(peer.open(), server, ("198.51.100.1", 8080))
    talk(site.host.open(), server, (address, 80))
