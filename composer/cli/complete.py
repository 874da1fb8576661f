"""What shell completion offers."""

from __future__ import annotations


def services(incomplete: str) -> list[str]:
    """Services of the stack in this folder that start with `incomplete`; none when it cannot be read."""
    from composer.cli.context import Context
    from composer.errors import ComposerError

    try:
        names = list(Context({}).project.services)
    except (ComposerError, OSError):
        return []
    return [name for name in names if name.startswith(incomplete)]
