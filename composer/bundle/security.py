"""Capabilities, masked paths and `security_opt`. Docker's defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from composer import oci
from composer.bundle.inputs import HostFacts
from composer.errors import UsageError
from composer.model.stack import NOTHING, FrozenMap, Service
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
LABEL = ("user", "role", "type", "level")
"""The parts of a label of SELinux, in their order; `filetype` is the type of the files in it."""
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


class Security(Value):
    """What `security_opt` says. `seccomp`: "" is the default filter, `unconfined` none, else a path."""

    no_new_privileges: bool = False
    seccomp: str = ""
    apparmor: str = ""
    label: Mapping[str, str] = NOTHING
    paths: Literal["masked", "unconfined"] = "masked"


def options(service: Service) -> Security:
    """Raises UsageError for an option that means nothing: ignoring one would be less safe than it looks.

    `label` is about SELinux, whose policy for the host's own processes holds for a container that names none.
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
        elif name == "label" and value == "disable":
            continue
        elif name == "label" and (part := value.partition(":"))[0] in (*LABEL, "filetype") and part[2]:
            found = found.replace(label=FrozenMap({**found.label, part[0]: part[2]}))
        elif name == "systempaths" and value == "unconfined":
            found = found.replace(paths="unconfined")
        else:
            raise UsageError(
                f"service {service.name}: security_opt {text!r} means nothing here",
                hint="known are no-new-privileges, seccomp=, apparmor=, label=type:, systempaths=unconfined",
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


def selinux(security: Security, facts: HostFacts) -> tuple[str, str]:
    """The labels of its processes and of its files: the host's with what is said of them; "" is no label."""
    if not facts.selinux or not security.label:
        return "", ""
    own = {**dict(zip(LABEL, facts.selinux.split(":", 3), strict=False)), **security.label}
    process = ":".join(filter(None, map(own.get, LABEL))) if security.label.keys() & set(LABEL) else ""
    files = ":".join(filter(None, (own["user"], "object_r", own.get("filetype"), own.get("level"))))
    return process, files if "filetype" in own else ""


def without_effect(service: Service, facts: HostFacts) -> list[str]:
    """The options that change nothing on this host."""
    label = {} if facts.selinux else options(service).label
    return [f"label={part}:{value}" for part, value in label.items()]
