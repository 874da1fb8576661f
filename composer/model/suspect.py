"""Values that no container can have, or that mean something else than they look like. Warnings only.

Docker Compose fails when it comes to them, in the middle of `up`; here they are told with their place when
the file is read. Reads the normal form.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from composer.model.check import Finding
from composer.model.kinds import is_address, nearest
from composer.model.known import (
    CAPABILITIES,
    LEAST_MEMORY,
    SYSCTLS,
    ULIMITS,
    is_capability,
    is_exposed,
    signal_number,
)
from composer.model.normal import MOUNT_OPTIONS, unknown_options

MODES = {
    "network_mode": ("bridge", "default", "host", "none"),
    "pid": ("host", "private"),
    "ipc": ("host", "none", "private", "shareable"),
    "uts": ("host", "private"),
}
SHARED = ("service:", "container:")

_REGISTRY = r"((localhost|[\w\[\]-]*[.:][\w.:\[\]-]*)/)?"
_IMAGE = re.compile(_REGISTRY + r"[a-z0-9._/-]+(:[\w.-]+)?(@\w+:[0-9a-f]+)?", re.ASCII)
_MAC = re.compile(r"[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}")
_TMPFS_SIZE = re.compile(r"\d+[kKmMgGtTpP%]?")
_WINDOWS = re.compile(r"[A-Za-z]:[\\/]")
_DOCKER = "/docker.sock"


def suspect(config: Mapping[str, Any], environment: Mapping[str, str]) -> Iterator[Finding]:
    for name, service in config.get("services", {}).items():
        for key, rule in _RULES.items():
            if service.get(key):
                for path, message, hint in rule(service[key]):
                    yield ("services", name, key, *path), message, hint
        for path, message, hint in _memory(service):
            yield ("services", name, *path), message, hint
    yield from _addresses(config)
    yield from _unset(config, environment)


def mount_options(written: Mapping[str, Any]) -> Iterator[Finding]:
    """What Docker Compose drops when it makes the short form of mounts a long one. Of a file as written."""
    services = written.get("services")
    for name, service in services.items() if isinstance(services, dict) else ():
        mounts = service.get("volumes") if isinstance(service, dict) else None
        for index, spec in enumerate(mounts if isinstance(mounts, list) else ()):
            for option in unknown_options(spec) if isinstance(spec, str) else ():
                message = f"`{option}` is no option of a mount and has no effect"
                like = "did you mean `ro`?" if "read" in option.lower() else None
                hint = nearest(option, MOUNT_OPTIONS) or like
                yield ("services", name, "volumes", index), message, hint


def _image(text: str) -> Iterator[Finding]:
    if not _IMAGE.fullmatch(text):
        lower = _IMAGE.fullmatch(text.lower())
        hint = "only its tag may have capitals" if lower else "as in nginx:1.29 or ghcr.io/owner/name:tag"
        yield (), f"`{text}` cannot be the name of an image", hint


def _signal(text: str) -> Iterator[Finding]:
    try:
        signal_number(text)
    except ValueError:
        hint = nearest(text.upper(), signal.Signals.__members__) or "name one as SIGTERM, TERM or 15"
        yield (), f"`{text}` is no signal", hint


def _ulimits(limits: Mapping[str, Any]) -> Iterator[Finding]:
    for name, limit in limits.items():
        soft, hard = (limit["soft"], limit["hard"]) if isinstance(limit, dict) else (limit, limit)
        if name not in ULIMITS:
            yield (name,), f"there is no ulimit `{name}`", nearest(name, ULIMITS)
        elif 0 <= int(hard) < int(soft) or int(soft) < 0 <= int(hard):
            yield (name,), "the soft limit is above the hard one", None


def _sysctls(values: Mapping[str, Any]) -> Iterator[Finding]:
    for name, value in values.items():
        if not any(name.startswith(starts) for starts in SYSCTLS.values()):
            hint = f"only the host can set it: `sysctl -w {name}={value}` there"
            yield (name,), f"`{name}` is the whole host's, no container has one of its own", hint
        elif value in ("", None):
            yield (name,), f"`{name}` has no value", f"write {name}=VALUE"


def _dns(addresses: Iterable[str]) -> Iterator[Finding]:
    for index, address in enumerate(addresses):
        if not is_address(address):
            yield (index,), f"`{address}` is not an IP address", None


def _hosts(lines: Iterable[str]) -> Iterator[Finding]:
    for line in lines:
        name, _, address = line.partition("=")
        if address != "host-gateway" and not is_address(address):
            yield (), f"`{address}` of {name} is not an IP address", "host-gateway is the host's own"


def _capabilities(names: Iterable[str]) -> Iterator[Finding]:
    for index, name in enumerate(names):
        if not is_capability(name):
            hint = nearest(name.upper().removeprefix("CAP_"), CAPABILITIES)
            yield (index,), f"there is no capability `{name}`", hint


def _exposed(ports: Iterable[str]) -> Iterator[Finding]:
    for index, text in enumerate(ports):
        if not is_exposed(text):
            hint = "publish it by `ports`" if ":" in text else "as in 80, 53/udp or 8000-8010"
            yield (index,), f"`{text}` is no port of the container", hint


def _directory(text: str) -> Iterator[Finding]:
    if not text.startswith("/"):
        yield (), f"`{text}` is not absolute", f"as in /{text}"


def _mac(text: str) -> Iterator[Finding]:
    if not _MAC.fullmatch(text):
        yield (), f"`{text}` is not a MAC address", "as in 02:42:ac:11:00:02"


def _mode(known: Collection[str]) -> Callable[[str], Iterator[Finding]]:
    def rule(text: str) -> Iterator[Finding]:
        if text not in known and not text.startswith(SHARED):
            every = ", ".join((*sorted(known), "service:NAME", "container:NAME"))
            yield (), f"`{text}` is not known", nearest(text, known) or f"known are {every}"

    return rule


def _tmpfs(lines: Iterable[str]) -> Iterator[Finding]:
    for index, line in enumerate(lines):
        target, _, options = line.partition(":")
        if not target.startswith("/"):
            yield (index,), f"`{target}` is not absolute: it is mounted at /{target}", None
        for option in options.split(","):
            name, _, value = option.partition("=")
            if name == "size" and not _TMPFS_SIZE.fullmatch(value):
                yield (index,), f"`{value}` is not a size like 64m or 50%", None


def _volumes(mounts: Iterable[Mapping[str, Any]]) -> Iterator[Finding]:
    for index, mount in enumerate(mounts):
        source = mount.get("source", "") if mount.get("type") == "bind" else ""
        if _WINDOWS.match(source):
            yield (index,), f"`{source}` is a path of Windows, which this host does not have", None
        elif source.endswith(_DOCKER):
            hint = "what asks Docker, as Traefik and Portainer do, finds none of this stack there"
            yield (index,), "no Docker runs these containers", hint


def _memory(service: Mapping[str, Any]) -> Iterator[Finding]:
    resources = service.get("deploy", {}).get("resources", {})
    told = {
        ("mem_limit",): service.get("mem_limit"),
        ("deploy", "resources", "limits", "memory"): resources.get("limits", {}).get("memory"),
    }
    kept = service.get("mem_reservation") or resources.get("reservations", {}).get("memory") or 0
    for path, text in told.items():
        limit = int(text or 0)
        if 0 < limit < LEAST_MEMORY:
            yield path, f"{limit} bytes are too little for a container", "as in 512m; a number alone is bytes"
        elif 0 < limit < int(kept):
            yield path, "is less than what is reserved", None


def _addresses(config: Mapping[str, Any]) -> Iterator[Finding]:
    """Fixed addresses lie in a subnet that the file says, and belong to one service each."""
    subnets: dict[str, list[str]] = {}
    for key, network in config.get("networks", {}).items():
        pools = ((network or {}).get("ipam") or {}).get("config") or ()
        subnets[key] = [pool["subnet"] for pool in pools if "subnet" in pool]
        for index, pool in enumerate(pools):
            if is_address(pool.get("subnet", "")):
                hint = f"as in {pool['subnet']}/{64 if ':' in pool['subnet'] else 24}"
                yield ("networks", key, "ipam", "config", index, "subnet"), "has no prefix length", hint
        if (network or {}).get("external"):
            del subnets[key]
    taken: dict[tuple[str, str], str] = {}
    for name, service in config.get("services", {}).items():
        for key, place in (service.get("networks") or {}).items():
            for field in ("ipv4_address", "ipv6_address"):
                address = (place or {}).get(field, "")
                if not is_address(address) or key not in subnets:
                    continue
                path = ("services", name, "networks", key, field)
                if message := _outside(address, subnets[key], key):
                    hint = f"networks.{key}.ipam.config is the place for a subnet"
                    yield path, message, hint
                elif taken.setdefault((key, address), name) != name:
                    yield path, f"`{address}` is also the address of `{taken[key, address]}`", None


def _outside(address: str, subnets: Iterable[str], key: str) -> str:
    """Why it cannot be an address of the network; nothing for one that can."""
    import ipaddress

    fixed = ipaddress.ip_address(address)
    try:
        pools = [ipaddress.ip_network(subnet, strict=False) for subnet in subnets]
    except ValueError:
        return ""
    like = [pool for pool in pools if pool.version == fixed.version]
    if any(fixed in pool for pool in like):
        return ""
    if not like:
        return f"`{address}` needs a subnet, and `{key}` has none"
    return f"`{address}` is not in {' or '.join(map(str, like))}, which `{key}` has"


def _unset(config: Mapping[str, Any], environment: Mapping[str, str]) -> Iterator[Finding]:
    """Secrets and configs of variables that nobody has set."""
    for section in ("secrets", "configs"):
        for key, resource in config.get(section, {}).items():
            variable = (resource or {}).get("environment")
            if variable and variable not in environment:
                message = f"the variable {variable} is not set, so there is nothing to put into `{key}`"
                yield (section, key, "environment"), message, "set it, in the environment or in .env"


_RULES: Mapping[str, Callable[[Any], Iterator[Finding]]] = {
    "image": _image,
    "stop_signal": _signal,
    "ulimits": _ulimits,
    "sysctls": _sysctls,
    "dns": _dns,
    "extra_hosts": _hosts,
    "working_dir": _directory,
    "cap_add": _capabilities,
    "cap_drop": _capabilities,
    "expose": _exposed,
    "mac_address": _mac,
    "tmpfs": _tmpfs,
    "volumes": _volumes,
    **{key: _mode(known) for key, known in MODES.items()},
}
