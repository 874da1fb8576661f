"""The drivers that `logging` can name here, and their options, which are Docker's.

What the options mean is not known here. https://docs.docker.com/engine/logging/
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING

from composer.model.kinds import nearest

if TYPE_CHECKING:
    from composer.model.tree import Path

_SHARED = frozenset(("mode", "max-buffer-size", "tag", "labels", "labels-regex", "env", "env-regex"))
_SHARED |= frozenset(("cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"))
_FILE = frozenset(("max-size", "max-file", "compress")) | _SHARED
OPTIONS: Mapping[str, frozenset[str]] = {
    "": _FILE,
    "json-file": _FILE,
    "local": _FILE,
    "none": _FILE,
    "journald": _SHARED,
    "syslog": _SHARED
    | frozenset(("syslog-address", "syslog-facility", "syslog-format", "syslog-tls-skip-verify"))
    | frozenset(("syslog-tls-ca-cert", "syslog-tls-cert", "syslog-tls-key")),
}


def wrong(driver: str, options: Collection[str]) -> Iterator[tuple[Path, str, str | None]]:
    """Where below `logging`, what is wrong, and what to do about it."""
    if driver not in OPTIONS:
        known = ", ".join(name for name in OPTIONS if name)
        yield ("driver",), f"there is no log driver `{driver}` here", f"known are {known}"
        return
    for name in sorted(set(options) - OPTIONS[driver]):
        what = f"`{name}` is no option of the log driver {driver or 'json-file'}"
        yield ("options", name), what, nearest(name, OPTIONS[driver])
