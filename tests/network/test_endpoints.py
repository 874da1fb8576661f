"""A container's interfaces: arranged, made, changed while it runs."""

from __future__ import annotations

import socket

import pytest

from composer.errors import NotFoundError
from composer.model.stack import Attachment, FrozenMap
from composer.network.addresses import Pool
from composer.network.endpoints import Endpoint, arrange, attach, detach, reroute, statistics
from composer.network.registry import Lease, NetworkRecord
from tests.network.conftest import Host, Space, talk


def place(
    name: str,
    number: int,
    *,
    internal: bool = False,
    v6: bool = False,
    options: dict[str, str] | None = None,
    **wish: object,
) -> tuple[NetworkRecord, Lease, Attachment]:
    pools = [Pool(f"10.0.{number}.0/24", f"10.0.{number}.1")]
    addresses = [f"10.0.{number}.2/24"]
    if v6:
        pools.append(Pool(f"fd00:{number}::/64", f"fd00:{number}::1"))
        addresses.append(f"fd00:{number}::2/64")
    record = NetworkRecord(
        name,
        "ab" * 32,
        "bridge",
        f"br{number}",
        tuple(pools),
        internal=internal,
        options=FrozenMap(options or {}),
    )
    lease = Lease(name, "demo/web-1", tuple(addresses), f"02:42:0a:00:0{number}:02")
    return record, lease, Attachment(**wish)  # type: ignore[arg-type]


def arranged(*places: tuple[NetworkRecord, Lease, Attachment]) -> dict[str, tuple[str, str, str]]:
    return {e.interface: (e.network, e.gateway4, e.gateway6) for e in arrange("web-1", 1, places)}


def test_order_and_default_route_are_by_name_unless_said() -> None:
    assert arranged(place("b", 2), place("a", 1)) == {
        "eth0": ("a", "10.0.1.1", ""),
        "eth1": ("b", "", ""),
    }


def test_priority_orders_and_gw_priority_routes() -> None:
    assert arranged(place("a", 1, gw_priority=1), place("b", 2, priority=5), place("c", 3)) == {
        "eth0": ("b", "", ""),
        "eth1": ("a", "10.0.1.1", ""),
        "eth2": ("c", "", ""),
    }


def test_internal_networks_never_lead_outside() -> None:
    assert arranged(place("a", 1, internal=True, gw_priority=9), place("b", 2)) == {
        "eth0": ("a", "", ""),
        "eth1": ("b", "10.0.2.1", ""),
    }
    assert arranged(place("a", 1, internal=True)) == {"eth0": ("a", "", "")}


def test_ip_versions_are_decided_apart() -> None:
    assert arranged(place("a", 1), place("b", 2, v6=True)) == {
        "eth0": ("a", "10.0.1.1", ""),
        "eth1": ("b", "", "fd00:2::1"),
    }


def test_interface_names() -> None:
    prefix = {"com.docker.network.container_iface_prefix": "lan"}
    assert list(
        arranged(place("a", 1), place("b", 2, interface_name="eth0"), place("c", 3, options=prefix))
    ) == [
        "eth1",
        "eth0",
        "lan0",
    ]


def test_link_local_addresses_are_added() -> None:
    (made,) = arrange("web-1", 1, [place("a", 1, link_local_ips=("169.254.3.4", "fe80::7"))])
    assert made.addresses == ("10.0.1.2/24", "169.254.3.4/16", "fe80::7/64")


@pytest.fixture
def space(host: Host) -> Space:
    for number in (1, 2):
        host.run("ip", "link", "add", f"br{number}", "type", "bridge")
        host.run("ip", "link", "set", f"br{number}", "up")
    return host.space()


def _endpoints(space: Space, *places: tuple[NetworkRecord, Lease, Attachment]) -> list[Endpoint]:
    return arrange("web-1", space.pid, places)


@pytest.mark.kernel
def test_attach_makes_all_interfaces(host: Host, space: Space) -> None:
    attach(host.netlink, space.netlink, _endpoints(space, place("a", 1, v6=True), place("b", 2)))
    shown = space.run("ip", "-o", "address")
    for text in (
        "eth0 inet 10.0.1.2/24",
        "eth0 inet6 fd00:1::2/64",
        "eth1 inet 10.0.2.2/24",
        "lo inet 127.0.0.1",
    ):
        assert text in " ".join(shown.split())
    assert "tentative" not in shown.split("fd00:1::2/64")[1].split("\n")[0]
    assert space.run("ip", "route", "show", "default").split()[:5] == [
        "default",
        "via",
        "10.0.1.1",
        "dev",
        "eth0",
    ]
    assert "via fd00:1::1 dev eth0" in space.run("ip", "-6", "route", "show", "default")
    assert "02:42:0a:00:01:02" in space.run("ip", "link", "show", "eth0")
    assert "inet6" not in space.run("ip", "address", "show", "eth1")


@pytest.mark.kernel
def test_a_container_may_be_connected_and_disconnected_while_it_runs(host: Host, space: Space) -> None:
    first = _endpoints(space, place("b", 2))
    attach(host.netlink, space.netlink, first)
    both = _endpoints(space, place("b", 2, interface_name="eth0"), place("a", 1))
    attach(host.netlink, space.netlink, [e for e in both if e.network == "a"])
    reroute(space.netlink, both)
    assert "via 10.0.1.1" in space.run("ip", "route", "show", "default")
    detach(space.netlink, ["eth1", "eth1"])
    reroute(space.netlink, first)
    assert "via 10.0.2.1" in space.run("ip", "route", "show", "default")
    reroute(space.netlink, [first[0].replace(gateway4="")])
    assert space.run("ip", "route", "show", "default") == ""
    assert host.run("ip", "-o", "link", "show", "type", "veth").count("\n") == 1


@pytest.mark.kernel
def test_statistics_are_the_containers_own_view(host: Host, space: Space) -> None:
    attach(host.netlink, space.netlink, _endpoints(space, place("a", 1)))
    host.run("ip", "address", "add", "10.0.1.1/24", "dev", "br1")
    before = statistics(space.netlink)["eth0"]
    server = space.listen("10.0.1.2", 9, socket.SOCK_DGRAM)
    talk(host.open(kind=socket.SOCK_DGRAM), server, ("10.0.1.2", 9))
    after = statistics(space.netlink)["eth0"]
    assert after.rx_packets - before.rx_packets >= 1
    assert after.tx_bytes - before.tx_bytes >= 47
    assert set(statistics(space.netlink)) == {"eth0"}


@pytest.mark.kernel
def test_a_missing_bridge_is_said(host: Host, space: Space) -> None:
    with pytest.raises(NotFoundError, match="network c: there is no interface br3"):
        attach(host.netlink, space.netlink, _endpoints(space, place("a", 1), place("c", 3)))
    assert "eth0" not in space.run("ip", "link")


@pytest.mark.kernel
def test_interfaces_die_with_the_container(host: Host, space: Space) -> None:
    with host.watch_links() as gone:
        attach(host.netlink, space.netlink, _endpoints(space, place("a", 1)))
        space.end()
        gone("cv")
    assert host.run("ip", "-o", "link", "show", "type", "veth") == ""
