"""`env_file` folded into `environment`, `label_file` into `labels`; files are read through `Reading`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from composer.errors import Complaint, Place, StackFileError
from composer.model import fields, units
from composer.model.dotenv import parse

if TYPE_CHECKING:
    from composer.model.reader import Reading

Lookup = Callable[[str], str | None]


def resolve(reading: Reading, services: Mapping[str, Any], environment: Mapping[str, str]) -> None:
    """Later files win over earlier ones, and what the service says itself over all."""
    for name, service in services.items():
        if reading.switches.env:
            _environment(reading, name, service, environment)
        _labels(reading, name, service)
        _in_order(service)


def _in_order(service: dict[str, Any]) -> None:
    """New keys stand where the table has them."""
    node = fields.tree().children["services"].any
    assert node is not None
    ordered = {key: service.pop(key) for key in node.children if key in service}
    service |= ordered | {key: service.pop(key) for key in list(service)}


def _environment(
    reading: Reading, name: str, service: dict[str, Any], environment: Mapping[str, str]
) -> None:
    own: dict[str, Any] = {
        key: environment.get(key) if value is None else value
        for key, value in service.get("environment", {}).items()
    }
    found: dict[str, Any] = {}

    def lookup(key: str) -> str | None:
        return environment.get(key, own.get(key))

    for index, entry in enumerate(service.pop("env_file", ())):
        path = entry.get("path", "")
        if not path or not reading.files.exists(path):
            if entry.get("required", True):
                where = ("services", name, "env_file", index)
                message = f"the env file {path} does not exist"
                reading.wrong(where, message, "create it, or set `required: false`")
            continue
        if entry.get("format", "") not in ("", ".env", "raw"):
            where = ("services", name, "env_file", index)
            message = f"the format `{entry['format']}` is unknown"
            reading.wrong(where, message, "leave it out, or write raw")
            continue
        try:
            text = reading.bytes(path).decode("utf-8", "replace")
            read = _raw if entry.get("format") == "raw" else parse
            found |= read(text, lookup, path, dict(found).get)
        except StackFileError as error:
            reading.complaints.extend(error.complaints)
    if own or found:
        merged = found | own
        service["environment"] = {key: merged[key] for key in units.sorted_keys(merged)}


def _raw(text: str, lookup: Lookup, file: str, earlier: Lookup) -> dict[str, str | None]:
    """KEY=value lines, values as they stand; a KEY alone is inherited. StackFileError: not such a line."""
    found: dict[str, str | None] = {}
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        line = line.removesuffix("\r").lstrip()
        if not line or line.startswith("#"):
            continue
        key, equals, value = line.partition("=")
        if not key or any(map(str.isspace, key)):
            message = f"`{key}` cannot be the name of a variable" if key else f"`{line}` names no variable"
            hint = "`format: raw` takes KEY=value, with nothing around the ="
            raise StackFileError([Complaint(message, Place(file, number, 1), hint=hint)])
        inherited = lookup(key)
        if equals:
            found[key] = value
        elif inherited is not None:
            found[key] = inherited
    return found


def _labels(reading: Reading, name: str, service: dict[str, Any]) -> None:
    found: dict[str, Any] = {}
    for path in service.get("label_file", ()):
        if not reading.files.exists(path):
            where = ("services", name, "label_file")
            reading.wrong(where, f"the label file {path} does not exist")
            continue
        try:
            found |= parse(reading.bytes(path).decode("utf-8", "replace"), found.get, path)
        except StackFileError as error:
            reading.complaints.extend(error.complaints)
    if found:
        merged = found | service.get("labels", {})
        service["labels"] = {key: merged[key] for key in units.sorted_keys(merged)}
