"""Flags and arguments that many verbs share, worded once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from composer.cli.grammar import Flag, Positional, refused

SERVICES = Positional("SERVICE", "Only these services", many=True, required=False, complete="service")
SERVICE = Positional("SERVICE", "The service", complete="service")
INDEX = Flag("index", "int", "Which container of the service, if there are several", metavar="N")
TIMEOUT = Flag(
    "timeout", "str", "How long to wait after the stop signal before killing", "t", metavar="SECONDS"
)
FORMAT = Flag("format", "str", "table, json, or a Go template", default="table")
LOCKED = Flag("locked", "bool", "Only with the images that the lock file says (see `lock`)")

TRUTHS = ("true", "false", "1", "0")
Known = Mapping[str, tuple[str, ...]]
"""Keys of a filter, each with the words it takes; none: any text."""


def filters(texts: Sequence[str], known: Known) -> list[tuple[str, str]]:
    """KEY=VALUE of `--filter`. Raises UsageError."""
    found = []
    for text in texts:
        key, _, value = text.partition("=")
        if key not in known or not value:
            raise refused("--filter", text, f"no filter of {', '.join(f'{key}=…' for key in known)}")
        if known[key] and value.lower() not in known[key]:
            raise refused(f"--filter {key}", value, f"none of {', '.join(known[key])}")
        found.append((key, value))
    return found


def true(text: str) -> bool:
    return text.lower() in ("true", "1")


def size(text: str, flag: str) -> int:
    """Bytes, of `512m` or `2g`; 0 for nothing said. Raises UsageError."""
    from composer.model import units

    try:
        found = units.size(text) if text else 0
    except ValueError:
        found = -1
    if found < 0:
        raise refused(flag, text, "no size", "as in 512m or 2g")
    return found
