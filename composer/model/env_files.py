"""`env_file` folded into `environment`, `label_file` into `labels`; files are read through `Reading`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from composer.errors import StackFileError
from composer.model import fields, units
from composer.model.dotenv import parse

if TYPE_CHECKING:
    from composer.model.reader import Reading


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
        known = environment.get(key, own.get(key))
        return found.get(key) if known is None else known

    for index, entry in enumerate(service.pop("env_file", ())):
        path = entry.get("path", "")
        if not reading.files.exists(path):
            if entry.get("required", True):
                where = ("services", name, "env_file", index)
                reading.complain(
                    f"the env file {path} does not exist",
                    reading.origins.place(where),
                    where,
                    "create it, or set `required: false`",
                )
            continue
        if entry.get("format", "") not in ("", ".env", "raw"):
            where = ("services", name, "env_file", index)
            message = f"the format `{entry['format']}` is unknown"
            reading.complain(message, reading.origins.place(where), where, "leave it out, or write raw")
            continue
        try:
            text = reading.bytes(path).decode("utf-8", "replace")
            found.update(_raw(text) if entry.get("format") == "raw" else parse(text, lookup, path))
        except StackFileError as error:
            reading.complaints.extend(error.complaints)
    if own or found:
        merged = found | own
        service["environment"] = {key: merged[key] for key in units.sorted_keys(merged)}


def _raw(text: str) -> dict[str, str]:
    """KEY=value lines, values as they stand; a KEY alone and comments are passed over."""
    found = {}
    for line in text.removeprefix("\ufeff").splitlines():
        key, equals, value = line.lstrip().partition("=")
        if equals and not key.startswith("#"):
            found[key] = value
    return found


def _labels(reading: Reading, name: str, service: dict[str, Any]) -> None:
    found: dict[str, Any] = {}
    for path in service.get("label_file", ()):
        if not reading.files.exists(path):
            where = ("services", name, "label_file")
            reading.complain(f"the label file {path} does not exist", reading.origins.place(where), where)
            continue
        try:
            found |= parse(reading.bytes(path).decode("utf-8", "replace"), found.get, path)
        except StackFileError as error:
            reading.complaints.extend(error.complaints)
    if found:
        merged = found | service.get("labels", {})
        service["labels"] = {key: merged[key] for key in units.sorted_keys(merged)}
