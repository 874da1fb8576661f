"""From a pipe or terminal to records of the CRI log format: `<time> <stream> <F|P> <bytes>`, a line each.

`F` ends a line, `P` is a piece of one that goes on. One read is one batch with one time; times increase from
batch to batch. Nothing is held back: an unfinished line is written as `P` at once.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from typing import Final

from composer.keeper.logfile import Buffer, Log
from composer.keeper.loop import OUTPUT, Loop

BATCH: Final = 1 << 18
MOST_SAID: Final = 2048
"""Bytes that are kept of the end of what a process printed."""
_buffer = bytearray(BATCH)


class Clock:
    """Wall time that never stands still and never goes back, as records begin with it."""

    def __init__(self) -> None:
        self._last = 0
        self._second = 0
        self._text = b""

    def now(self) -> int:
        """Nanoseconds since the epoch."""
        self._last = max(self._last + 1, time.time_ns())
        return self._last

    def stamp(self) -> bytes:
        """RFC 3339 in UTC, always 30 bytes."""
        second, fraction = divmod(self.now(), 1_000_000_000)
        if second != self._second:
            self._second = second
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        return b"%b.%09dZ" % (self._text, fraction)


def records(head: bytes, data: bytes | bytearray) -> list[Buffer]:
    """The records of a batch, in parts. `head` is time and stream, with a blank after each."""
    full = head + b"F "
    end = data.rfind(b"\n") + 1
    if not end:
        return [head, b"P ", data, b"\n"]
    body = data.replace(b"\n", b"\n" + full)
    rest = len(data) - end
    lines = memoryview(body)[: len(body) - rest - len(full)]
    return [full, lines, head, b"P ", data[end:], b"\n"] if rest else [full, lines]


class Stream:
    """One output of a container on its way to its log, or to nowhere without one. Owns its descriptor.

    `said`, if given, has the end of what came.
    """

    __slots__ = ("_clock", "_log", "_loop", "_name", "_partial", "_said", "fd", "on_end")

    def __init__(
        self, loop: Loop, fd: int, name: bytes, log: Log | None, clock: Clock, said: bytearray | None = None
    ) -> None:
        self.fd = fd
        """-1 after the end."""
        self._loop = loop
        self._name = b" " + name + b" "
        self._log = log
        self._clock = clock
        self._said = said
        self._partial = False
        self.on_end: Callable[[], None] = lambda: None
        os.set_blocking(fd, False)
        self._watch()

    def _watch(self) -> None:
        if self.fd >= 0:
            self._loop.watch(self.fd, OUTPUT, self._wake)

    def _wake(self) -> None:
        self._read()
        if self.fd >= 0 and self._log and self._log.full:
            self._loop.forget(self.fd)
            self._log.when_empty(self._watch)

    def _read(self) -> int:
        """One bounded read, written down. How many bytes it was; at the end of the stream it is closed."""
        try:
            size = os.readv(self.fd, [_buffer])
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno != errno.EIO:  # how a terminal says that nobody has it open any more
                raise
            size = 0
        if not size:
            self.close()
            return 0
        data = _buffer if size == BATCH else _buffer[:size]
        if self._said is not None:
            self._said += data[-MOST_SAID:]
            del self._said[:-MOST_SAID]
        if self._log:
            self._log.write(records(self._clock.stamp() + self._name, data))
            self._partial = data[-1] != 10
        return size

    def finish(self) -> None:
        """Its writer has ended: write down what is there now, but no more, as others may have it open."""
        for _ in range(64):  # more than a pipe of 1 MiB or a terminal can hold
            if self.fd < 0 or not self._read():
                break

    def close(self) -> None:
        """End the line that was left unfinished, if one was."""
        if self.fd < 0:
            return
        self._loop.forget(self.fd)
        os.close(self.fd)
        self.fd = -1
        if self._partial and self._log:
            self._log.write([self._clock.stamp(), self._name, b"F \n"])
        self.on_end()
