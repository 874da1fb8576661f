"""Logs as they grow: over rotation, containers made anew, and new ones."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from composer.inotify import CREATE, MODIFY, MOVED_TO, OVERFLOW, Inotify
from composer.logs.format import Source
from composer.logs.reader import Reader, lines, times


def follow(
    directory: Path,
    discover: Callable[[], Sequence[Source]],
    stop: int,
    *,
    tail: int | None = None,
    since_ns: int | None = None,
    timestamps: bool = False,
    deadline: float | None = None,
) -> Iterator[bytes]:
    """What `read` gives, and then whatever is added, until the descriptor `stop` is readable, or the moment
    `deadline` of time.monotonic() has come.

    All logs are in `directory`, which exists. `discover` is asked again whenever a file appears there; a
    source that is new then is shown from its beginning.
    """
    readers: dict[str, Reader] = {}
    with Inotify() as changes:
        changes.watch(directory, MODIFY | CREATE | MOVED_TO)
        try:
            for source in discover():
                readers[source.path] = Reader(source)
                readers[source.path].begin(tail=tail, since=times(since_ns), until=b"")
            yield from lines(list(readers.values()), timestamps=timestamps, last=False)
            poll = select.poll()
            poll.register(changes, select.POLLIN)
            poll.register(stop, select.POLLIN)
            ended = False
            while not ended:
                left = None if deadline is None else max(deadline - time.monotonic(), 0) * 1000
                events = poll.poll(left)
                ended = not events or any(fd == stop for fd, _ in events)
                if any(kind & (CREATE | MOVED_TO | OVERFLOW) for _, kind, _ in changes.take()) or ended:
                    for source in discover():
                        if source.path not in readers:
                            readers[source.path] = Reader(source)
                grown = [reader for reader in readers.values() if reader.more() or ended]
                yield from lines(grown, timestamps=timestamps, last=ended)
        finally:
            for reader in readers.values():
                reader.close()
