"""Networks and leases on disk."""

from __future__ import annotations

import multiprocessing
import os
import signal
from typing import Any

import pytest

from composer.errors import ConflictError, NotFoundError, StackFileError, UsageError
from composer.model.stack import Attachment, FrozenMap, IpamPool, Network
from composer.network import registry
from composer.network.registry import LeaseRequest, NetworkRecord
from composer.paths import Paths


def make(paths: Paths, name: str = "demo_front", owner: str = "demo", **fields: Any) -> NetworkRecord:
    return registry.create(paths, owner, Network("front", name, **fields), [])


def addresses(paths: Paths, record: NetworkRecord, *slots: str) -> list[str]:
    got = registry.leases(paths, [LeaseRequest(record, slot) for slot in slots])
    return [lease.addresses[0] for lease in got]


def test_a_record_survives(paths: Paths) -> None:
    made = make(
        paths,
        labels=FrozenMap({"a": "b"}),
        driver_opts=FrozenMap({"com.docker.network.driver.mtu": "1400"}),
        ipam=(IpamPool("172.30.0.0/24", "", "", FrozenMap({"x": "172.30.0.9"})),),
        internal=True,
    )
    assert registry.find(paths, "demo_front") == made
    assert registry.inspect(paths, made.id[:12]) == made
    assert registry.networks(paths) == [made]
    assert made.link == f"ct-{made.id[:11]}"
    assert made.settings.mtu == 1400


def test_a_network_is_made_once(paths: Paths) -> None:
    assert make(paths) == make(paths, owner="other")


def test_networks_get_subnets_of_their_own(paths: Paths) -> None:
    subnets = [make(paths, f"n{number}").pools[0].subnet for number in range(3)]
    assert subnets == ["172.17.0.0/16", "172.18.0.0/16", "172.19.0.0/16"]
    with pytest.raises(ConflictError, match=r"overlaps 172\.18\.0\.0/16 of network n1"):
        make(paths, "n4", ipam=(IpamPool("172.18.7.0/24"),))


def test_routes_are_avoided(paths: Paths) -> None:
    record = registry.create(paths, "demo", Network("n", "n"), ["172.17.0.0/16"])
    assert record.pools[0].subnet == "172.18.0.0/16"


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a b", "x" * 256])
def test_names_that_are_no_names(paths: Paths, name: str) -> None:
    with pytest.raises(UsageError):
        make(paths, name)


def test_unknown_networks(paths: Paths) -> None:
    assert registry.networks(paths) == []
    with pytest.raises(NotFoundError):
        registry.inspect(paths, "nothing")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"driver": "overlay"}, "no network driver 'overlay'"),
        ({"driver_opts": {"com.docker.network.driver.mtu": "9"}}, "not an MTU"),
        (
            {"driver_opts": {"com.docker.network.bridge.name": "a-name-that-is-too-long"}},
            "not an interface name",
        ),
        ({"driver_opts": {"com.docker.network.bridge.enable_icc": "perhaps"}}, "not true or false"),
    ],
)
def test_settings_that_make_no_sense(paths: Paths, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(StackFileError, match=message):
        make(paths, **fields)
    assert registry.networks(paths) == []


def test_a_bridge_name_is_used_once(paths: Paths) -> None:
    options = FrozenMap({"com.docker.network.bridge.name": "br-mine"})
    make(paths, "a", driver_opts=options)
    with pytest.raises(ConflictError, match="network a already uses the bridge name br-mine"):
        make(paths, "b", driver_opts=options)


def test_what_has_changed_is_named(paths: Paths) -> None:
    network = Network("front", "demo_front", ipam=(IpamPool("172.30.0.1/24"),))
    record = registry.create(paths, "demo", network, [])
    assert registry.drift(record, network) == []
    assert registry.drift(record, network.replace(ipam=())) == []
    assert registry.drift(record, network.replace(ipam=(IpamPool("172.31.0.0/24"),))) == ["ipam"]
    assert registry.drift(record, network.replace(internal=True, enable_ipv6=True)) == [
        "internal",
        "enable_ipv6",
    ]
    assert registry.drift(record, network.replace(driver="macvlan")) == ["driver"]
    assert registry.drift(record, network.replace(labels=FrozenMap({"a": "b"}))) == ["labels"]


def test_a_slot_keeps_its_addresses(paths: Paths) -> None:
    record = make(paths, enable_ipv6=True)
    first = registry.lease(paths, record, "demo/web-1")
    assert len(first.addresses) == 2
    assert addresses(paths, record, "demo/db-1") == ["172.17.0.3/16"]
    assert registry.lease(paths, record, "demo/web-1") == first
    registry.release(paths, ["demo/web-1"])
    assert addresses(paths, record, "demo/api-1", "demo/web-1") == ["172.17.0.4/16", "172.17.0.5/16"]


def test_fixed_addresses_come_first_and_replace(paths: Paths) -> None:
    record = make(paths)
    fixed = Attachment(ipv4_address="172.17.0.2", mac_address="02:00:00:00:00:07")
    got = registry.leases(
        paths,
        [
            LeaseRequest(record, "demo/a"),
            LeaseRequest(record, "demo/b", fixed),
            LeaseRequest(record, "demo/c"),
        ],
    )
    assert [lease.addresses for lease in got] == [("172.17.0.3/16",), ("172.17.0.2/16",), ("172.17.0.4/16",)]
    assert got[1].mac == "02:00:00:00:00:07"
    moved = registry.lease(paths, record, "demo/a", Attachment(ipv4_address="172.17.9.9"))
    assert moved.addresses == ("172.17.9.9/16",)
    with pytest.raises(
        ConflictError, match=r"172\.17\.9\.9 of demo/d in network demo_front belongs to demo/a"
    ):
        registry.lease(paths, record, "demo/d", Attachment(ipv4_address="172.17.9.9"))


def test_a_request_that_fails_leaves_nothing(paths: Paths) -> None:
    record = make(paths, ipam=(IpamPool("192.0.2.0/30"),))
    with pytest.raises(ConflictError, match="no free address left"):
        addresses(paths, record, "demo/a", "demo/b")
    assert registry.held(paths, record.name) == []
    assert addresses(paths, record, "demo/a") == ["192.0.2.2/30"]


def test_what_a_crash_left_is_taken_back(paths: Paths) -> None:
    record = make(paths)
    addresses(paths, record, "demo/a", "demo/b", "demo2/a")
    registry.keep_only(paths, "demo", ["demo/b"])
    assert [lease.slot for lease in registry.held(paths, record.name)] == ["demo/b", "demo2/a"]


def test_many_at_once_are_counted_once(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has which address is worked out once for a network, and follows what is given."""
    record = registry.create(paths, "s", Network("n", "n"), [])
    registry.leases(paths, [LeaseRequest(record, f"s/old-{number}") for number in range(3)])
    counted: list[str] = []
    holders = registry._holders

    def counting(book: dict[str, Any], name: str) -> dict[str, str]:
        counted.append(name)
        return holders(book, name)

    monkeypatch.setattr(registry, "_holders", counting)
    fixed = Attachment(ipv4_address=registry.held(paths, "n")[0].addresses[0].partition("/")[0])
    with pytest.raises(ConflictError):
        registry.leases(paths, [LeaseRequest(record, "s/new", fixed)])
    wanted = [LeaseRequest(record, f"s/new-{number}") for number in range(50)]
    given = {address for lease in registry.leases(paths, wanted) for address in lease.addresses}
    assert counted == ["n", "n"]
    assert len(given) == 50 and not given & {
        a for held in registry.held(paths, "n")[:3] for a in held.addresses
    }


def test_removing_a_network_frees_its_leases(paths: Paths) -> None:
    record = make(paths)
    addresses(paths, record, "demo/a")
    registry.remove(paths, record.name)
    registry.remove(paths, record.name)
    assert registry.find(paths, record.name) is None
    assert registry.held(paths, record.name) == []


def test_damaged_leases_are_as_good_as_none(paths: Paths) -> None:
    record = make(paths)
    addresses(paths, record, "demo/a")
    (paths.networks / ".leases.json").write_bytes(b"\0\0\0")
    assert addresses(paths, record, "demo/a") == ["172.17.0.2/16"]


def test_a_damaged_record_is_as_good_as_none(paths: Paths) -> None:
    make(paths)
    (paths.networks / "demo_front.json").write_bytes(b"")
    assert registry.networks(paths) == []
    assert make(paths).owner == "demo"


def _race(paths: Paths, worker: int, out: multiprocessing.Queue[tuple[str, list[str]]]) -> None:
    record = make(paths, f"net{worker}")
    shared = make(paths, "shared", owner="")
    got = [address for n in range(10) for address in addresses(paths, shared, f"s{worker}/{n}")]
    out.put((record.pools[0].subnet, got))


def test_stacks_that_start_at_once_get_different_subnets_and_addresses(paths: Paths) -> None:
    context = multiprocessing.get_context("fork")
    out: multiprocessing.Queue[tuple[str, list[str]]] = context.Queue()
    workers = [context.Process(target=_race, args=(paths, number, out)) for number in range(4)]
    for worker in workers:
        worker.start()
    results = [out.get(timeout=30) for _ in workers]
    for worker in workers:
        worker.join()
    out.close()
    out.join_thread()
    assert len({subnet for subnet, _ in results}) == 4
    assert len({address for _, got in results for address in got}) == 40


def test_a_killed_process_leaves_no_lock_and_no_half_file(paths: Paths) -> None:
    record = make(paths)
    for _ in range(5):
        pid = os.fork()
        if pid == 0:
            number = 0
            while True:
                addresses(paths, record, f"demo/{os.getpid()}-{number}")
                number += 1
        while not registry.held(paths, record.name):
            pass
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        given = [lease.addresses[0] for lease in registry.held(paths, record.name)]
        assert len(given) == len(set(given))
        registry.keep_only(paths, "demo", ())
        assert registry.held(paths, record.name) == []
