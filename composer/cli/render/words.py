"""Times, states, ports and commands in the words that Docker uses, for eyes and scripts."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from composer.record import ContainerRow, PortRow

SECOND = 1_000_000_000


def duration(seconds: float) -> str:
    """`Less than a second`, `5 seconds`, `About a minute`, `3 hours`, `2 weeks`."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole < 60:
        return f"{whole} second{'s' if whole != 1 else ''}"
    minutes, hours = whole // 60, int(seconds / 3600 + 0.5)
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    for unit, size, limit in (("days", 24, 14), ("weeks", 168, 9), ("months", 720, 24)):
        if hours < size * limit:
            return f"{hours // size} {unit}"
    return f"{hours // 8760} years"


def ago(then: int, now: int | None = None) -> str:
    """`then` in nanoseconds since the epoch: `2 minutes ago`."""
    return f"{duration(((now or time.time_ns()) - then) / SECOND)} ago"


def since(moment: str, now: int | None = None) -> str:
    """An RFC 3339 time as `2 weeks ago`; nothing for none."""
    from datetime import datetime

    try:
        then = datetime.fromisoformat(moment)
    except ValueError:
        return moment if moment else "N/A"
    return ago(int(then.timestamp() * SECOND), now)


def status(row: ContainerRow, now: int | None = None) -> str:
    """`Up 2 minutes (healthy)`, `Exited (1) 3 seconds ago`, `Created`."""
    now = now or time.time_ns()
    state, gated = row["state"], row["plan"].get("gated", False)
    if state in ("running", "paused"):
        marks = {"starting": " (health: starting)", "healthy": " (healthy)", "unhealthy": " (unhealthy)"}
        paused = f" ({'Idle' if gated else 'Paused'})" if state == "paused" else ""
        return f"Up {duration((now - row['started_at']) / SECOND)}{marks.get(row['health'], '')}{paused}"
    if state == "restarting":
        return f"Restarting ({row['exit_code']}) {ago(row['finished_at'], now)}"
    if gated:
        return "Waiting for a connection"
    if state == "exited":
        return f"Exited ({row['exit_code']}) {ago(row['finished_at'], now)}"
    return state.capitalize()


def command(words: list[str], *, whole: bool = False) -> str:
    """The command in quotes, cut to twenty characters as Docker does."""
    text = " ".join(words)
    return f'"{text if whole or len(text) <= 20 else text[:19] + "…"}"'


def ports(rows: Iterable[PortRow]) -> str:
    """`127.0.0.1:8080->80/tcp, 0.0.0.0:9000-9002->9000-9002/tcp, 53/udp`."""
    parts: list[list[PortRow]] = []
    for row in sorted(rows, key=lambda r: (r["protocol"], r["target"], r["host_ip"], r["published"])):
        if parts and follows(parts[-1][-1], row):
            parts[-1].append(row)
        else:
            parts.append([row])
    return ", ".join(group(part) for part in parts)


def follows(before: PortRow, row: PortRow) -> bool:
    same = before["protocol"] == row["protocol"] and before["host_ip"] == row["host_ip"]
    step = int(bool(row["published"]))
    return same and row["target"] == before["target"] + 1 and row["published"] == before["published"] + step


def group(part: list[PortRow]) -> str:
    first, last = part[0], part[-1]
    target = span(first["target"], last["target"])
    if not first["published"]:
        return f"{target}/{first['protocol']}"
    host = f"[{first['host_ip']}]" if ":" in first["host_ip"] else first["host_ip"]
    return f"{host}:{span(first['published'], last['published'])}->{target}/{first['protocol']}"


def span(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}-{high}"


def publishers(rows: Iterable[PortRow]) -> list[dict[str, Any]]:
    """Ports as Docker Compose's JSON has them."""
    return [
        {
            "URL": row["host_ip"],
            "TargetPort": row["target"],
            "PublishedPort": row["published"],
            "Protocol": row["protocol"],
        }
        for row in rows
    ]
