"""Packets that wait: a queue of the kernel's (nfnetlink_queue) whose packets go on later, or not at all.

Only their numbers come here, the packets stay in the kernel. They keep their order. When the socket closes,
however that happens, the rule that leads to the queue lets packets pass as if it were not there.
"""

from __future__ import annotations

import asyncio
import errno
import random
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import TypeVar

from composer.errors import ConflictError
from composer.network.netlink import NETLINK_NETFILTER, Netlink, NetlinkError, attribute, attributes
from composer.network.nft import expr
from composer.network.nft.apply import delete, replace
from composer.network.nft.faults import waiting
from composer.network.nft.table import Table
from composer.syscalls import setns

T = TypeVar("T")
CLONE_NEWNET = 0x40000000

_SUBSYSTEM = 3 << 8
_VERDICT, _CONFIG, _VERDICT_BATCH = _SUBSYSTEM | 1, _SUBSYSTEM | 2, _SUBSYSTEM | 3
_DROP, _ACCEPT = 0, 1
_FAIL_OPEN, _WHOLE = 1, 4
"""A full queue lets packets pass; large ones are not cut up."""
LONGEST = 4096
"""Packets that wait at once."""
BUFFER = 1 << 21
FIRST, NUMBERS = 0x4300, 0x400


class Delay:
    """What leaves a container by some interfaces is late. Made and used inside a running asyncio loop.

    `delay` and `jitter` in seconds, `loss` a share. Raises ConflictError when the kernel has no
    queues, OSError when the process is gone.
    """

    def __init__(
        self, fault: int, pid: int, interfaces: Iterable[str], *, delay: float, jitter: float, loss: float
    ) -> None:
        self.delay, self.jitter, self.loss = delay, jitter, loss
        self.loop = asyncio.get_running_loop()
        self.waiting: deque[tuple[float, int]] = deque()
        self.timer: asyncio.TimerHandle | None = None
        self.socket, self.rules = within(pid, lambda: (opened(), Netlink(protocol=NETLINK_NETFILTER)))
        try:
            self.number = self._bind()
            self.table = self._divert(fault, list(interfaces))
        except (OSError, NetlinkError) as error:
            self.socket.close()
            self.rules.close()
            raise ConflictError(
                f"this kernel cannot hold packets back: {error}",
                hint="it needs nfnetlink_queue, and nft_queue or xt_NFQUEUE",
            ) from error
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        self.socket.setblocking(False)
        self.loop.add_reader(self.socket, self._arrived)

    def _divert(self, fault: int, interfaces: list[str]) -> Table:
        table = waiting(fault, self.number, interfaces)
        try:
            replace(self.rules, table)
        except NetlinkError as error:
            if error.errno != errno.ENOENT:
                raise
            table = waiting(fault, self.number, interfaces, expr.queue_target)
            replace(self.rules, table)
        return table

    def _bind(self) -> int:
        """The first number that nobody else uses."""
        start = random.randrange(NUMBERS)
        for step in range(NUMBERS):
            number = FIRST + (start + step) % NUMBERS
            try:
                self._configure(number, attribute(1, struct.pack(">BxH", 1, 0)))
            except OSError as error:
                if error.errno not in (errno.EBUSY, errno.EPERM):
                    raise
                continue
            flags = _FAIL_OPEN | _WHOLE
            self._configure(
                number,
                attribute(2, struct.pack(">IB", 0, 1)),
                attribute(3, struct.pack(">I", LONGEST)),
                attribute(4, struct.pack(">I", flags)) + attribute(5, struct.pack(">I", flags)),
            )
            return number
        raise OSError(errno.EBUSY, "all queues are in use")

    def _configure(self, number: int, *parts: bytes) -> None:
        self.socket.send(_message(_CONFIG, number, *parts, flags=5))
        (code,) = struct.unpack_from("=i", self.socket.recv(4096), 16)
        if code:
            raise OSError(-code, errno.errorcode.get(-code, str(code)))

    def _arrived(self) -> None:
        try:
            for _ in range(256):
                self._take(self.socket.recv(65536))
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno != errno.ENOBUFS:  # more came than there was room for: those wait for the next one
                raise
        self._pass()

    def _take(self, data: bytes) -> None:
        """A packet. What is lost goes at once; the others wait behind those that came before."""
        header = dict(attributes(data[20:])).get(1)
        if header is None:
            return
        (packet,) = struct.unpack_from(">I", header)
        if random.random() < self.loss:
            self._decide(_VERDICT, _DROP, packet)
            return
        due = self.loop.time() + max(self.delay + random.uniform(-self.jitter, self.jitter), 0.0)
        if self.waiting:
            due = max(due, self.waiting[-1][0])
        self.waiting.append((due, packet))

    def _pass(self) -> None:
        """Let go on what has waited long enough, and come back for the next."""
        last, now = None, self.loop.time()
        while self.waiting and self.waiting[0][0] <= now:
            _, last = self.waiting.popleft()
        if last is not None:
            self._decide(_VERDICT_BATCH, _ACCEPT, last)
        if self.timer is not None:
            self.timer.cancel()
        self.timer = self.loop.call_at(self.waiting[0][0], self._pass) if self.waiting else None

    def _decide(self, kind: int, verdict: int, packet: int) -> None:
        """With _VERDICT_BATCH: this one and all that came before it."""
        header = attribute(2, struct.pack(">II", verdict, packet))
        self.socket.send(_message(kind, self.number, header, flags=1))

    def close(self) -> None:
        """What still waits goes on at once."""
        if self.timer is not None:
            self.timer.cancel()
        if self.waiting:
            self._decide(_VERDICT_BATCH, _ACCEPT, self.waiting[-1][1])
        self.loop.remove_reader(self.socket)
        try:
            delete(self.rules, self.table.name)
        except NetlinkError:
            pass  # with its container
        self.rules.close()
        self.socket.close()


def opened() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)


def within(pid: int, make: Callable[[], T]) -> T:
    """What `make` makes in the network namespace of a process. A socket stays in the one it was opened in."""
    made: list[T] = []
    failed: list[OSError] = []

    def work() -> None:
        try:
            with open(f"/proc/{pid}/ns/net") as namespace:
                setns(namespace.fileno(), CLONE_NEWNET)
            made.append(make())
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=work)  # which ends in that namespace
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return made[0]


def _message(kind: int, number: int, *parts: bytes, flags: int) -> bytes:
    body = struct.pack(">BBH", 0, 0, number) + b"".join(parts)
    return struct.pack("=IHHII", len(body) + 16, kind, flags, 0, 0) + body
