"""Which entries of a list are the same thing, so that a later one replaces an earlier one.

Each function gives the key of one entry, in short or long form; Misfit when it has none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from composer.model import normal
from composer.model.kinds import Misfit, text_of
from composer.model.units import Timestamp


def key(entry: Any) -> str:
    """The part before the = sign."""
    if not isinstance(entry, str):
        raise Misfit(
            f"must be text, not `{text_of(entry)}`" if not isinstance(entry, dict) else "must be text"
        )
    return entry.partition("=")[0]


def mount(entry: Any) -> str:
    if isinstance(entry, str):
        entry = normal.mount(entry)
    if not isinstance(entry, dict):
        raise Misfit("must be a mount like source:/target")
    if not isinstance(entry.get("target"), str):
        raise Misfit("has no `target`")
    return str(entry["target"])


def device(entry: Any) -> str:
    if isinstance(entry, str):
        parts = entry.split(":")
        return parts[0] if len(parts) == 1 else parts[1]
    if not isinstance(entry, dict):
        raise Misfit("must be a device like /dev/sda")
    if not isinstance(entry.get("target"), str) or isinstance(entry["target"], Timestamp):
        raise Misfit("has no `target`")
    return str(entry["target"])


def exposed(entry: Any) -> str:
    if isinstance(entry, str) or (isinstance(entry, int) and not isinstance(entry, bool)):
        return str(entry)
    raise Misfit("must be a port or a range of ports")


def grant(folder: str) -> Callable[[Any], str]:
    def of(entry: Any) -> str:
        if isinstance(entry, str):
            return f"{folder}/{entry}"
        if not isinstance(entry, dict):
            raise Misfit("must be text or a mapping")
        return str(entry["target"]) if "target" in entry else f"{folder}/{text_of(entry.get('source'))}"

    return of


def port(entry: Any) -> str:
    if not isinstance(entry, dict):
        return text_of(entry)
    if "target" not in entry:
        raise Misfit("has no `target` port")
    host, published = entry.get("host_ip", "0.0.0.0"), entry.get("published")
    published = f"number {published}" if isinstance(published, int) else published
    return f"{host}:{published}:{entry['target']}/{entry.get('protocol', 'tcp')}"


def env_file(entry: Any) -> str:
    if isinstance(entry, dict):
        if not isinstance(entry.get("path"), str):
            raise Misfit("has no `path`")
        return str(entry["path"])
    return text_of(entry)
