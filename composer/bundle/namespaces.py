"""Which namespaces a container has for itself, shares with others, or leaves to the host."""

from __future__ import annotations

from collections.abc import Mapping

from composer import oci
from composer.bundle.inputs import HostFacts, Place
from composer.errors import UsageError
from composer.model.stack import Service

OWN: Mapping[str, frozenset[str]] = {
    "network": frozenset(("", "bridge", "default", "none")),
    "pid": frozenset(("", "private")),
    "ipc": frozenset(("", "private", "shareable", "none")),
    "uts": frozenset(("", "private")),
    "cgroup": frozenset(("", "private")),
}
"""Per namespace, the modes that give a container its own."""
SHARED = ("service:", "container:")


def modes(service: Service) -> dict[str, str]:
    return {
        "network": service.network_mode,
        "pid": service.pid,
        "ipc": service.ipc,
        "uts": service.uts,
        "cgroup": service.cgroup,
    }


def known(service: Service) -> None:
    """Raises UsageError for a mode that there is not."""
    for kind, mode in modes(service).items():
        if mode not in OWN[kind] and mode != "host" and not mode.startswith(SHARED):
            raise UsageError(f"service {service.name}: {kind} mode {mode!r} is not known")


def chosen(service: Service, place: Place) -> dict[str, str]:
    """OCI type → path to join, or "" for a new one; the host's own are left out. Raises UsageError.

    A cgroup namespace is private unless said otherwise, on every hierarchy: what Docker does on cgroup v2.
    """
    known(service)
    found = {"mount": ""}
    for kind, mode in modes(service).items():
        if mode in OWN[kind]:
            found[kind] = ""
        elif mode != "host":
            found[kind] = place.joined[kind]
    if place.first_id:
        found["user"] = place.joined.get("user", "")
    return found


def rows(found: Mapping[str, str]) -> list[oci.Namespace]:
    return [
        oci.Namespace(type=kind, path=path) if path else oci.Namespace(type=kind)  # type: ignore[typeddict-item]
        for kind, path in found.items()
    ]


def hostname(service: Service, place: Place, facts: HostFacts) -> str:
    """As Docker: its own name, the host's when it shares the host's network, else the start of its id."""
    if service.hostname:
        return service.hostname
    host = "host" in (service.network_mode, service.uts)
    return facts.hostname if host else place.id[:12]
