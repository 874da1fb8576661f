"""`RUN --mount=…` as values. Pure.

https://docs.docker.com/reference/dockerfile/#run---mount
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from posixpath import basename
from typing import Any

from composer.build.parse import Wrong
from composer.value import Value

_SIZES = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


class RunMount(Value):
    """One mount of a RUN. `origin` is its `from`. `required` counts for secrets and agents only."""

    type: str = "bind"
    target: str = ""
    source: str = ""
    origin: str = ""
    id: str = ""
    read_only: bool = False
    required: bool = False
    mode: int | None = None
    uid: int = 0
    gid: int = 0
    sharing: str = "shared"
    size: int = 0
    env: str = ""


_KEYS = {
    "bind": ("target", "source", "from", "readonly"),
    "cache": ("target", "source", "from", "readonly", "id", "sharing", "mode", "uid", "gid"),
    "tmpfs": ("target", "size"),
    "secret": ("id", "target", "required", "mode", "uid", "gid", "env"),
    "ssh": ("id", "target", "required", "mode", "uid", "gid"),
}
_SAME = {"dst": "target", "destination": "target", "src": "source", "ro": "readonly", "environment": "env"}


def run_mount(text: str, expand: Callable[[str], str] = str) -> RunMount:
    """Fields as in CSV; `expand` replaces the variables of a value, which cannot add fields. Raises Wrong."""
    found: dict[str, Any] = {}
    said: dict[str, str] = {}
    for part in next(csv.reader([text]), []):
        key, equals, value = part.partition("=")
        key = _SAME.get(key.strip().lower(), key.strip().lower())
        said[key] = expand(value) if equals else "true"
    if "rw" in said or "readwrite" in said:
        writes = _boolean("rw", said.pop("rw", "") or said.pop("readwrite", ""))
        said.pop("readwrite", None)
        said["readonly"] = "false" if writes else "true"
    kind = said.pop("type", "bind").lower()
    if kind == "secret" and "source" in said:
        said.setdefault("id", said.pop("source"))
    if kind not in _KEYS:
        raise Wrong(f"--mount=type={kind} is not known", f"there are {', '.join(_KEYS)}")
    for key, value in said.items():
        if key not in _KEYS[kind]:
            raise Wrong(f"--mount=type={kind} has no {key}", f"it has {', '.join(_KEYS[kind])}")
        name = {"from": "origin", "readonly": "read_only"}.get(key, key)
        found[name] = _CASTS[key](key, value) if key in _CASTS else value
    if kind == "bind":
        found.setdefault("read_only", True)
    mount = RunMount(type=kind, **found)
    if kind == "secret":
        return _secret(mount)
    if kind == "ssh":
        return mount.replace(id=mount.id or "default")
    if not mount.target:
        raise Wrong(f"--mount=type={kind} needs a target")
    return mount.replace(id=mount.id or mount.target) if kind == "cache" else mount


def _secret(mount: RunMount) -> RunMount:
    identity = mount.id or basename(mount.target)
    if not identity:
        raise Wrong("--mount=type=secret needs an id")
    target = mount.target or ("" if mount.env else f"/run/secrets/{identity}")
    return mount.replace(id=identity, target=target)


def _boolean(key: str, text: str) -> bool:
    if text.lower() in ("true", "1", ""):
        return True
    if text.lower() in ("false", "0"):
        return False
    raise Wrong(f"--mount: {key}={text} is neither true nor false")


def _octal(key: str, text: str) -> int:
    if not re.fullmatch("[0-7]{1,5}", text):
        raise Wrong(f"--mount: {key}={text} is no octal mode")
    return int(text, 8)


def _number(key: str, text: str) -> int:
    if not text.isdecimal() or len(text) > 10:
        raise Wrong(f"--mount: {key}={text} is no number")
    return int(text)


def _size(key: str, text: str) -> int:
    match = re.fullmatch(r"(\d{1,18})([bkmgt]?)b?", text.lower())
    if match is None:
        raise Wrong(f"--mount: {key}={text} is no size", "as in 64m")
    return int(match[1]) * _SIZES[match[2]]


def _sharing(_: str, text: str) -> str:
    text = text.lower()
    if text not in ("shared", "private", "locked"):
        raise Wrong(f"--mount: sharing={text} is not known", "it is shared, private or locked")
    return text


_CASTS: dict[str, Callable[[str, str], Any]] = {
    "readonly": _boolean,
    "required": _boolean,
    "mode": _octal,
    "uid": _number,
    "gid": _number,
    "size": _size,
    "sharing": _sharing,
}
