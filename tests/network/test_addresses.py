"""Choosing subnets and addresses: tables and properties."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.errors import ConflictError, StackFileError
from composer.model.stack import FrozenMap, IpamPool, Network
from composer.network.addresses import Pool, choose, claim, free_subnet, mac_of, pools, unique_local

DIGEST = bytes(range(32))


@pytest.mark.parametrize(
    ("taken", "subnet"),
    [
        ([], "172.17.0.0/16"),
        (["172.17.0.0/16"], "172.18.0.0/16"),
        (["172.17.5.0/24", "172.18.0.0/15"], "172.20.0.0/16"),
        (["172.16.0.0/12"], "192.168.0.0/20"),
        (["172.16.0.0/12", "192.168.1.0/24"], "192.168.16.0/20"),
        (["172.16.0.0/12", "192.168.0.0/16"], "10.64.0.0/20"),
        (["10.0.0.0/8", "0.0.0.0/1", "128.0.0.0/1"], "172.17.0.0/16"),
        (["fd00::/8", "172.17.3.3/32"], "172.18.0.0/16"),
    ],
)
def test_the_first_subnet_that_nobody_uses(taken: list[str], subnet: str) -> None:
    assert free_subnet(taken) == subnet


def test_no_subnet_left() -> None:
    with pytest.raises(ConflictError, match="every default address pool"):
        free_subnet(["172.16.0.0/12", "192.168.0.0/16", "10.0.0.0/8"])


@given(
    st.lists(
        st.ip_addresses(v=4).flatmap(lambda a: st.integers(8, 32).map(lambda n: f"{a}/{n}")), max_size=30
    )
)
def test_a_chosen_subnet_overlaps_nothing(taken: list[str]) -> None:
    try:
        subnet = ipaddress.ip_network(free_subnet(taken))
    except ConflictError:
        return
    assert not any(subnet.overlaps(ipaddress.ip_network(net, strict=False)) for net in taken)


def test_more_than_a_thousand_networks_fit() -> None:
    taken: list[str] = []
    for _ in range(200):
        taken.append(free_subnet(taken))
    assert len(set(taken)) == 200


def test_unique_local_addresses() -> None:
    first = unique_local(DIGEST, ())
    assert ipaddress.IPv6Network(first).subnet_of(ipaddress.IPv6Network("fd00::/8"))
    assert unique_local(DIGEST, (first,)) != first


def network(*ipam: IpamPool, **fields: Any) -> Network:
    return Network("front", "demo_front", ipam=ipam, **fields)


def test_pools_of_a_plain_network() -> None:
    assert pools(network(), [], DIGEST) == (Pool("172.17.0.0/16", "172.17.0.1"),)
    both = pools(network(enable_ipv6=True), [], DIGEST)
    assert [pool.version for pool in both] == [4, 6]
    only = pools(network(enable_ipv4=False, enable_ipv6=True), [], DIGEST)
    assert [pool.version for pool in only] == [6]


def test_pools_as_asked() -> None:
    aux = FrozenMap({"router": "172.28.5.254"})
    asked = IpamPool("172.28.1.2/16", "172.28.5.1", "172.28.5.0/24", aux)
    assert pools(network(asked), [], DIGEST) == (
        Pool("172.28.0.0/16", "172.28.5.1", "172.28.5.0/24", ("172.28.5.254",)),
    )
    assert [pool.subnet for pool in pools(network(asked, IpamPool("2001:db8::/64")), [], DIGEST)] == [
        "172.28.0.0/16",
        "2001:db8::/64",
    ]


@pytest.mark.parametrize(
    ("ipam", "message"),
    [
        (IpamPool("172.28.0.0/33"), "'172.28.0.0/33' is not a subnet"),
        (IpamPool("banana"), "'banana' is not a subnet"),
        (IpamPool("172.28.0.0/31"), "no room"),
        (IpamPool("172.28.0.0/16", "10.0.0.1"), "gateway 10.0.0.1 is not inside the subnet 172.28.0.0/16"),
        (IpamPool("172.28.0.0/16", "fd00::1"), "gateway fd00::1 is not inside"),
        (IpamPool("172.28.0.0/16", "x"), "gateway 'x' is not an IP address"),
        (IpamPool("172.28.0.0/16", "", "10.0.0.0/24"), "ip_range 10.0.0.0/24 is not inside"),
        (IpamPool("172.28.0.0/16", "", "fd00::/64"), "ip_range fd00::/64 is not inside"),
        (IpamPool("172.28.0.0/16", "", "", FrozenMap({"a": "10.0.0.1"})), "a 10.0.0.1 is not inside"),
        (IpamPool("", "172.28.0.1"), "needs a subnet as well"),
    ],
)
def test_ipam_that_makes_no_sense(ipam: IpamPool, message: str) -> None:
    with pytest.raises(StackFileError, match=message) as caught:
        pools(network(ipam), [], DIGEST)
    assert caught.value.complaints[0].path == ("networks", "front", "ipam", "config", 0)


def test_subnets_that_overlap_each_other() -> None:
    with pytest.raises(StackFileError, match="overlap"):
        pools(network(IpamPool("10.1.0.0/16"), IpamPool("10.1.2.0/24")), [], DIGEST)


SMALL = Pool("192.0.2.0/29", "192.0.2.1", "", ("192.0.2.4",))


def test_addresses_go_round_and_freed_ones_come_back_last() -> None:
    taken: set[str] = set()
    last = ""
    got = []
    for _ in range(4):
        last = choose(SMALL, taken, last) or ""
        taken.add(last)
        got.append(last)
    assert got == ["192.0.2.2", "192.0.2.3", "192.0.2.5", "192.0.2.6"]
    assert choose(SMALL, taken, last) is None
    taken -= {"192.0.2.2", "192.0.2.5"}
    assert choose(SMALL, taken, "192.0.2.3") == "192.0.2.5"
    assert choose(SMALL, taken, "192.0.2.6") == "192.0.2.2"


def test_a_range_is_kept_to() -> None:
    pool = Pool("192.0.2.0/24", "192.0.2.1", "192.0.2.128/30")
    assert choose(pool, (), "") == "192.0.2.128"
    assert choose(pool, (), "192.0.2.131") == "192.0.2.128"
    assert choose(pool, {f"192.0.2.{n}" for n in range(128, 132)}, "") is None


@st.composite
def stories(draw: st.DrawFn) -> tuple[Pool, list[int]]:
    """A pool, and a list of takings (negative numbers) and givings back (which one)."""
    size = draw(st.integers(26, 30))
    base = ipaddress.ip_network(f"192.0.2.0/{size}")
    v6 = draw(st.booleans())
    subnet = ipaddress.ip_network("2001:db8::/64") if v6 else base
    hosts = [str(subnet.network_address + n) for n in range(1, 4)]
    reserved = tuple(draw(st.lists(st.sampled_from(hosts[1:]), max_size=2, unique=True)))
    return Pool(str(subnet), hosts[0], "", reserved), draw(st.lists(st.integers(-3, 60), max_size=120))


@given(stories())
def test_no_address_is_given_twice_and_none_is_lost(story: tuple[Pool, list[int]]) -> None:
    pool, steps = story
    subnet = ipaddress.ip_network(pool.subnet)
    never = {pool.gateway, *pool.reserved, str(subnet.network_address)}
    if subnet.version == 4:
        never.add(str(subnet.broadcast_address))
    room = subnet.num_addresses - len(never)
    held: list[str] = []
    last = ""
    for step in steps:
        if step < 0 or not held:
            got = choose(pool, held, last)
            assert (got is None) == (len(held) == room)
            if got is not None:
                assert got not in held
                assert got not in never
                assert ipaddress.ip_address(got) in subnet
                held.append(got)
                last = got
        else:
            held.pop(step % len(held))


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("10.0.0.1", "is not in network n"),
        ("192.0.2.1", "is set aside"),
        ("192.0.2.4", "is set aside"),
        ("192.0.2.0", "is set aside"),
        ("192.0.2.7", "is set aside"),
        ("192.0.2.3", "belongs to demo/other"),
    ],
)
def test_a_fixed_address_that_cannot_be_had(wanted: str, message: str) -> None:
    with pytest.raises(ConflictError, match=message):
        claim([SMALL], {"192.0.2.3": "demo/other"}, wanted, "demo/web", "n")


def test_a_fixed_address_may_be_outside_of_the_range_and_held_already() -> None:
    pool = Pool("192.0.2.0/24", "192.0.2.1", "192.0.2.128/25")
    assert claim([pool], {"192.0.2.9": "demo/web"}, "192.0.2.9", "demo/web", "n") == pool


def test_macs() -> None:
    assert mac_of("172.18.0.2", DIGEST) == "02:42:ac:12:00:02"
    assert mac_of("fd00::2", DIGEST) == mac_of("", DIGEST) == "02:42:00:01:02:03"
