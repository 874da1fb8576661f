"""Times as people write them: how long, and when."""

from __future__ import annotations

import re
import time

from composer.errors import UsageError
from composer.model.units import duration

SECOND = 1_000_000_000
UNITS = {"ms": 10**6, "s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND, "d": 86400 * SECOND}
RELATIVE = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")


def nanoseconds(text: str, flag: str) -> int | None:
    """`10`, `10s`, `1m30s`, `500ms` in nanoseconds; None for nothing said. Raises UsageError."""
    if text == "":
        return None
    try:
        found = int(text) * SECOND if text.isdecimal() else duration(text)
    except ValueError:
        found = -1
    if found < 0:
        raise UsageError(f"{flag}: {text!r} is no time", hint="seconds, as in 10, or 500ms, 10s, 2m")
    return found


def moment(text: str, flag: str, now: int | None = None) -> int | None:
    """`10m` (ago), `1700000000`, or RFC 3339 (local time without a zone), in ns since the epoch.

    Raises UsageError.
    """
    if not text:
        return None
    if RELATIVE.fullmatch(text):
        parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text)
        return (now or time.time_ns()) - sum(int(float(number) * UNITS[unit]) for number, unit in parts)
    if re.fullmatch(r"\d+(\.\d{1,9})?", text):
        whole, _, part = text.partition(".")
        return int(whole) * SECOND + int(part.ljust(9, "0") or 0)
    from datetime import datetime

    try:
        return int(datetime.fromisoformat(text).timestamp() * SECOND)
    except ValueError:
        raise UsageError(
            f"{flag}: {text!r} is no time", hint="10m for ten minutes ago, or 2026-01-31T13:00:00Z"
        ) from None
