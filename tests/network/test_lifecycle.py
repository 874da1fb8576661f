"""Networks from the first `up` to the last `down`."""

from __future__ import annotations

import pytest

from composer.errors import ConflictError, NotFoundError
from composer.model.stack import FrozenMap, IpamPool, Network
from composer.network import links, registry
from composer.network.lifecycle import ensure_network, raise_link, remove_network, remove_networks
from composer.network.nft.rules import BRIDGE_GROUP
from composer.paths import Paths
from tests.network.conftest import Host

pytestmark = pytest.mark.kernel

FRONT = Network("front", "demo_front")


def test_a_bridge_with_its_gateway(host: Host, paths: Paths) -> None:
    notices: list[str] = []
    host.run("sysctl", "-qw", "net.ipv4.ip_forward=0")
    options = FrozenMap({"com.docker.network.driver.mtu": "1400"})
    record = ensure_network(paths, "demo", FRONT.replace(driver_opts=options), notices.append)
    link = links.find(host.netlink, [record.link])[record.link]
    assert (link.kind, link.mtu, link.up) == ("bridge", 1400, True)
    assert "172.17.0.1/16" in host.run("ip", "address", "show", record.link)
    assert f"group {BRIDGE_GROUP}" in host.run("ip", "link", "show", record.link)
    assert host.run("sysctl", "-n", "net.ipv4.ip_forward") == "1\n"
    assert host.run("sysctl", "-n", f"net.ipv4.conf.{record.link}.route_localnet") == "1\n"
    assert notices == ["turned ipv4.ip_forward on, which containers need to reach other hosts"]


def test_again_is_nothing(host: Host, paths: Paths) -> None:
    first = ensure_network(paths, "demo", FRONT)
    before = host.run("ip", "address")
    assert ensure_network(paths, "demo", FRONT) == first
    assert host.run("ip", "address") == before


@pytest.mark.parametrize("damage", ["delete", "down", "no address"])
def test_what_a_crash_or_reboot_left_is_mended(host: Host, paths: Paths, damage: str) -> None:
    record = ensure_network(paths, "demo", FRONT)
    if damage == "delete":
        host.run("ip", "link", "delete", record.link)
    else:
        host.run("ip", "link", "set", record.link, "down")
        host.run("ip", "address", "flush", "dev", record.link)
    ensure_network(paths, "demo", FRONT)
    shown = host.run("ip", "address", "show", record.link)
    assert "172.17.0.1/16" in shown
    assert ",UP" in shown


def test_other_interfaces_are_not_taken_over(host: Host, paths: Paths) -> None:
    host.run("ip", "link", "add", "mine", "type", "veth", "peer", "yours")
    options = FrozenMap({"com.docker.network.bridge.name": "mine"})
    with pytest.raises(ConflictError, match="mine is not a bridge"):
        ensure_network(paths, "demo", FRONT.replace(driver_opts=options))


def test_host_routes_are_avoided(host: Host, paths: Paths) -> None:
    host.run("ip", "route", "add", "172.16.0.0/12", "dev", "lo")
    assert ensure_network(paths, "demo", FRONT).pools[0].subnet == "192.168.0.0/20"


def test_external_networks(host: Host, paths: Paths) -> None:
    outside = Network("shared", "shared", external=True)
    with pytest.raises(NotFoundError, match="external network shared does not exist") as caught:
        ensure_network(paths, "demo", outside)
    assert caught.value.hint == "make it with `composer network create shared`"
    made = ensure_network(paths, "", Network("shared", "shared"))
    assert ensure_network(paths, "demo", outside) == made
    with pytest.raises(ConflictError, match="exists already, made by `composer network create`"):
        ensure_network(paths, "demo", Network("shared", "shared"))


def test_other_settings_are_a_conflict(host: Host, paths: Paths) -> None:
    ensure_network(paths, "demo", FRONT)
    with pytest.raises(ConflictError, match="exists with another ipam"):
        ensure_network(paths, "demo", FRONT.replace(ipam=(IpamPool("10.9.0.0/24"),)))
    with pytest.raises(ConflictError, match="made by stack demo"):
        ensure_network(paths, "other", FRONT)


def test_removing(host: Host, paths: Paths) -> None:
    before = host.run("ip", "-o", "link")
    networks = [Network(f"n{number}", f"n{number}", enable_ipv6=True) for number in range(5)]
    records = [ensure_network(paths, "demo", network) for network in networks]
    remove_network(paths, "n0")
    remove_network(paths, "n0")
    remove_networks(paths, records)
    assert host.run("ip", "-o", "link") == before
    assert registry.networks(paths) == []


def test_a_network_that_another_stack_uses_is_not_removed(host: Host, paths: Paths) -> None:
    record = ensure_network(paths, "demo", FRONT)
    registry.lease(paths, record, "demo/web-1")
    registry.lease(paths, record, "other/web-1")
    with pytest.raises(ConflictError, match="demo_front is in use by other/web-1"):
        remove_network(paths, "demo_front")
    assert registry.find(paths, "demo_front") == record
    registry.release(paths, ["other/web-1"])
    remove_network(paths, "demo_front")


@pytest.mark.parametrize("driver", ["host", "none"])
def test_drivers_without_interfaces(host: Host, paths: Paths, driver: str) -> None:
    before = host.run("ip", "-o", "link")
    record = ensure_network(paths, "demo", FRONT.replace(driver=driver))
    raise_link(host.netlink, record)
    assert record.pools == ()
    remove_network(paths, record.name)
    assert host.run("ip", "-o", "link") == before
