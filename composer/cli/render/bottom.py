"""Output with one line of ours below it, on a terminal that gives single keys."""

from __future__ import annotations

import os
import signal
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from composer.cli.render.table import shorten, width

CLEAR: Final = b"\r\x1b[J"
REVERSE, PLAIN = "\x1b[7m", "\x1b[0m"


class Bottom:
    """Use it as a context, on the main thread; everything that is to be seen goes through `write`. However
    the context ends, or whatever signal ends the process, the terminal is as it was; but for SIGKILL."""

    def __init__(self, text: Callable[[], str], *, colour: bool) -> None:
        """`text` is asked for the line whenever it is drawn."""
        self.text, self.colour = text, colour
        self.lock = threading.RLock()
        self.drawn = 0
        """Columns of the line that is on the screen."""
        self.active = False
        self.before: list[Any] = []
        self.handlers: dict[int, Any] = {}

    def __enter__(self) -> Bottom:
        self.before = termios.tcgetattr(0)
        self.handlers = {
            signal.SIGWINCH: signal.signal(signal.SIGWINCH, lambda *_: self.draw()),
            signal.SIGCONT: signal.signal(signal.SIGCONT, lambda *_: self.resume()),
            **{which: signal.signal(which, self.die) for which in (signal.SIGHUP, signal.SIGQUIT)},
        }
        self.active = True
        self.keys(True)
        self.draw()
        return self

    def __exit__(self, *_: object) -> None:
        for which, handler in self.handlers.items():
            signal.signal(which, handler)
        self.active = False
        self.put(self.cleared())
        self.keys(False)

    def keys(self, single: bool) -> None:
        """Keys one by one and unseen, or lines as ever. Ctrl-C is a signal both ways."""
        termios.tcsetattr(0, termios.TCSADRAIN, self.before)
        if single:
            tty.setcbreak(0, termios.TCSADRAIN)

    def write(self, data: bytes) -> None:
        """Whole lines, above ours."""
        with self.lock:
            self.put(self.cleared() + data + self.line() if self.active else data)

    def draw(self) -> None:
        self.write(b"")

    @contextmanager
    def lent(self) -> Iterator[None]:
        """The terminal belongs to somebody else; output waits."""
        with self.lock:
            self.put(self.cleared())
            self.keys(False)
            try:
                yield
            finally:
                self.keys(True)
                self.draw()

    def line(self) -> bytes:
        columns = max(wide() - 1, 1)
        text = shorten(self.text(), columns)
        self.drawn = width(text)
        if not self.colour:
            return text.encode()
        self.drawn = columns
        return f"{REVERSE}{text}{' ' * (columns - width(text))}{PLAIN}".encode()

    def cleared(self) -> bytes:
        """What takes our line away; a window that has become narrow has broken it into several."""
        up = max(self.drawn - 1, 0) // wide()
        self.drawn = 0
        return (f"\x1b[{up}A".encode() if up else b"") + CLEAR

    def put(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(1, view) :]

    def resume(self) -> None:
        """After Ctrl-Z and `fg`; not after `bg`, where the terminal is not ours."""
        if os.tcgetpgrp(0) == os.getpgrp():
            self.keys(True)
            self.draw()

    def die(self, which: int, _: object) -> None:
        termios.tcsetattr(0, termios.TCSANOW, self.before)
        signal.signal(which, signal.SIG_DFL)
        os.kill(os.getpid(), which)


def wide() -> int:
    """Columns of the terminal; one that does not know is taken for an ordinary one."""
    return os.get_terminal_size(1).columns or 80
