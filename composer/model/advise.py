"""What Docker Compose lets pass in silence: keys without effect here, values that cannot work. Warnings only.

Reads the normal form. Each key is named once, where it first stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from composer.model import fields, logdrivers
from composer.model.check import Finding, Path

_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_.-]{1,253}\Z")
_RESTART = re.compile(r"no|always|unless-stopped|on-failure(:\d+)?")
_MODES = ("replicated", "global", "replicated-job", "global-job")


def advise(config: dict[str, Any]) -> Iterator[Finding]:
    yield from _without_effect(config)
    for name, service in config.get("services", {}).items():
        for path, message, hint in _service(service):
            yield ("services", name, *path), message, hint
    yield from _twice(config.get("services", {}))
    yield from _unpublished(config)


def _without_effect(config: dict[str, Any]) -> Iterator[Finding]:
    found: dict[tuple[str, ...], tuple[Path, fields.Field]] = {}

    def visit(value: Any, field: fields.Field, path: Path) -> Any:
        found.setdefault(field.path, (path, field))
        return value

    fields.walk(config, fields.tree("support"), visit)
    for path, field in found.values():
        yield path, f"has no effect: {field.why}", None


def _service(service: Mapping[str, Any]) -> Iterator[Finding]:
    restart = service.get("restart")
    if restart and not _RESTART.fullmatch(restart):
        hint = "write no, always, unless-stopped or on-failure[:attempts]"
        yield ("restart",), f"`{restart}` is not a restart policy, so it is never restarted", hint
    logging = service.get("logging") or {}
    for path, message, remedy in logdrivers.wrong(logging.get("driver", ""), logging.get("options") or {}):
        yield ("logging", *path), f"{message}, so it cannot start", remedy
    mode = service.get("deploy", {}).get("mode")
    if mode and mode not in _MODES:
        yield ("deploy", "mode"), f"`{mode}` is not a mode", "write replicated or global"
    for key in ("hostname", "domainname"):
        if key in service and not _HOST_NAME.match(service[key]):
            yield (key,), f"`{service[key]}` cannot be a host name", "use letters, digits, - and ."
    for index, mount in enumerate(service.get("volumes", ())):
        target = mount.get("target", "/")
        if not target.startswith("/"):
            drive = "one letter before a colon is a drive of Windows" if target[1:2] == ":" else None
            yield ("volumes", index), f"`{target}` is not absolute: it is mounted at /{target}", drive


def _unpublished(config: Mapping[str, Any]) -> Iterator[Finding]:
    """Only a bridge has ports that could be published."""
    networks = config.get("networks", {})
    for name, service in config.get("services", {}).items():
        mode = service.get("network_mode", "")
        drivers = {(networks.get(key) or {}).get("driver", "") for key in service.get("networks", {})}
        why = ""
        if mode in ("host", "none"):
            why = f"with `network_mode: {mode}`"
        elif drivers and drivers <= {"macvlan", "ipvlan", "host", "none"}:
            why = f"on networks of the driver {' and '.join(sorted(drivers))}"
        if why and service.get("ports"):
            yield ("services", name, "ports"), f"are discarded {why}", "only a bridge publishes ports"
        for key in ("links", "mac_address") if mode in ("host", "none") else ():
            if service.get(key):
                yield ("services", name, key), f"has no effect with `network_mode: {mode}`", None


def _twice(services: Mapping[str, Any]) -> Iterator[Finding]:
    """Two services cannot publish the same port on the same address."""
    taken: dict[tuple[str, str, str], str] = {}
    for name, service in services.items():
        for index, port in enumerate(service.get("ports", ())):
            published = port.get("published", "")
            place = (port.get("host_ip", ""), published, port.get("protocol", "tcp"))
            if not published or "-" in published:
                continue
            if taken.setdefault(place, name) != name:
                message = f"the port {published} is also published by `{taken[place]}`"
                yield ("services", name, "ports", index), message, "one of the two cannot start"
