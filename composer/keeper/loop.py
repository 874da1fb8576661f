"""An event loop of one thread: descriptors by urgency, and timers. Nothing of containers enters."""

from __future__ import annotations

import heapq
import select
import sys
import time
from collections.abc import Callable
from typing import Final

STEP: Final = 0
"""The runtime has something to tell about a process that it makes."""
EXIT: Final = 1
CONTROL: Final = 2
OUTPUT: Final = 3
"""Last of all, and only for a while at a time."""
OUTPUT_SHARE: Final = 0.002
"""Seconds of output until there is a look at what is more urgent, however many containers flood."""


def complain(text: str) -> None:
    """A line of diagnostics, if there is room for it: this process does not die of a full disk."""
    try:
        print(f"keeper: {text}", file=sys.stderr, flush=True)
    except OSError:
        pass


class Loop:
    """Calls back for readable descriptors, the most urgent first, at most once each per round."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, tuple[int, Callable[[], None]]] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = 0
        self._served = -1
        self.running = True

    def watch(self, fd: int, urgency: int, callback: Callable[[], None], *, writable: bool = False) -> None:
        """Call back while `fd` is readable (or hung up), or writable, too. Replaces an earlier callback."""
        events = select.EPOLLIN | (select.EPOLLOUT if writable else 0)
        if fd in self._watched:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
        self._watched[fd] = (urgency, callback)

    def forget(self, fd: int) -> None:
        """Before `fd` is closed. Nothing happens when it is not watched."""
        if self._watched.pop(fd, None):
            self._epoll.unregister(fd)

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        self._serial += 1
        heapq.heappush(self._timers, (time.monotonic() + seconds, self._serial, callback))

    def run(self) -> None:
        while self.running:
            self._round()

    def _round(self) -> None:
        timeout = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else -1
        polled = ((self._watched.get(fd), fd) for fd, _ in self._epoll.poll(timeout))
        ready = [(watched, fd) for watched, fd in polled if watched]
        # Outputs take turns: those behind the last one that was served come first.
        ready.sort(key=lambda entry: (entry[0][0], entry[1] <= self._served, entry[1]))
        began = 0.0
        for watched, fd in ready:
            if watched[0] == OUTPUT:
                now = time.monotonic()
                if began and now - began > OUTPUT_SHARE:
                    break
                began = began or now
                self._served = fd
            # An earlier callback may have closed this one's descriptor and opened another of the same number.
            if self._watched.get(fd) is watched and not self._call(watched[1]):
                self.forget(fd)
        while self._timers and self._timers[0][0] <= time.monotonic():
            self._call(heapq.heappop(self._timers)[2])

    @staticmethod
    def _call(callback: Callable[[], None]) -> bool:
        """False when it failed: whatever is wrong with one descriptor, the others depend on this process."""
        try:
            callback()
        except Exception:
            import traceback  # heavy, and hopefully for nothing

            complain(traceback.format_exc())
            return False
        return True
