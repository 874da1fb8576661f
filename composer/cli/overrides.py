"""What `run` changes of a service: from flags to fields of the model, as JSON."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from composer.errors import UsageError

if TYPE_CHECKING:
    from composer.model.stack import Mount

Fields = dict[str, Any]
LIST_FLAGS = {"cap_add": "cap_add", "cap_drop": "cap_drop"}
TEXT_FLAGS = {"user": "user", "workdir": "working_dir"}


def fields(
    service: Mapping[str, Any],
    flags: Mapping[str, Any],
    command: Sequence[str],
    environment: Mapping[str, str],
) -> Fields:
    """The fields of a one-off that differ from its service's. Raises UsageError."""
    changed: Fields = {
        # A second container with the same name, address or policy would be in the way of the first.
        "container_name": "",
        "restart": {},
        "networks": {name: joined(name, place, flags, service) for name, place in networks(service).items()},
        "ports": [*(service.get("ports", ()) if flags["service_ports"] else ()), *ports(flags["publish"])],
    }
    if flags["env"] or flags["env_from_file"]:
        given = {**flags["env_from_file"], **variables(flags["env"], environment)}
        changed["environment"] = {**service.get("environment", {}), **given}
    if flags["label"]:
        changed["labels"] = {**service.get("labels", {}), **dict(pair(text) for text in flags["label"])}
    if command:
        changed["command"] = list(command)
    if flags["entrypoint"] is not None:
        changed["entrypoint"] = shlex.split(flags["entrypoint"])
        changed.setdefault("command", [])
    for flag, field in LIST_FLAGS.items():
        if flags[flag]:
            changed[field] = [*service.get(field, ()), *flags[flag]]
    for flag, field in TEXT_FLAGS.items():
        if flags[flag]:
            changed[field] = flags[flag]
    if flags["volume"]:
        changed["volumes"] = volumes(service.get("volumes", ()), flags["volume"])
    return changed


def networks(service: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = service.get("networks", {})
    return found


def joined(
    name: str, place: Mapping[str, Any], flags: Mapping[str, Any], service: Mapping[str, Any]
) -> Fields:
    """Its place on a network: without fixed addresses, and with the service's names only when asked for."""
    fixed = ("ipv4_address", "ipv6_address", "mac_address", "aliases", "link_local_ips")
    kept = {key: value for key, value in place.items() if key not in fixed}
    if flags["use_aliases"]:
        kept["aliases"] = [*place.get("aliases", ()), service["name"]]
    return kept


def variables(texts: Sequence[str], environment: Mapping[str, str]) -> dict[str, str | None]:
    """`NAME=value`; `NAME` alone takes this environment's value, and is nothing when there is none."""
    found: dict[str, str | None] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if equals or name in environment:
            found[name] = value if equals else environment[name]
    return found


def pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def ports(texts: Sequence[str]) -> list[Any]:
    """`-p 8080:80`. Raises UsageError."""
    if not texts:
        return []
    from composer.model.digest import to_json
    from composer.model.normal import ports as read_ports
    from composer.model.stack import Port

    try:
        return [to_json(Port(**entry)) for entry in read_ports(list(texts))]
    except ValueError as error:
        raise UsageError(f"--publish: {error}") from None


def volumes(before: Sequence[Mapping[str, Any]], texts: Sequence[str]) -> list[Any]:
    """Mounts of the service, and `-v source:/target[:ro]`, which replace those at the same target."""
    from composer.model.digest import to_json

    added = [to_json(volume(text)) for text in texts]
    targets = {mount["target"] for mount in added}
    return [*(mount for mount in before if mount["target"] not in targets), *added]


def volume(text: str) -> Mount:
    """Raises UsageError."""
    import os

    from composer.model.normal import mount as read_mount
    from composer.model.stack import Mount

    try:
        entry = read_mount(text)
    except ValueError as error:
        raise UsageError(f"--volume: {error}") from None
    bind, own = entry.get("bind", {}), entry.get("volume", {})
    source = entry.get("source", "")
    if entry["type"] == "bind":
        source = os.path.abspath(os.path.expanduser(source))
    return Mount(
        type=entry["type"],
        target=entry["target"],
        source=source,
        read_only=entry.get("read_only", False),
        propagation=bind.get("propagation", ""),
        selinux=bind.get("selinux", ""),
        nocopy=own.get("nocopy", False),
    )
