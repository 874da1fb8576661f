"""Asking before something is lost."""

from __future__ import annotations

import sys

from composer.errors import UsageError


def sure(what: str, force: bool) -> bool:
    """Whether to go on. Raises UsageError when there is nobody to ask."""
    if force:
        return True
    if not sys.stdin.isatty():
        raise UsageError(f"{what.rstrip('.')}, and nobody is here to be asked", hint="say --force")
    print(f"{what}\nGo on? [yN] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
