"""OCI `linux.resources` as cgroup file contents. Pure: a row per field, no kernel.

https://github.com/opencontainers/runtime-spec/blob/v1.2.0/config-linux.md#control-groups and
https://docs.kernel.org/admin-guide/cgroup-v2.html, cgroup-v1/*.html. Devices are in `devices`.

As engines write them, absent, null and 0 mean "not set" wherever 0 is not a limit of its own, and -1 means
"no limit". Unknown keys are ignored, as the specification demands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

from composer.runtime.cgroup.files import CgroupError

Version = Literal["v1", "v2"]
Section = Mapping[str, Any]

# File and content. Of several the first whose file exists is written; an empty name at the end means "or
# none".
Choices = tuple[tuple[str, str], ...]
Convert = Callable[[Any, Section], Iterator[Choices]]

NO_FILE = ("", "")


class Write(NamedTuple):
    """One thing to write: for `field`, into the group's directory for `controller`."""

    field: str
    version: Version
    controller: str
    choices: Choices


class Row(NamedTuple):
    field: str
    v1: tuple[str, Convert] | None
    v2: tuple[str, Convert] | None


class Unfit(Exception):
    """A value that cannot be expressed; the text says why."""


def whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise Unfit(f"expected an integer, not {value!r}")
    return value


def weight_of_shares(shares: int) -> int:
    """cpu.shares (2…262144, usually 1024) as cpu.weight (1…10000, usually 100), so that proportions stay.

    As the scheduler itself converts: kernel/sched/core.c, sched_weight_from_cgroup().
    """
    return min(max((shares * 100 + 512) // 1024, 1), 10_000)


def weight_of_blkio(weight: int) -> int:
    """blkio weight (10…1000) as io.weight (1…10000), spread linearly."""
    return 1 + (weight - 10) * 9999 // 990


def number(file: str, *, zero: bool = False) -> Convert:
    """The number as it is; 0 is written only where it means something."""

    def convert(value: Any, _: Section) -> Iterator[Choices]:
        if whole(value) or zero:
            yield ((file, str(value)),)

    return convert


def bound(file: str, *, zero_is_max: bool = False) -> Convert:
    """A v2 limit: negative is `max`."""

    def convert(value: Any, _: Section) -> Iterator[Choices]:
        if whole(value) < 0 or (value == 0 and zero_is_max):
            yield ((file, "max"),)
        elif value:
            yield ((file, str(value)),)

    return convert


def text(file: str) -> Convert:
    def convert(value: Any, _: Section) -> Iterator[Choices]:
        if value:
            yield ((file, str(value)),)

    return convert


def flag(file: str) -> Convert:
    def convert(value: Any, _: Section) -> Iterator[Choices]:
        yield ((file, str(int(bool(value)))),)

    return convert


def only(wanted: Any, why: str) -> Convert:
    """A field that says nothing new as long as it has the one value that always holds."""

    def convert(value: Any, _: Section) -> Iterator[Choices]:
        if value != wanted:
            raise Unfit(why)
        return iter(())

    return convert


def _swappiness(value: Any, _: Section) -> Iterator[Choices]:
    if whole(value) >= 0:  # Engines write -1 for "not set".
        yield (("memory.swappiness", str(value)),)


def _swap_v2(value: Any, memory: Section) -> Iterator[Choices]:
    """OCI's swap is memory and swap together, v2's is swap alone."""
    limit = memory.get("limit") or 0
    if whole(value) < 0:
        yield (("memory.swap.max", "max"),)
    elif value:
        if limit <= 0:
            raise Unfit("is memory and swap together, so it needs memory.limit beside it")
        if value < limit:
            raise Unfit(f"is memory and swap together, so it cannot be below memory.limit ({limit})")
        yield (("memory.swap.max", str(value - limit)),)


def _shares_v2(value: Any, _: Section) -> Iterator[Choices]:
    if whole(value):
        yield (("cpu.weight", str(weight_of_shares(value))),)


def _cpu_max(_: Any, cpu: Section) -> Iterator[Choices]:
    """Quota and period stand in one file; a period left out stays as it is."""
    quota, period = whole(cpu.get("quota") or 0), whole(cpu.get("period") or 0)
    if quota or period:
        yield (("cpu.max", f"{quota if quota > 0 else 'max'} {period or ''}".rstrip()),)


def _blkio_weight_v1(value: Any, _: Section) -> Iterator[Choices]:
    if whole(value):
        yield (("blkio.bfq.weight", str(value)), ("blkio.weight", str(value)))


def _blkio_weight_v2(value: Any, _: Section) -> Iterator[Choices]:
    if whole(value):
        yield (("io.bfq.weight", str(value)), ("io.weight", f"default {weight_of_blkio(value)}"))


def _device(entry: Section) -> str:
    return f"{whole(entry.get('major'))}:{whole(entry.get('minor'))}"


def _weights_v1(value: Any, _: Section) -> Iterator[Choices]:
    for entry in value:
        for key, files in (
            ("weight", ("blkio.bfq.weight_device", "blkio.weight_device")),
            ("leafWeight", ("blkio.leaf_weight_device",)),
        ):
            if entry.get(key):
                yield tuple((file, f"{_device(entry)} {whole(entry[key])}") for file in files)


def _weights_v2(value: Any, _: Section) -> Iterator[Choices]:
    for entry in value:
        if entry.get("leafWeight"):
            raise Unfit("leafWeight has no equivalent in cgroup v2")
        weight = whole(entry.get("weight") or 0)
        if weight:
            device = _device(entry)
            yield (
                ("io.bfq.weight", f"{device} {weight}"),
                ("io.weight", f"{device} {weight_of_blkio(weight)}"),
            )


def _throttle_v1(file: str) -> Convert:
    def convert(value: Any, _: Section) -> Iterator[Choices]:
        for entry in value:
            yield ((file, f"{_device(entry)} {whole(entry.get('rate'))}"),)

    return convert


def _throttle_v2(key: str) -> Convert:
    """0 takes the limit away, as it does in v1."""

    def convert(value: Any, _: Section) -> Iterator[Choices]:
        for entry in value:
            yield (("io.max", f"{_device(entry)} {key}={whole(entry.get('rate')) or 'max'}"),)

    return convert


def _huge(suffix: str, reserved: str) -> Convert:
    """Usage and, where the kernel counts them (5.7), reservations: without the second a group can still
    take all.
    """

    def convert(value: Any, _: Section) -> Iterator[Choices]:
        for entry in value:
            size, limit = entry.get("pageSize", ""), whole(entry.get("limit"))
            if not re.fullmatch(r"[1-9][0-9]*[KMG]B", size):
                raise Unfit(f"page size {size!r} is not a number followed by KB, MB or GB")
            yield ((f"hugetlb.{size}.{suffix}", str(limit)),)
            yield ((f"hugetlb.{size}.{reserved}", str(limit)), NO_FILE)

    return convert


def _priorities(value: Any, _: Section) -> Iterator[Choices]:
    for entry in value:
        yield (("net_prio.ifpriomap", f"{entry['name']} {whole(entry['priority'])}"),)


def _rdma(value: Any, _: Section) -> Iterator[Choices]:
    names = {"hcaHandles": "hca_handle", "hcaObjects": "hca_object"}
    for device, limits in value.items():
        pairs = [f"{names[key]}={whole(limit)}" for key, limit in limits.items() if key in names]
        if pairs:
            yield (("rdma.max", " ".join([device, *pairs])),)


_THROTTLES = (
    ("throttleReadBpsDevice", "read_bps", "rbps"),
    ("throttleWriteBpsDevice", "write_bps", "wbps"),
    ("throttleReadIOPSDevice", "read_iops", "riops"),
    ("throttleWriteIOPSDevice", "write_iops", "wiops"),
)

# In the order of writing. A row without a v2 part is refused there by name.
ROWS: tuple[Row, ...] = (
    Row("memory.useHierarchy", ("memory", flag("memory.use_hierarchy")),
        ("memory", only(True, "cgroup v2 is always hierarchical"))),
    Row("memory.kernel", ("memory", number("memory.kmem.limit_in_bytes")), None),
    Row("memory.kernelTCP", ("memory", number("memory.kmem.tcp.limit_in_bytes")), None),
    Row("memory.limit", ("memory", number("memory.limit_in_bytes")), ("memory", bound("memory.max"))),
    Row("memory.swap", ("memory", number("memory.memsw.limit_in_bytes")), ("memory", _swap_v2)),
    Row("memory.reservation", ("memory", number("memory.soft_limit_in_bytes")),
        ("memory", bound("memory.low"))),
    Row("memory.swappiness", ("memory", _swappiness), ("memory", only(-1, "has no equivalent in cgroup v2"))),
    Row("memory.disableOOMKiller", ("memory", flag("memory.oom_control")),
        ("memory", only(False, "cgroup v2 cannot switch the OOM killer off"))),
    Row("cpu.cpus", ("cpuset", text("cpuset.cpus")), ("cpuset", text("cpuset.cpus"))),
    Row("cpu.mems", ("cpuset", text("cpuset.mems")), ("cpuset", text("cpuset.mems"))),
    Row("cpu.shares", ("cpu", number("cpu.shares")), ("cpu", _shares_v2)),
    Row("cpu.period", ("cpu", number("cpu.cfs_period_us")), ("cpu", _cpu_max)),
    Row("cpu.quota", ("cpu", number("cpu.cfs_quota_us")), ("cpu", _cpu_max)),
    Row("cpu.burst", ("cpu", number("cpu.cfs_burst_us", zero=True)),
        ("cpu", number("cpu.max.burst", zero=True))),
    Row("cpu.realtimePeriod", ("cpu", number("cpu.rt_period_us")), None),
    Row("cpu.realtimeRuntime", ("cpu", number("cpu.rt_runtime_us")), None),
    Row("cpu.idle", ("cpu", number("cpu.idle", zero=True)), ("cpu", number("cpu.idle", zero=True))),
    Row("pids.limit", ("pids", bound("pids.max", zero_is_max=True)),
        ("pids", bound("pids.max", zero_is_max=True))),
    Row("blockIO.weight", ("blkio", _blkio_weight_v1), ("io", _blkio_weight_v2)),
    Row("blockIO.leafWeight", ("blkio", number("blkio.leaf_weight")), None),
    Row("blockIO.weightDevice", ("blkio", _weights_v1), ("io", _weights_v2)),
    *(Row(f"blockIO.{field}", ("blkio", _throttle_v1(f"blkio.throttle.{v1}_device")),
          ("io", _throttle_v2(v2)))
      for field, v1, v2 in _THROTTLES),
    Row("hugepageLimits", ("hugetlb", _huge("limit_in_bytes", "rsvd.limit_in_bytes")),
        ("hugetlb", _huge("max", "rsvd.max"))),
    Row("network.classID", ("net_cls", number("net_cls.classid")), None),
    Row("network.priorities", ("net_prio", _priorities), None),
    Row("rdma", ("rdma", _rdma), ("rdma", _rdma)),
)  # fmt: skip


def writes(resources: Section, v1: frozenset[str], v2: frozenset[str] | None) -> list[Write]:
    """What to write for `resources`, where `v1` and `v2` are the controllers mounted in each (None: no v2
    at all).

    Raises CgroupError naming the field that this host or the value cannot express.
    """
    found = [write for row in ROWS for write in _row(row, resources, v1, v2)]
    return list(dict.fromkeys([*found, *_unified(resources.get("unified") or {}, v2)]))


def _row(row: Row, resources: Section, v1: frozenset[str], v2: frozenset[str] | None) -> Iterator[Write]:
    section, _, name = row.field.partition(".")
    holder: Section = resources.get(section) or {} if name else resources
    value = holder.get(name or section)
    if value is None or value == []:
        return
    version, (controller, convert) = _place(row, v1)
    try:
        wanted = list(convert(value, holder))
    except Unfit as error:
        raise CgroupError(str(error), field=row.field) from None
    except (KeyError, TypeError, AttributeError):
        raise CgroupError("has not the form of OCI", field=row.field) from None
    if wanted and controller not in (v1 if version == "v1" else v2 or ()):
        raise _unavailable(row, controller, v1)
    for choices in wanted:
        # Both rows of cpu.max say the same; one name for it makes them one write.
        field = "cpu.quota" if choices[0][0] == "cpu.max" else row.field
        yield Write(field, version, controller, choices)


def _place(row: Row, v1: frozenset[str]) -> tuple[Version, tuple[str, Convert]]:
    if row.v1 and (row.v2 is None or row.v1[0] in v1):
        return "v1", row.v1
    assert row.v2
    return "v2", row.v2


def _unavailable(row: Row, controller: str, v1: frozenset[str]) -> CgroupError:
    if row.v2 is None and not v1:
        return CgroupError("has no equivalent in cgroup v2", field=row.field)
    return CgroupError(
        f"the {controller} controller is not available here",
        field=row.field,
        hint="the kernel was built without it, it is switched off, or it is not delegated to this user",
    )


def _unified(entries: Mapping[str, Any], v2: frozenset[str] | None) -> Iterator[Write]:
    for file, value in entries.items():
        field = f"unified[{file}]"
        controller, dot, _ = file.partition(".")
        if "/" in file or not dot or not isinstance(value, str):
            raise CgroupError("expected a file of cgroup v2 and its content", field=field)
        if v2 is None or (controller != "cgroup" and controller not in v2):
            raise CgroupError(f"the {controller} controller is not in a v2 hierarchy here", field=field)
        for line in value.splitlines():
            yield Write(field, "v2", controller, ((file, line),))
