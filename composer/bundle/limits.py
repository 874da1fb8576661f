"""cgroup resources, rlimits and sysctls of a service in the words of the OCI runtime-spec."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from composer import oci
from composer.bundle.inputs import IDS, NOBODY, Device, HostFacts, Place
from composer.errors import UsageError
from composer.model.known import LEAST_MEMORY, SYSCTLS, ULIMITS
from composer.model.stack import BlkioConfig, DeviceRate, Resources, Service

PERIOD = 100_000
"""Microseconds of a CFS period, unless said otherwise."""
UNLIMITED = 2**64 - 1
OPEN_FILES = (1024, 524_288)
"""What systemd gives Docker's containers; ours must not depend on the shell that started us."""

PORTS_FOR_ALL = {"net.ipv4.ip_unprivileged_port_start": "0"}
PING_FOR_ALL = "net.ipv4.ping_group_range"

_PROCESSORS = re.compile(r"\d{1,6}(-\d{1,6})?(,\d{1,6}(-\d{1,6})?)*", re.ASCII)

DENY_ALL = oci.DeviceRule(allow=False, access="rwm")
ALLOW_ALL = oci.DeviceRule(allow=True, access="rwm")
MAKE_NODES = tuple(oci.DeviceRule(allow=True, type=kind, access="m") for kind in "cb")
COMMON = ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2))
"""null, zero, full, random, urandom, tty, console, ptmx."""
TERMINALS = oci.DeviceRule(allow=True, type="c", major=136, access="rwm")


def resources(service: Service, place: Place, facts: HostFacts) -> oci.Resources:
    """`linux.resources`. Raises UsageError when limits contradict each other."""
    limits = service.resources
    found: oci.Resources = {"devices": device_rules(service, place)}
    parts = {
        "cpu": _cpu(limits),
        "memory": memory(service.name, limits, facts),
        "blockIO": _blkio(limits.blkio, place),
    }
    for name, part in parts.items():
        if part:
            found[name] = part  # type: ignore[literal-required]
    if limits.pids:
        found["pids"] = {"limit": limits.pids}
    return found


def _said(**values: Any) -> dict[str, Any]:
    """Without what nobody said."""
    return {name: value for name, value in values.items() if value}


def _cpu(limits: Resources) -> dict[str, Any]:
    period, quota = limits.cpu_period, limits.cpu_quota
    if limits.cpus:
        period = period or PERIOD
        quota = round(limits.cpus * period)
    return _said(
        shares=limits.cpu_shares,
        period=period,
        quota=quota,
        realtimePeriod=limits.cpu_rt_period,
        realtimeRuntime=limits.cpu_rt_runtime,
        cpus=limits.cpuset,
    )


def processors(service: str, limits: Resources, facts: HostFacts) -> None:
    """Raises UsageError for a `cpuset` that names what this machine does not have."""
    text = limits.cpuset.replace(" ", "")
    if text and not _PROCESSORS.fullmatch(text):
        raise UsageError(f"service {service}: cpuset {limits.cpuset!r} is no list like 0-3 or 0,2")
    for low, _, high in (part.partition("-") for part in text.split(",") if part and facts.processors):
        if int(high or low) > max(facts.processors) or not facts.processors.issuperset(
            range(int(low), int(high or low) + 1)
        ):
            there = (
                f"{len(facts.processors)} processors, from {min(facts.processors)} to {max(facts.processors)}"
            )
            raise UsageError(
                f"service {service}: cpuset {limits.cpuset} names processors that this machine does not have",
                hint=f"it has {there}" if len(facts.processors) > 1 else "it has processor 0 only",
            )


def memory(service: str, limits: Resources, facts: HostFacts) -> dict[str, Any]:
    """`swap` counts memory and swap together; Docker allows as much swap as memory when nothing is said.

    A kernel that cannot limit swap is in the way of those only who asked for that. Raises UsageError for
    what Docker refuses.
    """
    swap = limits.memory_swap
    if 0 < limits.memory < LEAST_MEMORY:
        raise UsageError(
            f"service {service}: mem_limit: {limits.memory} bytes are too little for a container",
            hint="write it as in 512m; a number alone is bytes, and 6m is the least",
        )
    if 0 < limits.memory < limits.memory_reservation:
        raise UsageError(f"service {service}: mem_limit is less than mem_reservation, what is reserved of it")
    if swap > 0 and not limits.memory:
        raise UsageError(f"service {service}: memswap_limit needs mem_limit as well")
    if 0 < swap < limits.memory:
        raise UsageError(f"service {service}: memswap_limit counts memory too, it cannot be below mem_limit")
    if not swap and facts.swap:
        swap = 2 * limits.memory
    found = _said(limit=limits.memory, reservation=limits.memory_reservation, swap=swap)
    if limits.memory_swappiness is not None and limits.memory_swappiness >= 0:
        found["swappiness"] = limits.memory_swappiness
    if limits.oom_kill_disable:
        found["disableOOMKiller"] = True
    return found


def _blkio(config: BlkioConfig, place: Place) -> dict[str, Any]:
    def rates(entries: tuple[DeviceRate, ...], word: str) -> list[dict[str, int]]:
        numbers = place.block_devices
        return [{"major": numbers[e.path][0], "minor": numbers[e.path][1], word: e.rate} for e in entries]

    return _said(
        weight=config.weight,
        weightDevice=rates(config.weight_device, "weight"),
        throttleReadBpsDevice=rates(config.device_read_bps, "rate"),
        throttleWriteBpsDevice=rates(config.device_write_bps, "rate"),
        throttleReadIOPSDevice=rates(config.device_read_iops, "rate"),
        throttleWriteIOPSDevice=rates(config.device_write_iops, "rate"),
    )


def device_rules(service: Service, place: Place) -> list[oci.DeviceRule]:
    """The common nodes and what the service names; everything when privileged. Raises UsageError."""
    if service.privileged:
        return [ALLOW_ALL]
    common = [oci.DeviceRule(allow=True, type="c", major=a, minor=b, access="rwm") for a, b in COMMON]
    named = [_allow(device) for device in place.devices]
    asked = [device_rule(text) for text in service.device_cgroup_rules]
    return [DENY_ALL, *MAKE_NODES, *common, TERMINALS, *named, *asked]


def _allow(device: Device) -> oci.DeviceRule:
    return oci.DeviceRule(
        allow=True, type=device.type, major=device.major, minor=device.minor, access=device.access
    )


def device_rule(text: str) -> oci.DeviceRule:
    """`c 1:3 mr`, `b 8:* rwm`, `a *:* rwm`. Raises UsageError."""
    kind, _, rest = text.strip().partition(" ")
    numbers, _, access = rest.strip().partition(" ")
    major, colon, minor = numbers.partition(":")
    well = kind in ("a", "b", "c") and colon and access and set(access) <= set("rwm")
    if not well or not all(part == "*" or part.isdecimal() for part in (major, minor)):
        raise UsageError(f"device_cgroup_rules: {text!r} is no rule", hint="write one as 'c 1:3 rwm'")
    rule = oci.DeviceRule(allow=True, type=kind, access=access)
    if major != "*":
        rule["major"] = int(major)
    if minor != "*":
        rule["minor"] = int(minor)
    return rule


def rlimits(service: Service, facts: HostFacts) -> list[oci.Rlimit]:
    """Raises UsageError for a limit that does not exist or a soft limit above the hard one."""
    found = []
    if not facts.rootless and "nofile" not in service.ulimits:
        soft, hard = (min(limit, facts.open_files) for limit in OPEN_FILES)
        found = [oci.Rlimit(type="RLIMIT_NOFILE", soft=soft, hard=hard)]
    for name, limit in service.ulimits.items():
        soft, hard = (UNLIMITED if value == -1 else value for value in (limit.soft, limit.hard))
        if name not in ULIMITS:
            raise UsageError(f"service {service.name}: there is no ulimit {name}")
        if soft > hard:
            raise UsageError(f"service {service.name}: the soft ulimit {name} is above the hard one")
        found.append(oci.Rlimit(type=f"RLIMIT_{name.upper()}", soft=soft, hard=hard))
    return found


def sysctls(service: Service, namespaces: Mapping[str, str], facts: HostFacts) -> dict[str, str]:
    """What is set in the container's own namespaces; `namespaces` as `namespaces.chosen` gives them.

    Raises UsageError for a sysctl of the host, or of a namespace that the container does not have for itself.
    """
    found: dict[str, str] = {}
    if namespaces.get("network") == "":
        found.update(PORTS_FOR_ALL)
        if not facts.rootless:
            found[PING_FOR_ALL] = f"0 {IDS - 1 if 'user' in namespaces else 2**31 - 1}"
    for name, value in service.sysctls.items():
        owner = next((kind for kind, starts in SYSCTLS.items() if name.startswith(starts)), None)
        if owner is None or ".." in name or "/" in name:
            raise UsageError(
                f"service {service.name}: sysctl {name} is the whole host's",
                hint="only namespaced ones can be set",
            )
        if namespaces.get(owner) != "":
            raise UsageError(f"service {service.name}: sysctl {name} needs a {owner} namespace of its own")
        found[name] = str(value)
    return found


def device_nodes(service: Service, place: Place, facts: HostFacts) -> Iterator[oci.Device]:
    """`linux.devices`: nodes to make besides the common ones, which every runtime makes itself."""
    for device in (*(facts.devices if service.privileged else ()), *place.devices):
        yield oci.Device(
            type=device.type,
            path=device.path,
            major=device.major,
            minor=device.minor,
            fileMode=device.mode,
            uid=_known(device.uid, place),
            gid=_known(device.gid, place),
        )


def _known(identity: int, place: Place) -> int:
    return NOBODY if place.first_id and identity >= IDS else identity
