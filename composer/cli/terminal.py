"""A terminal lent to a process elsewhere: raw mode, window size, detach keys, bytes both ways."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from composer.errors import UsageError

DETACH = "ctrl-p,ctrl-q"


def is_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def size(descriptor: int = 0) -> tuple[int, int]:
    """Rows and columns, tty_ioctl(4)."""
    try:
        rows, columns, _, _ = struct.unpack("4H", fcntl.ioctl(descriptor, termios.TIOCGWINSZ, b"\0" * 8))
    except OSError:
        return 24, 80
    return rows, columns


def resize(master: int) -> None:
    """Give the other terminal the size of ours."""
    rows, columns = size()
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))


def detach_keys(text: str) -> bytes:
    """`ctrl-p,ctrl-q` or `a,b` as the bytes they send. Raises UsageError."""
    found = bytearray()
    for key in filter(None, text.split(",")):
        control = key.removeprefix("ctrl-")
        if len(control) != 1:
            raise UsageError(f"--detach-keys: {key!r} is no key", hint="a letter, or ctrl- and a letter")
        found.append(ord(control.upper()) & 0x1F if control != key else ord(key))
    return bytes(found)


@contextmanager
def raw() -> Iterator[None]:
    """Standard input in raw mode; as it was afterwards, whatever happens."""
    before = termios.tcgetattr(0)
    try:
        tty.setraw(0, termios.TCSADRAIN)  # what was typed ahead is for the container
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


@contextmanager
def following_size(master: int) -> Iterator[None]:
    """The other terminal follows when our window changes."""
    resize(master)
    before = signal.signal(signal.SIGWINCH, lambda *_: resize(master))
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)


class Detached(Exception):
    """The detach keys were typed."""


class Keys:
    """Watches typed bytes for the detach sequence; what belongs to it is held back until it is sure."""

    def __init__(self, sequence: bytes) -> None:
        self.sequence, self.held = sequence, b""

    def feed(self, data: bytes) -> bytes:
        """The bytes to pass on. Raises Detached."""
        if not self.sequence:
            return data
        out = bytearray()
        for byte in data:
            if byte == self.sequence[len(self.held)]:
                self.held += bytes([byte])
                if self.held == self.sequence:
                    raise Detached
            else:
                out += self.held + bytes([byte])
                self.held = b""
        return bytes(out)


def relay(master: int, ended: int, finished: Callable[[], bool], keys: Keys) -> None:
    """Copy between our terminal and `master` until the process has ended and all output is here.

    `ended` is a descriptor that is readable when there may be news; `finished` then looks. Raises Detached.
    """
    watched = [0, master, ended]
    while True:
        ready, _, _ = select.select(watched, [], [])
        if master in ready and not copy_out(master):
            watched.remove(master)
        if 0 in ready:
            data = os.read(0, 65536)
            if data:
                write_all(master, keys.feed(data))
            else:
                watched.remove(0)
        if ended in ready and finished():
            while master in watched and select.select([master], [], [], 0)[0] and copy_out(master):
                pass
            return


def copy_out(master: int) -> bool:
    """One read from the other terminal to our output. False at its end (EIO on Linux: pty(7))."""
    try:
        data = os.read(master, 65536)
    except OSError:
        return False
    write_all(1, data)
    return bool(data)


def write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
