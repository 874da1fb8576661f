"""A container's log on its way to somebody else's: read from its file, so that its writer never waits.

The file is the buffer: while the other side is away, lines wait there for as long as the file keeps them. How
far it went is kept beside the file, so that it goes on from there after a crash: nothing is lost, and only
what was being sent in that instant goes twice.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from composer.inotify import CREATE, MODIFY, MOVED_TO, Inotify
from composer.logs.format import TIME, Source, stamp
from composer.logs.reader import Reader

RETRY: Final = 1.0
"""Seconds after which somebody who is away is tried again."""


class Sink(Protocol):
    def send(self, record: bytes) -> None:
        """Raises OSError."""

    def close(self) -> None: ...


class Forwarder:
    """One thread, until `stop`. `on_trouble` hears when the other side is away, and "" when it is there."""

    def __init__(self, path: Path, sink: Sink, since_ns: int, on_trouble: Callable[[str], None]) -> None:
        self._path, self._sink, self._on_trouble = path, sink, on_trouble
        self._mark = path.with_name(f"{path.name}.sent")
        self._done, self._count = marked(self._mark) or (stamp(since_ns), 0)
        self._waiting: list[bytes] = []
        self._away = False
        self._stop, self._stopping = os.pipe2(os.O_CLOEXEC)
        self.thread = threading.Thread(target=self._run, name=f"log of {path.name}")
        self.thread.start()

    def stop(self) -> None:
        """Its writer has ended: what is there now still goes, if it can."""
        if self._stopping >= 0:
            os.close(self._stopping)
            self._stopping = -1

    def _run(self) -> None:
        reader = Reader(Source(str(self._path)))
        try:
            with Inotify() as changes:
                changes.watch(self._path.parent, MODIFY | CREATE | MOVED_TO)
                reader.begin(tail=None, since=self._done, until=b"")
                self._skip = self._count
                self._follow(reader, changes)
        except Exception as error:  # nobody else hears of what ends a thread; the lines are in the file
            self._trouble(f"given up: {error}")
            raise
        finally:
            reader.close()
            self._sink.close()
            os.close(self._stop)

    def _follow(self, reader: Reader, changes: Inotify) -> None:
        poll = select.poll()
        poll.register(changes, select.POLLIN)
        poll.register(self._stop, select.POLLIN | select.POLLHUP)
        ended = False
        while True:
            sent = self._flush() and all(self._take(batch) for batch in reader.batches())
            if ended:
                if sent:
                    self._take(reader.rest())
                return
            ready = poll.poll(None if sent else RETRY * 1000)
            ended = any(fd == self._stop for fd, _ in ready)
            changes.take()
            if sent or ended:
                reader.more()

    def _take(self, records: list[bytes]) -> bool:
        """False when they have to wait."""
        for index, record in enumerate(records):
            if record[:TIME] == self._done and self._skip:
                self._skip -= 1
            else:
                self._waiting = records[index:]
                break
        return self._flush()

    def _flush(self) -> bool:
        done = 0
        try:
            for record in self._waiting:
                self._sink.send(record)
                done += 1
                self._count = self._count + 1 if record[:TIME] == self._done else 1
                self._done = record[:TIME]
        except OSError as error:
            self._trouble(error.strerror or str(error))
        else:
            self._trouble("")
        if done:
            del self._waiting[:done]
            self._keep()
        return not self._waiting

    def _trouble(self, text: str) -> None:
        if bool(text) != self._away:
            self._away = bool(text)
            self._on_trouble(text)

    def _keep(self) -> None:
        new = self._mark.with_name(f"{self._mark.name}.new")
        try:
            new.write_bytes(b"%b %d\n" % (self._done, self._count))
            new.replace(self._mark)
        except OSError:
            pass  # a full disk: after a crash some lines may go twice


def marked(path: Path) -> tuple[bytes, int] | None:
    """The time of the last line that went, and how many of that time did."""
    try:
        time, _, count = path.read_bytes().partition(b" ")
        return time, int(count)
    except (OSError, ValueError):
        return None
