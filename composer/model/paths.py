"""Relative paths of a stack file to full ones. Works on text alone; never looks at the disk."""

from __future__ import annotations

import posixpath
import re
from typing import Any

from composer.value import Value

_WINDOWS = re.compile(r"(?:[a-zA-Z]:|\\\\[^\\/]+[\\/][^\\/]+)[\\/]")
_REMOTE = ("https://", "http://", "git://", "ssh://", "github.com/", "git@", "service:")


class Base(Value):
    """What paths are relative to, and what ~ stands for ("" leaves it alone)."""

    folder: str
    home: str = ""


def clean(path: str) -> str:
    """The shortest equal path; "" is "."."""
    path = posixpath.normpath(path)
    return path[1:] if path.startswith("//") else path


def join(folder: str, path: str) -> str:
    return clean(f"{folder}/{path}") if folder else clean(path)


def _home(path: str, base: Base) -> str:
    return join(base.home, path[1:]) if path.startswith("~") and base.home else path


def absolute(value: Any, base: Base) -> Any:
    if not isinstance(value, str) or value == "":
        return value
    path = _home(value, base)
    return path if path.startswith("/") else join(base.folder, path)


def each(value: Any, base: Base) -> Any:
    return [absolute(item, base) for item in value] if isinstance(value, list) else absolute(value, base)


def local(value: Any, base: Base) -> Any:
    """As `absolute`, but full Windows paths stay, and "" is the folder itself."""
    if not isinstance(value, str):
        return value
    path = _home(value, base)
    return path if path.startswith("/") or _WINDOWS.match(path) else join(base.folder, path)


def remote(path: str) -> bool:
    """Whether a file is to come from elsewhere."""
    return "://" in path or path.startswith(("git@", "github.com/"))


def context(value: Any, base: Base) -> Any:
    """A build context: URLs and other services stay."""
    if not isinstance(value, str) or "://" in value or value.startswith(_REMOTE):
        return value
    return absolute(value, base)


def contexts(value: Any, base: Base) -> Any:
    return {k: context(v, base) for k, v in value.items()} if isinstance(value, dict) else value


def mount(value: Any, base: Base) -> Any:
    if isinstance(value, dict) and value.get("type") == "bind" and "source" in value:
        value["source"] = local(value["source"], base)
    return value


def volume(value: Any, base: Base) -> Any:
    """A `local` volume that is really a bind mount has a path among its options."""
    if isinstance(value, dict) and value.get("driver") == "local":
        options = value.get("driver_opts")
        if isinstance(options, dict) and options.get("o") == "bind" and "device" in options:
            options["device"] = local(options["device"], base)
    return value
