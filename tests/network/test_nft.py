"""Our rules as the kernel holds them, against nft's own reading of the same text."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from composer.network.netlink import Netlink, NetlinkError
from composer.network.nft import apply, faults, resolver, rules
from composer.network.nft.rules import Bridge, PublishedPort
from composer.network.nft.table import Chain, Rule, Table, render
from composer.network.publish import firewall
from tests.network.conftest import Host

pytestmark = pytest.mark.kernel

BRIDGES = [
    Bridge("ct-a"),
    Bridge("ct-b", internal=True),
    Bridge("ct-c", icc=False),
    Bridge("x", masquerade=False),
]
PORTS = [
    PublishedPort("", 8080, "tcp", 80, "172.18.0.2", "fd00::2"),
    PublishedPort("0.0.0.0", 53, "udp", 53, "172.18.0.3", "fd00::3"),
    PublishedPort("::", 54, "sctp", 53, "172.18.0.3", "fd00::3"),
    PublishedPort("127.0.0.1", 8081, "udp", 80, "172.18.0.2"),
    PublishedPort("192.0.2.2", 8081, "udp", 80, "172.18.0.2"),
    PublishedPort("2001:db8::9", 8081, "udp", 80, "172.18.0.2", "fd00::2"),
    PublishedPort("::1", 8082, "tcp", 80, "172.18.0.2", "fd00::2"),
]


@pytest.fixture
def socket(host: Host) -> Iterator[Netlink]:
    with firewall() as opened:
        yield opened


def listing() -> str:
    return subprocess.run(["nft", "list", "ruleset"], check=True, capture_output=True, text=True).stdout


def as_nft_reads(table: Table) -> str:
    """The kernel's listing after `nft` itself has loaded the text."""
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    subprocess.run(["nft", "-f", "-"], input=render(table), check=True, text=True)
    return listing()


@pytest.mark.parametrize(
    ("bridges", "ports"), [([], []), (BRIDGES, []), (BRIDGES[:1], PORTS[:1]), (BRIDGES, PORTS)]
)
def test_bytes_and_text_are_the_same_rules(
    socket: Netlink, bridges: list[Bridge], ports: list[PublishedPort]
) -> None:
    table = rules.table("demo", bridges, ports)
    apply.replace(socket, table)
    ours = listing()
    assert ours == as_nft_reads(table)
    assert "composer-demo" in ours


@pytest.mark.parametrize("number", [0, 1])
def test_faults_are_what_they_say(socket: Netlink, number: int) -> None:
    apart = frozenset((("172.18.0.2", "172.18.0.3"), ("fd00::2", "fd00::3")))
    disturbed = faults.Faults(apart=apart, cut=frozenset(("02:00:00:00:00:01", "02:00:00:00:00:02")))
    table = faults.tables("demo", disturbed)[number]
    apply.replace(socket, table)
    ours = listing()
    assert ours == as_nft_reads(table)
    assert "172.18.0.3 . 172.18.0.2" in ours
    assert "fd00::2 . fd00::3" in ours


def test_the_resolvers_rules_are_what_they_say(socket: Netlink) -> None:
    table = resolver.table(40053, 40153)
    apply.replace(socket, table)
    ours = listing()
    assert ours == as_nft_reads(table)
    assert "udp dport 53 notrack udp dport set 40053" in ours
    assert "tcp sport 40153 notrack tcp sport set 53" in ours


def test_a_saved_ruleset_can_be_loaded_again(socket: Netlink) -> None:
    apply.replace(socket, rules.table("demo", BRIDGES, PORTS))
    saved = listing()
    subprocess.run(["nft", "-f", "-"], input="flush ruleset\n" + saved, check=True, text=True)
    assert listing() == saved


def test_replacing_is_complete_and_deleting_leaves_nothing(socket: Netlink) -> None:
    apply.replace(socket, rules.table("demo", BRIDGES, PORTS))
    apply.replace(socket, rules.table("demo", BRIDGES[:1], []))
    assert "ct-b" not in listing()
    assert "8080" not in listing()
    apply.delete(socket, "composer-demo")
    apply.delete(socket, "composer-demo")
    assert listing() == ""


def test_stacks_do_not_touch_each_other(socket: Netlink) -> None:
    apply.replace(socket, rules.table("a", BRIDGES[:1], PORTS[:1]))
    alone = listing()
    apply.replace(socket, rules.table("b", BRIDGES[1:], PORTS[1:]))
    apply.delete(socket, rules.table_name("b"))
    assert listing() == alone


def test_the_number_of_rules_does_not_grow() -> None:
    def count(number: int) -> int:
        bridges = [Bridge(f"ct-{n}") for n in range(number)]
        ports = [PublishedPort("", 1000 + n, "tcp", 80, "172.18.0.2") for n in range(number)]
        return sum(len(chain.rules) for chain in rules.table("demo", bridges, ports).chains)

    assert count(1) == count(500)


def test_thousands_of_ports_are_one_transaction(socket: Netlink) -> None:
    ports = [PublishedPort("", 1000 + n, "tcp", 80, "172.18.0.2", "fd00::2") for n in range(5000)]
    apply.replace(socket, rules.table("demo", BRIDGES, ports))
    assert "tcp . 5999 : 172.18.0.2 . 80" in listing()


def test_a_refused_transaction_changes_nothing(socket: Netlink) -> None:
    apply.replace(socket, rules.table("demo", BRIDGES, PORTS))
    before = listing()
    chain = Chain("bad", "nat", "prerouting", -100, (Rule("bad", b"\x04\x00\x01\x80"),))
    table = rules.table("demo", [], [])
    with pytest.raises(NetlinkError, match="bad"):
        apply.replace(socket, table.replace(chains=(*table.chains, chain)))
    assert listing() == before


def test_what_leads_where() -> None:
    assert rules.leads_to(PORTS, "udp") == {
        ("", 53): ("172.18.0.3", 53),
        ("127.0.0.1", 8081): ("172.18.0.2", 80),
        ("192.0.2.2", 8081): ("172.18.0.2", 80),
        ("2001:db8::9", 8081): ("fd00::2", 80),
    }


def test_a_table_remembers_its_udp_ports(socket: Netlink) -> None:
    assert apply.numbers(socket, "composer-demo", rules.UDP_PORTS) == set()
    ports = [PublishedPort("", 2000 + n, "udp", 80, "172.18.0.2") for n in range(1500)]
    apply.replace(socket, rules.table("demo", BRIDGES, [*ports, *PORTS]))
    assert apply.numbers(socket, "composer-demo", rules.UDP_PORTS) == {53, 8081, *range(2000, 3500)}


_addresses = st.one_of(st.just(""), st.ip_addresses().map(str))
_ports = st.builds(
    PublishedPort,
    host_ip=_addresses,
    host_port=st.integers(1, 65535),
    protocol=st.sampled_from(["tcp", "udp", "sctp"]),
    target=st.integers(1, 65535),
    ipv4=st.ip_addresses(v=4).map(str),
    ipv6=st.ip_addresses(v=6).map(str),
)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_ports, max_size=6))
def test_any_ports_give_rules_that_nft_understands(socket: Netlink, ports: list[PublishedPort]) -> None:
    table = rules.table("demo", BRIDGES, ports)
    apply.replace(socket, table)
    ours = listing()
    assert ours == as_nft_reads(table)
