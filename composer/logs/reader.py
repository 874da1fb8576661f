"""The log of a container on disk: its files from the oldest to the newest, from a place in them on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Final, NamedTuple

from composer.logs.format import PARTIAL, TAG, TIME, Joiner, Source, merged, shown, stamp

BLOCK: Final = 1 << 16
ATTEMPTS: Final = 100
"""How often to list files again that are being renamed, or whose newest is missing for good."""


class Part(NamedTuple):
    """A piece of an open file."""

    fd: int
    start: int
    end: int


class Reader:
    """The log of one container, also while it is written to, rotated, or begins to exist."""

    def __init__(self, source: Source) -> None:
        self.label = source.label
        self._path = source.path
        self._joiner = Joiner()
        self._inode = 0
        self._parts = self._unseen()

    def close(self) -> None:
        for part in self._parts:
            os.close(part.fd)
        self._parts.clear()

    def begin(self, *, tail: int | None, since: bytes, until: bytes) -> None:
        """Leave out what is not in [`since`, `until`), and of the rest all but the last `tail` lines."""
        if since or until:
            self._parts = [
                Part(fd, *_between(fd, start, end, since, until)) for fd, start, end in self._parts
            ]
        for index in reversed(range(len(self._parts) if tail is not None else 0)):
            fd, start, end = self._parts[index]
            place, tail = _last(fd, start, end, tail or 0)
            self._parts[index] = Part(fd, place, end)

    def batches(self) -> Iterator[list[bytes]]:
        """The whole lines up to the end that is known now, as records, block by block."""
        for index, (fd, start, end) in enumerate(self._parts):
            for block in _blocks(fd, start, end):
                self._parts[index] = Part(fd, self._parts[index].start + len(block), end)
                if records := self._joiner.records(block):
                    yield records

    def rest(self) -> list[bytes]:
        """What nobody has finished, as records."""
        return self._joiner.rest()

    def more(self) -> bool:
        """Look whether there is more than was known, all of which was read."""
        newer = self._unseen() if self._moved() else []
        if self._parts:
            for part in self._parts[:-1]:
                os.close(part.fd)
            fd, start, _ = self._parts[-1]
            # Only now: once there is a newer file, this one does not grow any more.
            size = os.fstat(fd).st_size
            self._parts = [Part(fd, start if start <= size else 0, size)]
        self._parts += newer
        return any(part.end > part.start for part in self._parts)

    def _moved(self) -> bool:
        return self._current() not in (0, self._inode)

    def _current(self) -> int:
        """The inode of the newest file, 0 in the midst of a rotation or before there is any."""
        try:
            return os.stat(self._path).st_ino
        except FileNotFoundError:
            return 0

    def _unseen(self) -> list[Part]:
        """Open what is newer than the newest file seen: the current one, and what was rotated since."""
        found = self._listed()
        for _ in range(ATTEMPTS):
            if self._current() == next(iter(found), self._inode):
                break  # and so nothing was renamed behind our back
            for part in found.values():
                os.close(part.fd)
            found = self._listed()
        self._inode = next(iter(found), self._inode)
        return list(found.values())[::-1]

    def _listed(self) -> dict[int, Part]:
        """Files by inode, from the newest back to the one seen last, or to the oldest."""
        found: dict[int, Part] = {}
        missing = 0
        for age in count():
            name = f"{self._path}.{age}" if age else self._path
            try:
                fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                missing += 1
                if missing > 1:  # there is one gap in the midst of a rotation
                    break
                continue
            missing = 0
            status = os.fstat(fd)
            if status.st_ino == self._inode or status.st_ino in found:
                os.close(fd)
            else:
                found[status.st_ino] = Part(fd, 0, status.st_size)
            if status.st_ino == self._inode:
                break
        return found


def read(
    sources: Sequence[Source],
    *,
    tail: int | None = None,
    since_ns: int | None = None,
    until_ns: int | None = None,
    timestamps: bool = False,
) -> Iterator[bytes]:
    """What is in these logs, in the order of time, in chunks of whole lines.

    `tail` is per source. Times are nanoseconds since the epoch; `since_ns` is included, `until_ns` is not.
    A source without a file is empty.
    """
    readers = [Reader(source) for source in sources]
    try:
        for reader in readers:
            reader.begin(tail=tail, since=times(since_ns), until=times(until_ns))
        yield from lines(readers, timestamps=timestamps, last=True)
    finally:
        for reader in readers:
            reader.close()


def times(ns: int | None) -> bytes:
    return b"" if ns is None else stamp(ns)


def lines(readers: Sequence[Reader], *, timestamps: bool, last: bool) -> Iterator[bytes]:
    """Everything that the readers know of now; `last`: also what is unfinished."""

    def feed(reader: Reader) -> Iterator[list[bytes]]:
        yield from reader.batches()
        if last and (rest := reader.rest()):
            yield rest

    if len(readers) == 1:
        for records in feed(readers[0]):
            yield shown(records, readers[0].label, timestamps=timestamps)
    else:
        yield from merged([(reader.label, feed(reader)) for reader in readers], timestamps=timestamps)


# --- places in a file


def _blocks(fd: int, start: int, end: int) -> Iterator[bytes]:
    """The bytes of a part in blocks of whole records. What is not a whole record yet is left out."""
    rest = b""
    while start < end:
        data = os.pread(fd, min(BLOCK, end - start), start)
        if not data:
            return
        start += len(data)
        cut = data.rfind(b"\n") + 1
        if cut:
            yield rest + data[:cut] if rest else data[:cut]
            rest = data[cut:]
        else:
            rest += data


def _between(fd: int, start: int, end: int, since: bytes, until: bytes) -> tuple[int, int]:
    """The part of a part that is not older than `since`, and older than `until`; empty ones do not matter."""
    start = _find(fd, start, end, since) if since else start
    return start, _find(fd, start, end, until) if until else end


def _find(fd: int, start: int, end: int, time: bytes) -> int:
    """Where the first record that is not older than `time` begins, by bisection."""
    while start < end:
        begin, after = _around(fd, start, (start + end) // 2, end)
        if os.pread(fd, TIME, begin) < time:
            start = after
        else:
            end = begin
    return start


def _around(fd: int, start: int, place: int, end: int) -> tuple[int, int]:
    """Where the record at `place` begins, and where the next one does."""
    begin = place
    while begin > start:
        size = min(BLOCK, begin - start)
        begin -= size
        cut = os.pread(fd, size, begin).rfind(b"\n") + 1
        if cut:
            begin += cut
            break
    while place < end:
        data = os.pread(fd, BLOCK, place)
        cut = data.find(b"\n") + 1
        if cut:
            return begin, min(place + cut, end)
        if not data:
            break
        place += len(data)
    return begin, end


def _last(fd: int, start: int, end: int, wanted: int) -> tuple[int, int]:
    """Where the last `wanted` lines begin, pieces and all, and how many are wanted from older files."""
    place, cut_off = end, b""
    while place > start:
        size = min(BLOCK, place - start)
        place -= size
        data = os.pread(fd, size, place) + cut_off
        first = 0 if place == start else data.find(b"\n") + 1
        if not first and place > start:
            cut_off = data
            continue
        cut_off = data[:first]
        after = place + data.rfind(b"\n") + 1
        for line in reversed(data[first : after - place].split(b"\n")[:-1]):
            if line[TAG] != PARTIAL:
                if not wanted:
                    return after, 0
                wanted -= 1
            after -= len(line) + 1
    return start, wanted
