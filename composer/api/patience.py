"""Waiting that comes to an end: when its time is over, or when nobody wants it any more.

What blocks here waits in `readable`, so a program in an event loop can have it done by a thread and still be
cancelled: it sets STOP in the thread's context to a descriptor, and makes that readable.
"""

from __future__ import annotations

import select
import time
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Protocol

from composer.errors import ComposerError, LateError

STOP: ContextVar[int] = ContextVar("STOP", default=-1)


class AbandonedError(ComposerError):
    """Nobody waits for this any more."""


class Readable(Protocol):
    def fileno(self) -> int: ...


def until(seconds: float | None) -> float | None:
    """The moment of time.monotonic() that is so far away; None for no limit."""
    return None if seconds is None else time.monotonic() + seconds


def readable(wanted: Iterable[Readable | int], deadline: float | None = None) -> set[int]:
    """Which of these descriptors can be read, or have come to their end. Raises LateError, AbandonedError."""
    poll, stop = select.poll(), STOP.get()
    for each in wanted:
        poll.register(each, select.POLLIN)
    if stop >= 0:
        poll.register(stop, select.POLLIN)
    left = None if deadline is None else max(deadline - time.monotonic(), 0) * 1000
    found = {descriptor for descriptor, _ in poll.poll(left)}
    if stop in found:
        raise AbandonedError("nobody waits for this any more")
    if not found:
        raise LateError("the time is over")
    return found


def check() -> None:
    """Raises AbandonedError when nobody waits any more."""
    stop = STOP.get()
    if stop >= 0 and select.select([stop], [], [], 0)[0]:
        raise AbandonedError("nobody waits for this any more")
