"""Capabilities, masked paths and `security_opt`. Docker's defaults."""

from __future__ import annotations

from typing import Literal

from composer import oci
from composer.bundle.inputs import HostFacts
from composer.errors import UsageError
from composer.model.stack import Service
from composer.runtime.capabilities import NAMES, resolve
from composer.value import Value

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
    """What root in the container may do, in the kernel's order. Raises UsageError for unknown names."""
    try:
        found = resolve(service.cap_add, service.cap_drop, service.privileged)
    except ValueError as error:
        raise UsageError(f"service {service.name}: {error}") from None
    return [name for name in found if name in NAMES[: facts.capabilities]]


def capability_sets(names: list[str]) -> oci.Capabilities:
    """Nothing is inheritable or ambient: a user other than root starts with none of them."""
    return oci.Capabilities(bounding=names, effective=names, permitted=names, inheritable=[], ambient=[])


def apparmor(service: Service, security: Security, facts: HostFacts) -> str:
    """The profile; "" where none is to be, or where the kernel has no AppArmor that could be left."""
    wanted = security.apparmor or ("unconfined" if service.privileged else facts.apparmor)
    return wanted if wanted != "unconfined" or facts.apparmor else ""
