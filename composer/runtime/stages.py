"""Stages: processes with the host's view and rights that make containers, one after the other.

Most of what a fork costs an interpreter is the pages that it touches for the first time afterwards. A stage
that stays has touched them, so only the container's own process is cloned for each container.
"""

from __future__ import annotations

import gc
import json
import os
import socket
from collections import deque
from functools import partial
from typing import NoReturn

from composer.runtime import init, linux, stage
from composer.runtime.errors import StepError
from composer.runtime.overlay import Overlay
from composer.runtime.pending import Line, Pending, Stdio, end, forget_signals, keep_only
from composer.runtime.stage import Order

_NAMES = ("order", "channel", *Stdio._fields, "listener")


class Parcel:
    """An order on its way to a stage, with the descriptors that go with it: copies of the caller's."""

    def __init__(self, order: Order, channel: socket.socket, stdio: Stdio, listener: int) -> None:
        given = zip(_NAMES[2:], (*stdio, listener), strict=True)
        self.descriptors = {"order": _memory(json.dumps(order).encode()), "channel": channel.detach()}
        self.descriptors |= {name: os.dup(descriptor) for name, descriptor in given if descriptor >= 0}

    def send(self, to: socket.socket) -> None:
        """Raises OSError when nobody is there any more."""
        socket.send_fds(to, [" ".join(self.descriptors).encode()], [*self.descriptors.values()])
        self.close()

    def refuse(self, error: OSError) -> None:
        """Tell whoever waits for the container that nobody can make it."""
        refusal = StepError.of("stage", error)
        fields = {"step": refusal.step, "errno": refusal.errno, "path": refusal.path, "text": refusal.text}
        with socket.socket(fileno=self.descriptors.pop("channel")) as channel:
            try:
                channel.send(json.dumps({"kind": "error", **fields}).encode(), socket.MSG_NOSIGNAL)
            except OSError:
                pass  # nobody waits
        self.close()

    def close(self) -> None:
        for descriptor in self.descriptors.values():
            os.close(descriptor)
        self.descriptors.clear()


class Stage:
    """The caller's end of one. It ends with the socket, or when an order fails."""

    def __init__(self, preserve: int = 0) -> None:
        """`preserve` of the caller's descriptors, from 3 on, are there for containers."""
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            pid, self.pidfd = linux.clone(0)
        except OSError:
            self.socket.close()
            theirs.close()
            raise
        if pid == 0:
            try:
                _serve(theirs, preserve)
            finally:
                os._exit(1)
        theirs.close()

    def end(self) -> None:
        self.socket.close()
        end(self.pidfd)
        os.close(self.pidfd)


class Stages:
    """The stages of a process that makes many containers: at most `most` at a time, the others wait."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._idle: list[Stage] = []
        self._busy = 0
        self._waiting: deque[tuple[Pending, Parcel]] = deque()

    def warm(self) -> None:
        """Have one ready."""
        if not self._idle and not self._busy:
            self._idle.append(Stage())

    def rest(self) -> None:
        """End those that have nothing to do."""
        while self._idle:
            self._idle.pop().end()

    def make(self, pending: Pending, parcel: Parcel) -> None:
        """Its `on_born` is taken: it must be told of, or closed."""
        entry = (pending, parcel)
        pending.on_born = lambda _: self._given_up(entry)
        self._waiting.append(entry)
        self._go_on()

    def _given_up(self, entry: tuple[Pending, Parcel]) -> None:
        self._waiting.remove(entry)
        entry[1].close()

    def _go_on(self) -> None:
        while self._waiting and (self._idle or self._busy < self._most):
            pending, parcel = self._waiting[0]
            try:
                chosen = self._idle.pop() if self._idle else Stage()
            except OSError as error:  # the processes that there may be are there
                if self._busy:
                    return
                self._waiting.popleft()
                pending.on_born = lambda _: None
                parcel.refuse(error)
                continue
            try:
                parcel.send(chosen.socket)
            except OSError:  # it was killed while it had nothing to do
                chosen.end()
                continue
            self._waiting.popleft()
            self._busy += 1
            pending.on_born = partial(self._over, chosen)

    def _over(self, used: Stage, alive: bool) -> None:
        self._busy -= 1
        if alive:
            self._idle.append(used)
        else:
            used.end()
        self._go_on()


def _memory(data: bytes) -> int:
    """As a file, since a message of a socket has room for some 200 KB only."""
    memory = os.memfd_create("order", os.MFD_CLOEXEC)
    with open(memory, "wb", closefd=False) as file:
        file.write(data)
    return memory


# --- in the stage


def _serve(orders: socket.socket, preserve: int) -> NoReturn:
    linux.prctl(linux.PR_SET_DUMPABLE, 0)
    forget_signals()
    for standard in range(3):
        os.dup2(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC), standard)
    keep_only((orders.fileno(),), 3 + preserve)
    linux.write_file("/proc/self/comm", "composer-stage")
    gc.freeze()
    while True:
        data, descriptors, _, _ = socket.recv_fds(orders, 256, len(_NAMES), socket.MSG_CMSG_CLOEXEC)
        if not data:
            os._exit(0)
        _make(dict(zip(data.decode().split(), descriptors, strict=True)))


def _make(given: dict[str, int]) -> None:
    """A container, of which this process keeps nothing; or the end of this process."""
    line = Line(socket.socket(fileno=given["channel"]))
    try:
        stdio = Stdio(*(given.get(name, -1) for name in Stdio._fields))
        job = stage.Job(line, _read(given["order"]), stdio, given.get("listener", -1))
        stage.run(job, init.run)
        job.release()
    except StepError as error:
        line.fail(error)
    except Exception as error:
        line.fail(StepError.of("stage", error))


def _read(memory: int) -> Order:
    with open(memory, "rb") as file:
        file.seek(0)
        order = Order(*json.load(file))
    overlay = order.overlay
    if overlay:
        lowers, upper, work, options = overlay
        order = order._replace(overlay=Overlay(tuple(lowers), upper, work, tuple(options)))
    return order
