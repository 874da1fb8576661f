"""Which names there are on which network."""

from __future__ import annotations

import pytest

from composer.network.dns.message import (
    AAAA,
    PTR,
    A,
    address_record,
    encode_name,
    pointer_record,
    reverse_name,
)
from composer.network.dns.zone import EndpointName, Node, Zone, zone

WEB1 = EndpointName(
    "front", "shop-web-1", "web", "0123456789ab", ("www", "api.local"), ("10.0.0.2", "fd00::2")
)
WEB2 = EndpointName("front", "shop-web-2", "web", "ba9876543210", ("www",), ("10.0.0.3",))
DB = EndpointName("back", "shop-db-1", "db", "abcdefabcdef", (), ("10.9.0.2",))
STACK = zone([WEB1, WEB2, DB])


def records(*addresses: str) -> dict[int, tuple[bytes, ...]]:
    found: dict[int, tuple[bytes, ...]] = {}
    for kind, record in (address_record(address, 0) for address in addresses):
        found[kind] = (*found.get(kind, ()), record)
    return found


def find(name: str, *networks: str, where: Zone = STACK) -> Node | None:
    return where.find(networks, encode_name(name))


BOTH = records("10.0.0.2", "fd00::2", "10.0.0.3")
FIRST = records("10.0.0.2", "fd00::2")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("web", BOTH),
        ("WEB", BOTH),
        ("web.front", BOTH),
        ("www", BOTH),
        ("www.front", BOTH),
        ("shop-web-1", FIRST),
        ("shop-web-1.front", FIRST),
        ("0123456789ab", FIRST),
        ("0123456789ab.front", FIRST),
        ("api.local", FIRST),
        ("api.local.front", FIRST),
        ("db", None),
        ("db.back", None),
        ("local", None),
        ("front", None),
        ("web.back", None),
        ("web.front.front", None),
    ],
)
def test_names_on_a_network(name: str, expected: Node | None) -> None:
    assert find(name, "front") == expected


def test_an_asker_on_several_networks_sees_the_names_of_each() -> None:
    assert find("web", "back", "front") == BOTH
    assert find("db", "front", "back") == records("10.9.0.2")


def test_where_networks_share_a_name_the_first_answers() -> None:
    both = zone([DB, DB.replace(network="front", addresses=("10.0.0.7",))])
    assert find("db", "back", "front", where=both) == records("10.9.0.2")
    assert find("db", "front", "back", where=both) == records("10.0.0.7")
    assert find("db.front", "back", "front", where=both) == records("10.0.0.7")


def test_addresses_lead_back_to_the_container() -> None:
    pointer = {PTR: (pointer_record("shop-web-1.front", 0),)}
    for address in ("10.0.0.2", "fd00::2"):
        assert STACK.find(["front"], reverse_name(address)) == pointer
        assert STACK.find(["back"], reverse_name(address)) is None
    assert find("shop-web-1.front", "front") == FIRST


def test_a_name_without_addresses_exists_and_has_no_data() -> None:
    assert find("db", "back", where=zone([DB.replace(addresses=())])) == {}


def test_a_name_that_is_both_service_and_alias_has_each_address_once() -> None:
    twice = zone([WEB1.replace(aliases=("web", "shop-web-1"))])
    assert find("web", "front", where=twice) == FIRST


def test_services_may_share_an_alias() -> None:
    node = find(
        "any",
        "front",
        where=zone([WEB2.replace(aliases=("any",)), DB.replace(network="front", aliases=("any",))]),
    )
    assert node is not None
    assert node[A] == records("10.0.0.3", "10.9.0.2")[A]
    assert AAAA not in node


@pytest.mark.parametrize("bad", ["x" * 64, "a..b", "."])
def test_what_no_dns_name_can_spell_is_left_out(bad: str) -> None:
    odd = zone([WEB1.replace(container=bad, aliases=(bad, "www"))])
    assert find("www", "front", where=odd) == FIRST
    assert odd.find(["front"], reverse_name("10.0.0.2")) is None


def test_a_name_too_long_with_its_network_is_known_without() -> None:
    long = ".".join(["a" * 60] * 4)
    for network, known in ("b" * 9, True), ("b" * 10, False):
        names = zone([DB.replace(network=network, service=long)]).networks[network]
        plain, behind = encode_name(long), encode_name(network)
        assert plain in names
        assert (plain[:-1] + behind in names) is known


def test_a_bad_address_is_an_error() -> None:
    with pytest.raises(ValueError, match="not an IP address"):
        zone([WEB1.replace(addresses=("10.0.0.2/16",))])


def test_a_network_nobody_is_on_has_no_names() -> None:
    assert find("web", "nowhere") is None
    assert find("web") is None
    assert find("web", "front", where=zone([])) is None
