"""Which container a command means: a service and, if there are several, an index."""

from __future__ import annotations

from composer.api.context import Context
from composer.errors import ComposerError, NotFoundError
from composer.record import ContainerRow

RUNNING = ("running", "paused")


def container(
    context: Context, service: str, index: int | None = None, *, running: bool = True, waiting: bool = False
) -> ContainerRow:
    """The container of `service` with number `index`, or the first. `waiting`: one that starts with the next
    connection is as good as one that runs. Raises NotFoundError, ComposerError.
    """
    rows = [r for r in context.record["containers"] if r["service"] == service and not r["oneoff"]]
    if not rows:
        known = sorted({row["service"] for row in context.record["containers"]})
        raise NotFoundError(
            f'service "{service}" is not running', hint=f"there are {', '.join(known)}" if known else None
        )
    chosen = [row for row in rows if index in (None, 0) or row["number"] == index]
    if not chosen:
        raise NotFoundError(f'service "{service}" has no container number {index}')
    chosen.sort(key=lambda row: (row["state"] not in RUNNING, row["number"]))
    waits = waiting and chosen[0]["plan"].get("gated")
    if running and chosen[0]["state"] not in RUNNING and not waits:
        raise ComposerError(f'service "{service}" is not running', hint=f"`composer start {service}`")
    return chosen[0]
