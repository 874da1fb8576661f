"""Pure parts: what is mounted where, limits as file contents, device rules as lists and programs."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.runtime.cgroup import CgroupError, devices, hierarchies, stats
from composer.runtime.cgroup.resources import ROWS, weight_of_blkio, weight_of_shares, writes

V1 = frozenset(
    {"memory", "cpu", "cpuset", "pids", "blkio", "hugetlb", "net_cls", "net_prio", "rdma", "devices"}
)
V2 = frozenset({"memory", "cpu", "cpuset", "pids", "io", "hugetlb", "rdma"})

Pairs = list[tuple[str, str]]


def on_v1(resources: Mapping[str, Any]) -> Pairs:
    return [(item.choices[0][0], item.choices[0][1]) for item in writes(resources, V1, None)]


def on_v2(resources: Mapping[str, Any]) -> Pairs:
    return [(item.choices[0][0], item.choices[0][1]) for item in writes(resources, frozenset(), V2)]


DEVICE = {"major": 8, "minor": 16}

# Resources; what v1 writes; what v2 writes, or the word by which it refuses.
CASES: list[tuple[dict[str, Any], Pairs, Pairs | str]] = [
    ({}, [], []),
    ({"memory": None, "unknown": {"x": 1}, "cpu": {"unknown": 1}}, [], []),
    ({"memory": {"limit": 4096}}, [("memory.limit_in_bytes", "4096")], [("memory.max", "4096")]),
    ({"memory": {"limit": -1}}, [("memory.limit_in_bytes", "-1")], [("memory.max", "max")]),
    ({"memory": {"limit": 0, "swap": 0, "reservation": 0, "kernel": 0}}, [], []),
    (
        {"memory": {"limit": 100, "swap": 300}},
        [("memory.limit_in_bytes", "100"), ("memory.memsw.limit_in_bytes", "300")],
        [("memory.max", "100"), ("memory.swap.max", "200")],
    ),
    (
        {"memory": {"limit": 100, "swap": 100}},
        [("memory.limit_in_bytes", "100"), ("memory.memsw.limit_in_bytes", "100")],
        [("memory.max", "100"), ("memory.swap.max", "0")],
    ),
    (
        {"memory": {"limit": 100, "swap": -1}},
        [("memory.limit_in_bytes", "100"), ("memory.memsw.limit_in_bytes", "-1")],
        [("memory.max", "100"), ("memory.swap.max", "max")],
    ),
    (
        {"memory": {"limit": 100, "swap": 50}},
        [("memory.limit_in_bytes", "100"), ("memory.memsw.limit_in_bytes", "50")],
        "below memory.limit",
    ),
    ({"memory": {"swap": 50}}, [("memory.memsw.limit_in_bytes", "50")], "memory.limit beside"),
    ({"memory": {"reservation": 7}}, [("memory.soft_limit_in_bytes", "7")], [("memory.low", "7")]),
    ({"memory": {"swappiness": 0}}, [("memory.swappiness", "0")], "no equivalent"),
    ({"memory": {"swappiness": -1}}, [], []),
    ({"memory": {"disableOOMKiller": True}}, [("memory.oom_control", "1")], "OOM killer"),
    ({"memory": {"disableOOMKiller": False}}, [("memory.oom_control", "0")], []),
    ({"memory": {"useHierarchy": True}}, [("memory.use_hierarchy", "1")], []),
    ({"memory": {"useHierarchy": False}}, [("memory.use_hierarchy", "0")], "always hierarchical"),
    ({"memory": {"kernel": 9}}, [("memory.kmem.limit_in_bytes", "9")], "no equivalent"),
    ({"memory": {"kernelTCP": 9}}, [("memory.kmem.tcp.limit_in_bytes", "9")], "no equivalent"),
    ({"cpu": {"shares": 1024}}, [("cpu.shares", "1024")], [("cpu.weight", "100")]),
    ({"cpu": {"quota": 50, "period": 100}},
     [("cpu.cfs_period_us", "100"), ("cpu.cfs_quota_us", "50")], [("cpu.max", "50 100")]),
    ({"cpu": {"quota": -1}}, [("cpu.cfs_quota_us", "-1")], [("cpu.max", "max")]),
    ({"cpu": {"quota": 50}}, [("cpu.cfs_quota_us", "50")], [("cpu.max", "50")]),
    ({"cpu": {"period": 100}}, [("cpu.cfs_period_us", "100")], [("cpu.max", "max 100")]),
    ({"cpu": {"burst": 0}}, [("cpu.cfs_burst_us", "0")], [("cpu.max.burst", "0")]),
    ({"cpu": {"realtimePeriod": 5, "realtimeRuntime": 4}},
     [("cpu.rt_period_us", "5"), ("cpu.rt_runtime_us", "4")], "no equivalent"),
    ({"cpu": {"cpus": "0-1", "mems": "0"}},
     [("cpuset.cpus", "0-1"), ("cpuset.mems", "0")], [("cpuset.cpus", "0-1"), ("cpuset.mems", "0")]),
    ({"cpu": {"cpus": "", "mems": ""}}, [], []),
    ({"cpu": {"idle": 1}}, [("cpu.idle", "1")], [("cpu.idle", "1")]),
    ({"pids": {"limit": 5}}, [("pids.max", "5")], [("pids.max", "5")]),
    ({"pids": {"limit": 0}}, [("pids.max", "max")], [("pids.max", "max")]),
    ({"pids": {"limit": -1}}, [("pids.max", "max")], [("pids.max", "max")]),
    ({"blockIO": {"weight": 500}}, [("blkio.bfq.weight", "500")], [("io.bfq.weight", "500")]),
    ({"blockIO": {"leafWeight": 500}}, [("blkio.leaf_weight", "500")], "no equivalent"),
    ({"blockIO": {"weightDevice": [{**DEVICE, "weight": 20}]}},
     [("blkio.bfq.weight_device", "8:16 20")], [("io.bfq.weight", "8:16 20")]),
    ({"blockIO": {"weightDevice": [{**DEVICE, "leafWeight": 20}]}},
     [("blkio.leaf_weight_device", "8:16 20")], "leafWeight"),
    ({"blockIO": {"throttleReadBpsDevice": [{**DEVICE, "rate": 600}]}},
     [("blkio.throttle.read_bps_device", "8:16 600")], [("io.max", "8:16 rbps=600")]),
    ({"blockIO": {"throttleWriteBpsDevice": [{**DEVICE, "rate": 0}]}},
     [("blkio.throttle.write_bps_device", "8:16 0")], [("io.max", "8:16 wbps=max")]),
    ({"blockIO": {"throttleReadIOPSDevice": [{**DEVICE, "rate": 3}]}},
     [("blkio.throttle.read_iops_device", "8:16 3")], [("io.max", "8:16 riops=3")]),
    ({"blockIO": {"throttleWriteIOPSDevice": [{**DEVICE, "rate": 3}]}},
     [("blkio.throttle.write_iops_device", "8:16 3")], [("io.max", "8:16 wiops=3")]),
    ({"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]},
     [("hugetlb.2MB.limit_in_bytes", "0"), ("hugetlb.2MB.rsvd.limit_in_bytes", "0")],
     [("hugetlb.2MB.max", "0"), ("hugetlb.2MB.rsvd.max", "0")]),
    ({"network": {"classID": 1048577}}, [("net_cls.classid", "1048577")], "no equivalent"),
    ({"network": {"priorities": [{"name": "eth0", "priority": 5}]}},
     [("net_prio.ifpriomap", "eth0 5")], "no equivalent"),
    ({"rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10}}},
     [("rdma.max", "mlx5_1 hca_handle=3 hca_object=10")],
     [("rdma.max", "mlx5_1 hca_handle=3 hca_object=10")]),
]  # fmt: skip


@pytest.mark.parametrize(("resources", "v1", "v2"), CASES)
def test_rows(resources: dict[str, Any], v1: Pairs, v2: Pairs | str) -> None:
    assert on_v1(resources) == v1
    if isinstance(v2, str):
        with pytest.raises(CgroupError, match=v2) as caught:
            on_v2(resources)
        assert caught.value.field and f"linux.resources.{caught.value.field}" in str(caught.value)
    else:
        assert on_v2(resources) == v2


def test_every_row_has_a_case() -> None:
    named = {
        f"{section}.{name}" if isinstance(part, dict) and section != "rdma" else section
        for resources, _, _ in CASES
        for section, part in resources.items()
        for name in (part if isinstance(part, dict) else [""])
    }
    assert {row.field for row in ROWS} <= named


def test_controllers_are_used_where_they_are_mounted() -> None:
    found = writes(
        {"memory": {"limit": 5}, "hugepageLimits": [{"pageSize": "1GB", "limit": 0}]},
        frozenset({"memory"}),
        frozenset({"hugetlb"}),
    )
    assert [(item.version, item.controller) for item in found] == [
        *(("v1", "memory"), ("v2", "hugetlb"), ("v2", "hugetlb")),
    ]


@pytest.mark.parametrize("v2", [None, frozenset[str]()])
def test_missing_controller_is_named(v2: frozenset[str] | None) -> None:
    with pytest.raises(CgroupError, match=r"linux\.resources\.pids\.limit: the pids controller") as caught:
        writes({"pids": {"limit": 5}}, frozenset({"memory"}), v2)
    assert caught.value.hint
    assert writes({"cpu": {"shares": 0}, "memory": {"kernel": 0}}, frozenset(), v2) == []


MALFORMED: list[dict[str, Any]] = [
    {"memory": {"limit": "64m"}},
    {"memory": {"limit": True}},
    {"memory": {"limit": 1.5}},
    {"blockIO": {"throttleReadBpsDevice": [{"rate": 1}]}},
    {"blockIO": {"throttleReadBpsDevice": 5}},
    {"hugepageLimits": [{"pageSize": "../2MB", "limit": 1}]},
    {"hugepageLimits": [{"limit": 1}]},
    {"network": {"priorities": [{"name": "eth0"}]}},
    {"rdma": {"mlx5_1": 5}},
    {"unified": {"../cgroup.procs": "1"}},
    {"unified": {"memory/max": "1"}},
    {"unified": {"memory": "1"}},
    {"unified": {"memory.max": 1}},
]


@pytest.mark.parametrize("resources", MALFORMED)
def test_malformed_values(resources: dict[str, Any]) -> None:
    with pytest.raises(CgroupError, match=r"linux\.resources\."):
        writes(resources, V1, V2)


def test_unified_is_taken_as_it_is_on_v2() -> None:
    found = on_v2(
        {"unified": {"memory.high": "5", "io.max": "8:0 rbps=1\n8:16 rbps=2", "cgroup.max.depth": "3"}}
    )
    assert found == [
        ("memory.high", "5"),
        ("io.max", "8:0 rbps=1"),
        ("io.max", "8:16 rbps=2"),
        ("cgroup.max.depth", "3"),
    ]


def test_unified_is_refused_on_v1() -> None:
    with pytest.raises(CgroupError, match="not in a v2 hierarchy"):
        on_v1({"unified": {"memory.high": "5"}})
    with pytest.raises(CgroupError, match="not in a v2 hierarchy"):
        writes({"unified": {"memory.high": "5"}}, frozenset({"memory"}), frozenset({"hugetlb"}))


@given(st.integers(2, 262_144), st.integers(2, 262_144))
def test_weights_keep_order_and_bounds(one: int, two: int) -> None:
    assert 1 <= weight_of_shares(one) <= 10_000
    assert (one < two) <= (weight_of_shares(one) <= weight_of_shares(two))


def test_weights_keep_what_is_usual() -> None:
    assert [weight_of_shares(n) for n in (2, 512, 1024, 2048, 262_144)] == [1, 50, 100, 200, 10_000]
    assert [weight_of_blkio(n) for n in (10, 1000)] == [1, 10_000]


# --- what is mounted

HYBRID = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
"""
INSIDE = """\
20 1 0:29 /docker/abc /mnt/with\\040space ro - cgroup cgroup rw,memory
21 1 0:29 / /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory
"""


def test_layouts() -> None:
    hybrid = hierarchies.parse(HYBRID)
    assert hybrid.kind == "hybrid" and hybrid.unified == "/sys/fs/cgroup/unified"
    assert hybrid.mounts == {
        "cpu": "/sys/fs/cgroup/cpu,cpuacct",
        "cpuacct": "/sys/fs/cgroup/cpu,cpuacct",
        "name=systemd": "/sys/fs/cgroup/systemd",
    }
    assert hierarchies.parse("41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw").kind == "v2"
    assert hierarchies.parse(HYBRID.rsplit("\n", 2)[0]).kind == "v1"
    assert hierarchies.parse(INSIDE).mounts == {"memory": "/sys/fs/cgroup/memory"}
    assert hierarchies.parse(INSIDE).roots == {"/mnt/with space": "/docker/abc"}
    with pytest.raises(CgroupError, match="no cgroup file system"):
        hierarchies.parse("31 23 0:28 / / rw - ext4 /dev/vda rw")


def test_own_groups() -> None:
    assert hierarchies.own("4:memory:/a:b\n2:cpu,cpuacct:/\n0::/x\n") == {
        "memory": "/a:b",
        "cpu": "/",
        "cpuacct": "/",
        "": "/x",
    }


def test_absolute_paths() -> None:
    dirs, unified = hierarchies.directories("/a//./b", hierarchies.parse(HYBRID))
    assert dirs["cpu"] == "/sys/fs/cgroup/cpu,cpuacct/a/b"
    assert unified == "/sys/fs/cgroup/unified/a/b"


def test_io_of_devices_without_figures(tmp_path: Any) -> None:
    """Loop devices that were never used appear with their number alone."""
    (tmp_path / "io.stat").write_text("7:0\n8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n")
    assert stats._io_v2(str(tmp_path)) == {
        "8:0": {"read_bytes": 1, "write_bytes": 2, "reads": 3, "writes": 4}
    }


# --- devices

KINDS, BITS = {"b": 1, "c": 2}, {"m": 1, "r": 2, "w": 4}
Ask = tuple[str, int, int, str]


def meant(rules: Iterable[devices.Rule], ask: Ask) -> bool:
    """Each bit by the last rule that names it, allowed before the first."""
    kind, major, minor, access = ask
    return all(
        next(
            (
                rule.allow
                for rule in reversed(list(rules))
                if rule.kind in ("a", kind)
                and rule.major in (None, major)
                and rule.minor in (None, minor)
                and letter in rule.access
            ),
            True,
        )
        for letter in access
    )


def executed(program: bytes, ask: Ask) -> bool:
    """The few eBPF operations that the programs use."""
    kind, major, minor, access = ask
    context = {0: sum(BITS[letter] for letter in access) << 16 | KINDS[kind], 4: major, 8: minor}
    lines = [
        (code, regs & 15, regs >> 4, off, imm)
        for code, regs, off, imm in struct.iter_unpack("=BBhi", program)
    ]
    registers = [0] * 11
    at = 0
    while True:
        code, target, source, offset, immediate = lines[at]
        at += 1
        match code:
            case 0x61:
                registers[target] = context[offset]
            case 0xBF:
                registers[target] = registers[source]
            case 0xB7:
                registers[target] = immediate
            case 0x57:
                registers[target] &= immediate
            case 0x77:
                registers[target] >>= immediate
            case 0x05:
                at += offset
            case 0x56:
                at += offset if registers[target] & 0xFFFFFFFF != immediate & 0xFFFFFFFF else 0
            case 0x46:
                at += offset if registers[target] & immediate else 0
            case 0x95:
                return registers[0] == 1
            case _:
                raise AssertionError(f"unexpected operation {code:#x}")


numbers = st.sampled_from([None, 1, 3, 2**31, 2**32 - 1])
accesses = st.sets(st.sampled_from("rwm"), min_size=1).map(lambda letters: "".join(sorted(letters)))
rules = st.lists(
    st.builds(devices.Rule, st.booleans(), st.sampled_from("abc"), numbers, numbers, accesses), max_size=6
)
asks = st.tuples(
    st.sampled_from("bc"), st.sampled_from([1, 2, 2**32 - 1]), st.sampled_from([3, 2**31]), accesses
)


@given(rules, asks)
def test_program_decides_as_meant(rules: list[devices.Rule], ask: Ask) -> None:
    assert executed(devices.program(rules), ask) == meant(rules, ask)


def test_lines() -> None:
    rules = devices.parse(
        [
            {"allow": False, "access": "rwm"},
            {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rw"},
            {"allow": True, "type": "b", "major": 8, "access": "m"},
            {"allow": True, "type": "a", "major": -1, "minor": 5},
            {"allow": False, "type": "u"},
        ]
    )
    assert list(devices.lines(rules)) == [
        ("devices.deny", "a"),
        ("devices.allow", "c 1:3 rw"),
        ("devices.allow", "b 8:* m"),
        ("devices.allow", "b *:5 rwm"),
        ("devices.allow", "c *:5 rwm"),
        ("devices.deny", "c *:* rwm"),
    ]


@pytest.mark.parametrize(
    "rule",
    [
        {"type": "p"},
        {"access": "x"},
        {"access": 5},
        {"major": -2},
        {"minor": 2**32},
        {"major": "8"},
        {"major": True},
    ],
)
def test_malformed_rules(rule: dict[str, Any]) -> None:
    with pytest.raises(CgroupError, match=r"linux\.resources\.devices\[1\]"):
        devices.parse([{"allow": False}, rule])
