"""This terminal and a container, joined: what is typed goes in, what the container prints comes out.

What it prints is read from its log, record by record as the keeper writes them, so that a terminal that
leaves, or is slow, never holds up the container.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from pathlib import Path

from composer.cli.terminal import Keys, write_all
from composer.inotify import CREATE, MODIFY, MOVED_TO, Inotify
from composer.logs.format import CONTENT, PARTIAL, STREAM, TAG

BLOCK = 1 << 18


class RawLog:
    """The bytes that a container prints from now on. Its folder is watched, as the log may begin to exist.

    `tty`: it prints on a terminal, where a line ends with a return and a line feed. A line feed alone is what
    the keeper writes after a last line that has no end: it is kept back until more comes.
    """

    def __init__(self, path: Path, *, tty: bool) -> None:
        self.tty = tty
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.changes = Inotify()
        self.changes.watch(path.parent, MODIFY | CREATE | MOVED_TO)
        self.file = self._open()
        if self.file >= 0:
            os.lseek(self.file, 0, os.SEEK_END)
        self.rest = b""

    def fileno(self) -> int:
        return self.changes.fileno()

    def _open(self) -> int:
        try:
            return os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return -1

    def pump(self) -> None:
        """Write what is new to our standard output and error."""
        self.changes.take()
        while True:
            while self.file >= 0 and (data := os.read(self.file, BLOCK)):
                lines = (self.rest + data).split(b"\n")
                self.rest = lines.pop()
                if self.tty and lines and len(lines[-1]) == CONTENT and lines[-1][TAG] != PARTIAL:
                    self.rest = lines.pop() + b"\n" + self.rest
                for number, content in runs(lines):
                    write_all(number, content)
            if not self._moved_on():
                return

    def _moved_on(self) -> bool:
        """After a rotation go on with the new file."""
        newer = self._open()
        if newer < 0:
            return False
        if self.file >= 0 and os.path.sameopenfile(self.file, newer):
            os.close(newer)
            return False
        if self.file >= 0:
            os.close(self.file)
        self.file, self.rest = newer, b""
        return True

    def close(self) -> None:
        self.changes.close()
        if self.file >= 0:
            os.close(self.file)


def runs(records: list[bytes]) -> list[tuple[int, bytes]]:
    """(1 or 2, bytes) of records in the CRI log format, neighbours of one stream joined. Pure."""
    found: list[tuple[int, bytes]] = []
    for record in records:
        number = 2 if record[STREAM] == b"stderr" else 1
        content = record[CONTENT:] + (b"" if record[TAG] == PARTIAL else b"\n")
        if found and found[-1][0] == number:
            content = found.pop()[1] + content
        found.append((number, content))
    return found


def join(log: RawLog, into: int | None, keys: Keys, news: int, finished: Callable[[], bool]) -> None:
    """Copy both ways until `finished` says that the container has ended and all its output is here.

    `into` is where typed bytes go, None for nowhere; `news` is readable when there may be news for
    `finished`. Raises Detached.
    """
    watched: list[int] = [log.fileno(), news]
    if into is not None:
        watched.append(0)
    while True:
        ready, _, _ = select.select(watched, [], [])
        if log.fileno() in ready:
            log.pump()
        if 0 in ready and into is not None and not copy_in(into, keys):
            watched.remove(0)
        if news in ready and finished():
            log.pump()
            return


def copy_in(into: int, keys: Keys) -> bool:
    """One read of our standard input. False at its end, or when nobody reads any more."""
    data = os.read(0, 65536)
    if not data:
        os.close(into)
        return False
    try:
        write_all(into, keys.feed(data))
    except (BrokenPipeError, OSError):
        return False
    return True
