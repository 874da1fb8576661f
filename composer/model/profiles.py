"""Which services are active: profiles, and services named on the command line. Works on the normal form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Services = Mapping[str, Mapping[str, Any]]


def active(services: Services, profiles: Iterable[str], named: Iterable[str] = ()) -> set[str]:
    """Services without profiles or with an active one (`*`: any). A named service brings its profiles."""
    wanted = set(profiles)
    found = _matching(services, wanted)
    extra = {
        profile
        for name in named
        if name not in found
        for profile in services.get(name, {}).get("profiles", ())
    }
    return _matching(services, wanted | extra) if extra else found


def _matching(services: Services, wanted: set[str]) -> set[str]:
    return {
        name
        for name, service in services.items()
        if not service.get("profiles") or "*" in wanted or not wanted.isdisjoint(service["profiles"])
    }


def selected(services: Services, named: Iterable[str]) -> set[str]:
    """The named services and everything that they depend on."""
    found: set[str] = set()
    todo = list(named)
    while todo:
        name = todo.pop()
        if name in services and name not in found:
            found.add(name)
            todo.extend(services[name].get("depends_on", ()))
    return found


def used(services: Services) -> dict[str, set[str]]:
    """The keys of networks, volumes, secrets, configs and models that services use."""
    found: dict[str, set[str]] = {
        key: set() for key in ("networks", "volumes", "secrets", "configs", "models")
    }
    for service in services.values():
        found["networks"].update(service.get("networks", ()))
        found["models"].update(service.get("models", ()))
        found["volumes"].update(
            v["source"] for v in service.get("volumes", ()) if v.get("type") == "volume" and v.get("source")
        )
        found["secrets"].update(s.get("source", "") for s in service.get("secrets", ()))
        found["secrets"].update(s.get("source", "") for s in service.get("build", {}).get("secrets", ()))
        found["configs"].update(c.get("source", "") for c in service.get("configs", ()))
    return found
