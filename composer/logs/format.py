"""The CRI log format, many records at a time. Pure.

A record is `<time> <stdout|stderr> <F|P> <content>`, a line. Its first 40 bytes have fixed places, and times
are of one width and in UTC: they are compared as bytes, and nothing is parsed.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Iterator
from operator import itemgetter
from typing import Final, NamedTuple

TIME: Final = 30
STREAM: Final = slice(31, 37)
TAG: Final = slice(38, 40)
CONTENT: Final = 40
PARTIAL: Final = b"P "
LONGEST: Final = 1 << 20
"""A line is put together from its pieces up to so many bytes; what goes on is another line."""

_time_of = itemgetter(slice(0, TIME))


class Source(NamedTuple):
    """A container's log, and what each of its lines begins with when shown."""

    path: str
    label: bytes = b""


def stamp(ns: int) -> bytes:
    """A time as records have it, from nanoseconds since the epoch. One too far in the future is after all."""
    second, fraction = divmod(max(ns, 0), 1_000_000_000)
    try:
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
    except (OverflowError, ValueError, OSError):
        return b"9999"
    return b"%b.%09dZ" % (text.encode(), fraction)


class Joiner:
    """Puts lines together that were written in pieces. One per container: pieces come in different blocks."""

    def __init__(self) -> None:
        self._unfinished: dict[bytes, tuple[bytes, bytearray]] = {}

    def records(self, block: bytes) -> list[bytes]:
        """The whole lines in a block of whole records, as records without their newline, in order."""
        lines = block.split(b"\n")
        lines.pop()
        if not self._unfinished and b"out P " not in block and b"err P " not in block:
            return lines
        return [line for line in map(self._joined, lines) if line]

    def _joined(self, line: bytes) -> bytes:
        """The whole line that ends with this record, with its time; nothing if none does."""
        stream = line[STREAM]
        if line[TAG] != PARTIAL and stream not in self._unfinished:
            return line
        _, text = self._unfinished.pop(stream, (b"", bytearray()))
        text += line[CONTENT:]
        if line[TAG] == PARTIAL and len(text) < LONGEST:
            self._unfinished[stream] = line[: TAG.start], text
            return b""
        return line[: TAG.start] + b"F " + text

    def rest(self) -> list[bytes]:
        """Lines that were never finished."""
        lines = [head + b"F " + text for head, text in self._unfinished.values()]
        self._unfinished.clear()
        return sorted(lines, key=_time_of)


def shown(records: list[bytes], label: bytes, *, timestamps: bool) -> bytes:
    """Lines for people. There is at least one record."""
    if timestamps:
        lines = [record[: TIME + 1] + record[CONTENT:] for record in records]
    else:
        lines = [record[CONTENT:] for record in records]
    return label + (b"\n" + label).join(lines) + b"\n"


def merged(feeds: list[tuple[bytes, Iterator[list[bytes]]]], *, timestamps: bool) -> Iterator[bytes]:
    """Lines of several (label, batches of records) in the order of their times, in bounded memory.

    Each round goes as far in time as every source is known, and sorts what there is until then: containers
    write in long runs, and runs are what this sort is good at.
    """
    waiting = [(label, feed, batch) for label, feed in feeds if (batch := next(feed, None))]
    while waiting:
        horizon = min(_time_of(batch[-1]) for _, _, batch in waiting)
        due: list[bytes] = []
        left = []
        for label, feed, records in waiting:
            cut = len(records)
            if _time_of(records[-1]) > horizon:
                cut = bisect_right(records, horizon, key=_time_of)
            if timestamps:
                due += [r[:TIME] + label + r[: TIME + 1] + r[CONTENT:] for r in records[:cut]]
            else:
                due += [r[:TIME] + label + r[CONTENT:] for r in records[:cut]]
            batch = records[cut:] or next(feed, [])
            if batch:
                left.append((label, feed, batch))
        due.sort(key=_time_of)
        yield b"\n".join([line[TIME:] for line in due]) + b"\n"
        waiting = left
