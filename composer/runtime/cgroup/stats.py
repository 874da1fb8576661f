"""A group's counters, alike on v1 and v2. Reads a handful of small files; nothing is kept open.

    cpu     usage, user, system, throttled: nanoseconds; periods, throttled_periods: counts
    memory  usage, peak, limit, anon, file, inactive_file, kernel, swap, swap_limit: bytes (a limit is None if
            there is none); failures: how often the limit was hit; oom_kills: processes killed for it
    io      by device `major:minor`: read_bytes, write_bytes, reads, writes
    pids    current, limit (None if there is none)

`usage - inactive_file` is what people call used memory. A section is missing where the host has no such
controller, a single value where the kernel does not count it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypedDict

from composer.runtime.cgroup.files import keyed, read

# v1 writes "no limit" as the largest page-aligned number.
_UNLIMITED = 2**62


class Cpu(TypedDict, total=False):
    usage: int
    user: int
    system: int
    periods: int
    throttled_periods: int
    throttled: int


class Memory(TypedDict, total=False):
    usage: int
    peak: int
    limit: int | None
    anon: int
    file: int
    inactive_file: int
    kernel: int
    swap: int
    swap_limit: int | None
    failures: int
    oom_kills: int


class Io(TypedDict, total=False):
    read_bytes: int
    write_bytes: int
    reads: int
    writes: int


class Pids(TypedDict, total=False):
    current: int
    limit: int | None


class Stats(TypedDict, total=False):
    cpu: Cpu
    memory: Memory
    io: dict[str, Io]
    pids: Pids


def collect(v1: dict[str, str], v2: str | None, offered: frozenset[str]) -> Stats:
    """`v1` are the directories by controller, `v2` the unified one, `offered` the controllers that v2 has
    there.
    """
    stats: Stats = {}
    if "cpuacct" in v1:
        stats["cpu"] = _cpu_v1(v1)
    elif v2:
        stats["cpu"] = _cpu_v2(v2)
    if "memory" in v1:
        stats["memory"] = _memory_v1(v1["memory"])
    elif v2 and "memory" in offered:
        stats["memory"] = _memory_v2(v2)
    if "blkio" in v1:
        stats["io"] = _io_v1(v1["blkio"])
    elif v2 and "io" in offered:
        stats["io"] = _io_v2(v2)
    pids = v1.get("pids") or (v2 if "pids" in offered else None)
    if pids:
        stats["pids"] = {"current": int(read(f"{pids}/pids.current")), "limit": _limit(f"{pids}/pids.max")}
    return stats


def _cpu_v1(v1: dict[str, str]) -> Cpu:
    accounts = v1["cpuacct"]
    cpu: Cpu = {
        "usage": int(read(f"{accounts}/cpuacct.usage")),
        "user": int(read(f"{accounts}/cpuacct.usage_user")),
        "system": int(read(f"{accounts}/cpuacct.usage_sys")),
    }
    if "cpu" in v1:
        found = keyed(_optional(f"{v1['cpu']}/cpu.stat"))
        cpu["periods"] = found.get("nr_periods", 0)
        cpu["throttled_periods"] = found.get("nr_throttled", 0)
        cpu["throttled"] = found.get("throttled_time", 0)
    return cpu


def _cpu_v2(group: str) -> Cpu:
    found = keyed(read(f"{group}/cpu.stat"))
    return {
        "usage": found["usage_usec"] * 1000,
        "user": found["user_usec"] * 1000,
        "system": found["system_usec"] * 1000,
        "periods": found.get("nr_periods", 0),
        "throttled_periods": found.get("nr_throttled", 0),
        "throttled": found.get("throttled_usec", 0) * 1000,
    }


def _memory_v1(group: str) -> Memory:
    found = keyed(read(f"{group}/memory.stat"))
    memory: Memory = {
        "usage": int(read(f"{group}/memory.usage_in_bytes")),
        "peak": int(read(f"{group}/memory.max_usage_in_bytes")),
        "limit": _limit(f"{group}/memory.limit_in_bytes"),
        "anon": found.get("total_rss", 0),
        "file": found.get("total_cache", 0),
        "inactive_file": found.get("total_inactive_file", 0),
        "failures": int(read(f"{group}/memory.failcnt")),
        "oom_kills": keyed(read(f"{group}/memory.oom_control")).get("oom_kill", 0),
    }
    kernel, both = _optional(f"{group}/memory.kmem.usage_in_bytes"), f"{group}/memory.memsw.limit_in_bytes"
    if kernel:
        memory["kernel"] = int(kernel)
    if _optional(both):
        # v1 limits memory and swap together.
        limit, total = memory["limit"], _limit(both)
        memory["swap"] = found.get("total_swap", 0)
        memory["swap_limit"] = None if total is None or limit is None else total - limit
    return memory


def _memory_v2(group: str) -> Memory:
    found, events = keyed(read(f"{group}/memory.stat")), keyed(read(f"{group}/memory.events"))
    memory: Memory = {
        "usage": int(read(f"{group}/memory.current")),
        "limit": _limit(f"{group}/memory.max"),
        "anon": found.get("anon", 0),
        "file": found.get("file", 0),
        "inactive_file": found.get("inactive_file", 0),
        "failures": events.get("max", 0),
        "oom_kills": events.get("oom_kill", 0),
    }
    peak, swap = _optional(f"{group}/memory.peak"), _optional(f"{group}/memory.swap.current")
    if "kernel" in found:
        memory["kernel"] = found["kernel"]
    if peak:
        memory["peak"] = int(peak)
    if swap:
        memory["swap"] = int(swap)
        memory["swap_limit"] = _limit(f"{group}/memory.swap.max")
    return memory


def _io_v1(group: str) -> dict[str, Io]:
    devices: dict[str, Io] = {}
    for device, kind, count in _io_rows(f"{group}/blkio.throttle.io_service_bytes_recursive"):
        devices.setdefault(device, {})["read_bytes" if kind == "Read" else "write_bytes"] = count
    for device, kind, count in _io_rows(f"{group}/blkio.throttle.io_serviced_recursive"):
        devices.setdefault(device, {})["reads" if kind == "Read" else "writes"] = count
    return devices


def _io_rows(path: str) -> Iterator[tuple[str, str, int]]:
    for line in _optional(path).splitlines():
        parts = line.split()
        if len(parts) == 3 and parts[1] in ("Read", "Write"):
            yield parts[0], parts[1], int(parts[2])


def _io_v2(group: str) -> dict[str, Io]:
    devices: dict[str, Io] = {}
    for line in read(f"{group}/io.stat").splitlines():
        device, *pairs = line.split()
        counts = dict(pair.split("=", 1) for pair in pairs)
        if "rbytes" in counts:
            devices[device] = {
                "read_bytes": int(counts["rbytes"]),
                "write_bytes": int(counts["wbytes"]),
                "reads": int(counts["rios"]),
                "writes": int(counts["wios"]),
            }
    return devices


def _limit(path: str) -> int | None:
    text = read(path).strip()
    return None if text == "max" or int(text) >= _UNLIMITED else int(text)


def _optional(path: str) -> str:
    """What depends on the kernel's version and options."""
    try:
        return read(path)
    except OSError:
        return ""
