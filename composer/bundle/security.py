"""Capabilities, masked paths and `security_opt`. Docker's defaults."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from composer import oci
from composer.bundle.inputs import HostFacts
from composer.errors import UsageError
from composer.model.stack import Service
from composer.value import Value

CAPABILITIES = tuple(
    f"CAP_{name}"
    for name in [
        "CHOWN",
        "DAC_OVERRIDE",
        "DAC_READ_SEARCH",
        "FOWNER",
        "FSETID",
        "KILL",
        "SETGID",
        "SETUID",
        "SETPCAP",
        "LINUX_IMMUTABLE",
        "NET_BIND_SERVICE",
        "NET_BROADCAST",
        "NET_ADMIN",
        "NET_RAW",
        "IPC_LOCK",
        "IPC_OWNER",
        "SYS_MODULE",
        "SYS_RAWIO",
        "SYS_CHROOT",
        "SYS_PTRACE",
        "SYS_PACCT",
        "SYS_ADMIN",
        "SYS_BOOT",
        "SYS_NICE",
        "SYS_RESOURCE",
        "SYS_TIME",
        "SYS_TTY_CONFIG",
        "MKNOD",
        "LEASE",
        "AUDIT_WRITE",
        "AUDIT_CONTROL",
        "SETFCAP",
        "MAC_OVERRIDE",
        "MAC_ADMIN",
        "SYSLOG",
        "WAKE_ALARM",
        "BLOCK_SUSPEND",
        "AUDIT_READ",
        "PERFMON",
        "BPF",
        "CHECKPOINT_RESTORE",
    ]
)
"""In the kernel's order, capabilities(7)."""

DEFAULT = frozenset(
    f"CAP_{name}"
    for name in [
        "CHOWN",
        "DAC_OVERRIDE",
        "FSETID",
        "FOWNER",
        "MKNOD",
        "NET_RAW",
        "SETGID",
        "SETUID",
        "SETFCAP",
        "SETPCAP",
        "NET_BIND_SERVICE",
        "SYS_CHROOT",
        "KILL",
        "AUDIT_WRITE",
    ]
)

MASKED = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


class Security(Value):
    """What `security_opt` says. `seccomp`: "" is the default filter, `unconfined` none, else a path."""

    no_new_privileges: bool = False
    seccomp: str = ""
    apparmor: str = ""
    paths: Literal["masked", "unconfined"] = "masked"


def options(service: Service) -> Security:
    """Raises UsageError for an option that means nothing: ignoring one would be less safe than it looks.

    `label` is about SELinux, whose policy for the host's own processes holds for containers too.
    """
    found = Security()
    for text in service.security_opt:
        mark = "=" if "=" in text else ":"
        name, _, value = text.partition(mark)
        if name == "no-new-privileges" and value in ("", "true", "false"):
            found = found.replace(no_new_privileges=value != "false")
        elif name == "seccomp" and value:
            found = found.replace(seccomp="" if value == "builtin" else value)
        elif name == "apparmor" and value:
            found = found.replace(apparmor=value)
        elif name == "label" and value:
            continue
        elif name == "systempaths" and value == "unconfined":
            found = found.replace(paths="unconfined")
        else:
            raise UsageError(
                f"service {service.name}: security_opt {text!r} means nothing here",
                hint="known are no-new-privileges, seccomp=, apparmor=, label=, systempaths=unconfined",
            )
    return found


def capabilities(service: Service, facts: HostFacts) -> list[str]:
    """What root in the container may do, in the kernel's order. Raises UsageError for unknown names.

    Docker's rules: adding ALL gives everything but what is dropped; dropping ALL leaves what is added.
    """
    everything = frozenset(CAPABILITIES[: facts.capabilities])
    add, drop = _names(service, service.cap_add), _names(service, service.cap_drop)
    if service.privileged:
        kept = everything
    elif "ALL" in add:
        kept = everything - drop
    elif "ALL" in drop:
        kept = add
    else:
        kept = (DEFAULT - drop) | add
    return [name for name in CAPABILITIES if name in kept and name in everything]


def _names(service: Service, texts: Iterable[str]) -> frozenset[str]:
    found = set()
    for text in texts:
        name = text.upper()
        name = "ALL" if name in ("ALL", "CAP_ALL") else f"CAP_{name.removeprefix('CAP_')}"
        if name != "ALL" and name not in CAPABILITIES:
            raise UsageError(f"service {service.name}: there is no capability {text}")
        found.add(name)
    return frozenset(found)


def capability_sets(names: list[str]) -> oci.Capabilities:
    """Nothing is inheritable or ambient: a user other than root starts with none of them."""
    return oci.Capabilities(bounding=names, effective=names, permitted=names, inheritable=[], ambient=[])


def apparmor(service: Service, security: Security, facts: HostFacts) -> str:
    if service.privileged and not security.apparmor:
        return "unconfined" if facts.apparmor else ""
    return security.apparmor or facts.apparmor
