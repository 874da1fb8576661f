"""Numbers and states as coloured text. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.text import Text

from composer.api.events import Event
from composer.cli.render.sizes import binary
from composer.record import ContainerRow

BARS = "▁▂▃▄▅▆▇█"
GOOD, BAD, BUSY, QUIET, NOTE = "#9ece6a", "#f7768e", "#e0af68", "#6b7394", "#7aa2f7"
CALM_CPU = 10.0
"""Per cent of one CPU that a curve is high for at least, so that noise does not look like work."""


def mood(row: ContainerRow) -> str:
    """The colour of a container: how it is."""
    if row["state"] == "running":
        return {"unhealthy": BAD, "starting": BUSY}.get(row["health"], GOOD)
    if row["state"] == "exited":
        return QUIET if row["exit_code"] in (0, 143) else BAD
    return BUSY if row["state"] in ("paused", "restarting") else QUIET


def mark(row: ContainerRow) -> Text:
    sign = {"running": "●", "paused": "‖", "restarting": "↻", "exited": "■"}.get(row["state"], "○")
    return Text(sign, mood(row))


def curve(values: Iterable[float], size: int, most: float, colour: str) -> Text:
    """The last `size` values as bars, the highest `most` or what was highest."""
    shown = list(values)[-size:] if size else []
    top = max(most, *shown, 1e-9) if shown else 1
    bars = "".join(BARS[min(int(value / top * len(BARS)), len(BARS) - 1)] for value in shown)
    return Text(" " * (size - len(bars))).append(bars, colour)


def percent(value: float) -> Text:
    return Text(f"{value:5.1f}%", QUIET if value < 0.05 else BAD if value > 90 else "")


def memory(used: int, limit: int) -> Text:
    """`12MiB`, and of how much if there is a limit."""
    text = Text().append(f" {binary(used):>8}", BAD if limit and used > 0.9 * limit else "")
    return text.append(f" / {binary(limit)}", QUIET) if limit else text


def summary(name: str, rows: Sequence[ContainerRow], cpu: float, used: int) -> Text:
    """The line at the top: how many are how, and what all of them take."""
    kinds = {
        "running": (GOOD, sum(r["state"] == "running" and r["health"] != "unhealthy" for r in rows)),
        "unhealthy": (BAD, sum(r["state"] == "running" and r["health"] == "unhealthy" for r in rows)),
        "paused": (BUSY, sum(r["state"] == "paused" for r in rows)),
        "restarting": (BUSY, sum(r["state"] == "restarting" for r in rows)),
        "failed": (BAD, sum(r["state"] == "exited" and mood(r) == BAD for r in rows)),
        "ended": (QUIET, sum(r["state"] == "exited" and mood(r) == QUIET for r in rows)),
    }
    text = Text(no_wrap=True).append(f" {name} ", f"bold reverse {NOTE}")
    for word, (colour, count) in kinds.items():
        if count:
            text.append("   ● ", colour).append(f"{count} {word}")
    if not rows:
        text.append("   ○ nothing runs", QUIET)
    else:
        text.append("   cpu ", QUIET).append(f"{cpu:.1f}%").append("   memory ", QUIET).append(binary(used))
    return text


def happened(event: Event, clock: str) -> Text:
    """One line of the events."""
    code = event["attributes"].get("exitCode", "")
    colour = {"start": GOOD, "die": BAD if code not in ("", "0", "143") else QUIET, "oom": BAD}.get(
        event["action"].partition(":")[0], NOTE
    )
    text = (
        Text()
        .append(f"{clock}  ", QUIET)
        .append(f"{event['action']:<16} ", colour)
        .append(event["container"])
    )
    return text.append(f"  exit code {code}", QUIET) if code not in ("", "0") else text


def found(line: str, wanted: str) -> Text | None:
    """A line of a log with what is searched for marked; None when it is not in it. Colours stay."""
    text = Text.from_ansi(line)
    if not wanted:
        return text
    plain, wanted = text.plain.lower(), wanted.lower()
    at = plain.find(wanted)
    if at < 0:
        return None
    while at >= 0:
        text.stylize("bold black on #e0af68", at, at + len(wanted))
        at = plain.find(wanted, at + len(wanted))
    return text
