"""Short forms to long ones: one function per field that has both. Values in, values out.

After these, no later stage asks "text or mapping?". They leave alone what does not fit: judging is the
schema's business; only text that cannot be taken apart raises Misfit. Defaults that Compose fills in stand
here too.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from composer.model.kinds import Misfit, fitted, is_address, text_of
from composer.model.paths import clean

MAX_PORTS = 70_000
_RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?\Z", re.ASCII)
_DRIVE = re.compile(r"[^\W\d_]:")
_PROPAGATION = {"rprivate", "private", "rshared", "shared", "rslave", "slave"}
MOUNT_OPTIONS = _PROPAGATION | {"", "ro", "rw", "nocopy", "z", "Z", "cached", "consistent", "delegated"}
"""In the short form. The last three are Docker's on a Mac, and change nothing."""


def names(value: Any) -> Any:
    """A list of names is a mapping without details."""
    return dict.fromkeys(map(text_of, value)) if isinstance(value, list) else value


def one_or_many(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def text(value: Any) -> Any:
    return value if value is None else text_of(value)


def dns(value: Any) -> Any:
    many = one_or_many(value)
    return [one for one in many if one not in (None, "")] if isinstance(many, list) else many


def key_values(value: Any) -> Any:
    if isinstance(value, dict):
        fitted(((key, (key, item)) for key, item in value.items()), _valued)
    return dict(fitted(enumerate(value), _key_value)) if isinstance(value, list) else value


def _valued(pair: tuple[str, Any]) -> None:
    if pair[1] is None:
        raise Misfit(f"`{pair[0]}` has no value")


def _key_value(item: Any) -> tuple[str, str]:
    key, equals, rest = text_of(item).partition("=")
    if not equals:
        raise Misfit(f"`{text_of(item)}` must be written as key=value")
    return key, rest


def limit(value: Any) -> Any:
    if isinstance(value, dict | int) and not isinstance(value, bool):
        return value
    raise Misfit("must be a number, or a mapping with soft and hard")


def ssh(value: Any) -> Any:
    """`default`, id=path, or `id: path`, as `config` prints it."""
    return dict(fitted(enumerate(value), _ssh_key)) if isinstance(value, list) else value


def _ssh_key(value: Any) -> tuple[str, str | None]:
    item = text_of(value)
    key, equals, path = item.partition("=" if "=" in item else ": ")
    if not equals and key != "default":
        raise Misfit(f"`{item}` must be `default` or written as id=path")
    return key, path if equals else None


def source(value: Any) -> Any:
    return {"source": value} if isinstance(value, str) else value


def secret_target(value: Any) -> Any:
    if isinstance(value, dict) and "target" not in value:
        value["target"] = f"/run/secrets/{text_of(value.get('source'))}"
    return value


def count_all(value: Any) -> Any:
    if isinstance(value, dict) and "count" not in value and "device_ids" not in value:
        value["count"] = "all"
    return value


def gpus(value: Any) -> Any:
    return [{"count": "all"}] if isinstance(value, str) else value


def extends(value: Any) -> Any:
    return {"service": value} if isinstance(value, str) else value


def build(value: Any) -> Any:
    return {"context": value} if isinstance(value, str) else value


def build_context(value: Any) -> Any:
    if isinstance(value, dict):
        value.setdefault("context", ".")
    return value


def device(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    parts = value.split(":")
    if len(parts) > 3:
        raise Misfit(f"`{value}` has too many colons; use the long form (source, target, permissions)")
    return {
        "source": parts[0],
        "target": parts[1] if len(parts) > 1 and parts[1] else parts[0],
        "permissions": parts[2] if len(parts) > 2 else "rwm",
    }


def env_files(value: Any) -> Any:
    many = one_or_many(value)
    if not isinstance(many, list):
        return many
    return [
        {"path": one, "required": True}
        if isinstance(one, str)
        else {**one, "required": one.get("required", True)}
        if isinstance(one, dict)
        else one
        for one in many
    ]


def dependencies(value: Any) -> Any:
    if isinstance(value, list):
        return {text_of(one): {"condition": "service_started", "required": True} for one in value}
    if isinstance(value, dict):
        fitted(((name, (name, details)) for name, details in value.items()), _dependency)
    return value


def _dependency(pair: tuple[str, Any]) -> None:
    name, details = pair
    if not isinstance(details, dict):
        raise Misfit(f"`{name}` needs a mapping with a `condition`")
    details.setdefault("condition", "service_started")
    details.setdefault("required", True)


def resource(value: Any) -> Any:
    """`external: {name: x}` is the old form of `external: true` and `name: x`."""
    if isinstance(value, dict) and isinstance(value.get("external"), dict):
        old = value["external"].get("name")
        value["external"] = True
        if old is not None and value.setdefault("name", old) != old:
            raise Misfit("`name` and `external.name` differ; keep `name`")
    return value


def filled(*keys: str) -> Callable[[Any], Any]:
    """A mapping that `config` prints with all of these keys, said or not."""

    def of(value: Any) -> Any:
        return {**dict.fromkeys(keys), **value} if isinstance(value, dict) else value

    return of


def with_source(value: Any) -> Any:
    """A config that says where its text is, even if that is nowhere: `content: ${UNSET}` is empty."""
    if value is None or not value.keys() & {"file", "environment", "content", "external"}:
        raise Misfit("needs one of file, environment, content, or `external: true`")
    return value


def port_defaults(value: Any) -> Any:
    if isinstance(value, dict):
        value.setdefault("protocol", "tcp")
        value.setdefault("mode", "ingress")
    return value


def create_host_path(value: Any) -> Any:
    if isinstance(value, dict):
        value.setdefault("create_host_path", True)
    return value


def ports(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    left = MAX_PORTS

    def entries(entry: Any) -> list[Any]:
        nonlocal left
        short = isinstance(entry, str | int | float) and not isinstance(entry, bool)
        found = _port(text_of(entry)) if short and left >= 0 else [entry]
        left -= len(found)
        return found

    found = [one for many in fitted(enumerate(value), entries) for one in many]
    if left < 0:
        raise Misfit(f"publishes more than {MAX_PORTS} ports")
    return found


def _port(spec: str) -> list[dict[str, Any]]:
    """[address:][published[-last]:]target[-last][/protocol]; a range of both makes one entry each."""
    head, _, target = spec.rpartition(":")
    address, _, published = head.rpartition(":")
    target, _, protocol = target.partition("/")
    protocol = protocol.lower() or "tcp"
    if not target:
        raise Misfit(f"`{spec}` names no port of the container")
    if protocol not in ("tcp", "udp", "sctp"):
        raise Misfit(f"`{spec}`: the protocol is tcp, udp or sctp, not `{protocol}`")
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    if address and not is_address(address):
        raise Misfit(f"`{spec}`: `{address}` is not an IP address")
    first, last = _ports(target, spec)
    if first == 0:
        raise Misfit(f"`{spec}` names no port of the container")
    entries = []
    for number in range(first, last + 1):
        entry: dict[str, Any] = {"mode": "ingress", "target": number, "protocol": protocol}
        if address:
            entry["host_ip"] = address
        if published:
            low, high = _ports(published, spec)
            if high - low != last - first and last != first:
                raise Misfit(f"`{spec}`: the two ranges of ports differ in length")
            entry["published"] = (
                f"{low}-{high}" if last == first and low != high else str(low + number - first)
            )
        entries.append(entry)
    return sorted(entries, key=lambda entry: f"{entry['target']}/")


def _ports(text: str, spec: str) -> tuple[int, int]:
    match = _RANGE.match(text)
    if not match:
        raise Misfit(f"`{spec}`: `{text}` is not a port or a range of ports")
    first, last = int(match[1]), int(match[2] or match[1])
    if last < first or last > 65535:
        raise Misfit(f"`{spec}`: `{text}` is not a range of ports between 0 and 65535")
    return first, last


def mount(value: Any) -> Any:
    """[source:]target[:options]. A single letter before a colon is a Windows drive, as Compose has it."""
    if not isinstance(value, str):
        return value
    if not value:
        raise Misfit("is empty; write source:/target")
    if len(value) <= 2:
        return {"type": "volume", "target": clean(value)}
    sections = _sections(value)
    if not all(sections):
        raise Misfit(f"`{value}` has an empty part between its colons")
    if len(sections) > 3:
        raise Misfit(f"`{value}` has too many colons; use the long form (type, source, target)")
    entry: dict[str, Any] = {}
    if len(sections) > 1:
        entry["source"] = sections[0]
    entry["target"] = clean(sections[min(1, len(sections) - 1)])
    bind: dict[str, Any] = {}
    volume: dict[str, Any] = {}
    for option in sections[2].split(",") if len(sections) > 2 else ():
        if option in ("ro", "rw"):
            entry["read_only"] = option == "ro"
        elif option == "nocopy":
            volume = {"nocopy": True}
        elif option in _PROPAGATION:
            bind["propagation"] = option
        elif option in ("z", "Z"):
            bind["selinux"] = option
    if _is_path(entry.get("source", "")):
        entry |= {"type": "bind", "bind": bind | {"create_host_path": True}}
        return entry | ({"volume": volume} if volume else {})
    return entry | {"type": "volume", "volume": volume} | ({"bind": bind} if bind else {})


def unknown_options(spec: str) -> list[str]:
    """What stands behind the second colon of a mount and means nothing."""
    return [option for option in ",".join(_sections(spec)[2:3]).split(",") if option not in MOUNT_OPTIONS]


def _sections(spec: str) -> list[str]:
    sections, depth, start = [], 0, 0
    for i, char in enumerate(spec):
        if char == "$" and spec[i + 1 : i + 2] == "{":
            depth += 1
        elif char == "}" and depth:
            depth -= 1
        elif char == ":" and not depth and not (i - start == 1 and spec[start].isalpha()):
            sections.append(spec[start:i])
            start = i + 1
    return [*sections, spec[start:]]


def _is_path(source: str) -> bool:
    return source.startswith((".", "/", "~", "\\\\")) or bool(_DRIVE.match(source))
