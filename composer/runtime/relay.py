"""Between a container's process and whoever called: its terminal, the signals, the exit code."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import struct
import termios
import tty
from collections.abc import Iterator

from composer.runtime import linux
from composer.runtime.pending import Pending

_FORWARDED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


def send_console(path: str, master: int) -> None:
    """Give the terminal to the engine that listens at `path`, as runc does it. Raises OSError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.connect(path)
        socket.send_fds(line, [b"/dev/ptmx"], [master])
    os.close(master)


class Relay:
    """Made before the process runs, so that no signal is lost; `wait` lasts until its end."""

    def __init__(self, pending: Pending) -> None:
        self.pending = pending
        self.signals, wake = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(self.signals, False)
        signal.set_wakeup_fd(wake)
        for number in (*_FORWARDED, signal.SIGWINCH):
            signal.signal(number, lambda *_: None)

    def wait(self) -> int:
        """The exit code, 128 and more for a signal."""
        pending, master = self.pending, self.pending.console
        with _raw(0) if master >= 0 else contextlib.nullcontext():
            self._serve(pending.pidfd, master)
        ended = os.waitid(os.P_PIDFD, pending.pidfd, os.WEXITED)
        assert ended is not None
        return ended.si_status if ended.si_code == os.CLD_EXITED else 128 + ended.si_status

    def _serve(self, pidfd: int, master: int) -> None:
        poll = select.poll()
        for descriptor in (pidfd, self.signals, *((0, master) if master >= 0 else ())):
            poll.register(descriptor, select.POLLIN)
        self._resize(master)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self.signals in ready:
                for number in os.read(self.signals, 64):
                    if number == signal.SIGWINCH:
                        self._resize(master)
                    else:
                        with contextlib.suppress(ProcessLookupError):
                            signal.pidfd_send_signal(pidfd, number)
            if 0 in ready and not _copy(0, master):
                poll.unregister(0)
            if master in ready and not _copy(master, 1):
                poll.unregister(master)
            if pidfd in ready:
                while master >= 0 and select.select([master], [], [], 0)[0] and _copy(master, 1):
                    pass
                return

    def _resize(self, master: int) -> None:
        if master >= 0 and os.isatty(0):
            size = fcntl.ioctl(0, termios.TIOCGWINSZ, struct.pack("4H", 0, 0, 0, 0))
            fcntl.ioctl(master, linux.TIOCSWINSZ, size)


def _copy(source: int, target: int) -> bool:
    """What is there; False at the end. A terminal whose other end was closed fails with EIO."""
    try:
        data = os.read(source, 65536)
    except OSError:
        return False
    view = memoryview(data)
    while view:
        view = view[os.write(target, view) :]
    return bool(data)


@contextlib.contextmanager
def _raw(descriptor: int) -> Iterator[None]:
    if not os.isatty(descriptor):
        yield
        return
    before = termios.tcgetattr(descriptor)
    tty.setraw(descriptor)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
