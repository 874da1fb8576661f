"""A container's log on disk: appended to, rotated, and patient with a full disk.

The bytes are records already (`drain` makes them); here a record is only something that ends in a newline.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Final

from composer.keeper.loop import Loop

RETRY: Final = 0.25
PATIENCE: Final = 5.0
"""Seconds without room after which output is thrown away, so that the container can go on."""
TAIL: Final = 1 << 16

Buffer = bytes | bytearray | memoryview


class Log:
    """Takes whole batches of records. What cannot be written waits in here; then its writers should, too.

    `on_trouble(errno, text, lost)` is told when writing begins to fail, and with errno 0 when it works again,
    with the number of bytes that were thrown away meanwhile.
    """

    __slots__ = (
        "_backlog",
        "_fd",
        "_loop",
        "_lost",
        "_max_file",
        "_max_size",
        "_path",
        "_size",
        "_stamp",
        "_troubled",
        "_waiting",
        "on_trouble",
    )

    def __init__(
        self, loop: Loop, path: str, max_size: int, max_file: int, stamp: Callable[[], bytes]
    ) -> None:
        """Sizes in bytes, 0: no bound; `stamp` gives the time of a record. Raises OSError of open(2)."""
        self._loop = loop
        self._path = path
        self._max_size = max_size
        self._max_file = max_file
        self._stamp = stamp
        self._backlog = b""
        self._lost = 0
        self._troubled = 0.0
        self._waiting: list[Callable[[], None]] = []
        self.on_trouble: Callable[[int, str, int], None] = lambda *_: None
        self._fd = -1
        self._open()
        self._mend()

    @property
    def full(self) -> bool:
        """Whether to hold back now, and ask to be called by `when_empty`."""
        return bool(self._backlog) and not self._hopeless

    def when_empty(self, callback: Callable[[], None]) -> None:
        self._waiting.append(callback)

    def write(self, parts: Sequence[Buffer]) -> None:
        """Append one batch. Never raises: trouble is told, and tried again."""
        size = sum(map(len, parts))
        if self._backlog and self._hopeless:
            self._lost += size
            return
        if not self._backlog and self._fd >= 0 and not 0 < self._max_size < self._size + size:
            try:
                done = os.writev(self._fd, parts)
            except OSError:
                done = 0
            self._size += done
            if done == size:
                return
            self._backlog = b"".join(parts)[done:]
        else:
            self._backlog += b"".join(parts)
        if not self._troubled:
            self._flush()

    def reopen(self) -> None:
        """Somebody moved or removed the file: begin again at its path."""
        self._close()
        try:
            self._open()
        except OSError:
            pass  # the next write tries again, and tells

    def close(self) -> None:
        """What still waits for room is tried once more, and then lost."""
        if self._backlog:
            self._flush(last=True)
        self._backlog = b""
        self._close()

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(self._path, flags, 0o640)
        self._size = os.fstat(self._fd).st_size

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _mend(self) -> None:
        """End what a killed keeper left unfinished: it must not run into the next container's first line."""
        tail = os.pread(self._fd, TAIL, max(0, self._size - TAIL)) if self._size else b""
        if tail and not tail.endswith(b"\n"):
            self.write([b"\n"])
        lines = tail.split(b"\n")
        for name in (b" stdout ", b" stderr "):
            last = next((line for line in reversed(lines) if line[30:38] == name), b"")
            if last[38:40] == b"P ":
                self.write([self._stamp(), name, b"F \n"])

    def _rotate(self) -> None:
        """The file becomes `.1`, that `.2`, and the oldest beyond `max_file` is gone."""
        if self._max_file <= 1:
            os.unlink(self._path)  # not truncated: who follows the log can read the rest of it
        for age in range(self._max_file - 1, 0, -1):
            try:
                os.rename(f"{self._path}.{age - 1}" if age > 1 else self._path, f"{self._path}.{age}")
            except FileNotFoundError:
                pass
        self._close()
        self._open()

    # --- the slow way: over the bound, or no room

    def _flush(self, *, last: bool = False) -> None:
        """Write what waits, rotating as needed; come back to it later if that fails."""
        try:
            while self._backlog:
                if self._fd < 0:
                    self._open()
                cut = self._fitting()
                if cut:
                    done = os.write(self._fd, memoryview(self._backlog)[:cut])
                    self._size += done
                    self._backlog = self._backlog[done:]
                else:
                    self._rotate()
        except OSError as error:
            if not last:
                self._fail(error)
        else:
            if self._troubled:
                self._recover()

    def _fitting(self) -> int:
        """How many bytes go into this file: whole records. One record alone may be over the bound."""
        room = self._max_size - self._size
        if not self._max_size or len(self._backlog) <= room:
            return len(self._backlog)
        cut = self._backlog.rfind(b"\n", 0, max(room, 0)) + 1
        return cut if cut or self._size else self._backlog.index(b"\n") + 1

    @property
    def _hopeless(self) -> bool:
        return bool(self._troubled) and time.monotonic() - self._troubled > PATIENCE

    def _fail(self, error: OSError) -> None:
        if not self._troubled:
            self._troubled = time.monotonic()
            self.on_trouble(error.errno or 0, error.strerror or str(error), 0)
        elif self._hopeless:
            kept = self._backlog.index(b"\n") + 1  # the record that is half written, perhaps
            self._lost += len(self._backlog) - kept
            self._backlog = self._backlog[:kept]
            self._release()
        self._loop.later(RETRY, self._again)

    def _again(self) -> None:
        if self._backlog:
            self._flush()

    def _recover(self) -> None:
        lost, self._lost, self._troubled = self._lost, 0, 0.0
        if lost:
            self.write(
                [self._stamp(), b" stderr F composer: %d bytes of output lost: the disk was full\n" % lost]
            )
        self.on_trouble(0, "", lost)
        self._release()

    def _release(self) -> None:
        waiting, self._waiting = self._waiting, []
        for callback in waiting:
            callback()
