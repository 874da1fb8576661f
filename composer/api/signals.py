"""Signals by name or number, as `kill -s` takes them."""

from __future__ import annotations

import signal

from composer.errors import UsageError


def number(text: str, flag: str = "") -> int:
    """`SIGTERM`, `TERM`, `term` or `15`; also `RTMIN+1`. Raises UsageError."""
    word = text.upper().removeprefix("SIG")
    if word.isdigit() and 0 < int(word) < signal.NSIG:
        return int(word)
    base, plus, more = word.partition("+")
    try:
        return int(signal.Signals[f"SIG{base}"]) + (int(more) if plus else 0)
    except (KeyError, ValueError):
        where = f"{flag}: " if flag else ""
        raise UsageError(f"{where}{text!r} is no signal", hint="SIGTERM, HUP or 9, for example") from None
