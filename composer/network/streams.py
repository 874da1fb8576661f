"""TCP connections carried from one socket to another: accepted here, connected there, copied both ways.

All of them hang in one epoll(7), which an asyncio loop watches as a single reader. A connection is two ends
and no task, so a short one costs little more than its system calls.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import select
import socket
from collections.abc import Sequence

Target = tuple[str, int]

_CHUNK = 256 * 1024
_BULK = 64 * 1024
"""Who says so much at once goes on by splice(2), without copies."""
_PIPE = 1024 * 1024
_SPLICE = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
_SYN_RETRIES = 2
"""tcp(7): a target that does not answer is given up after 1 + 2 + 4 seconds."""
_AT_ONCE = 64
"""Connections accepted, and events handled, before others have their turn."""
_BACKLOG = 1024
"""Connections that may wait to be accepted; the kernel leaves more of them unanswered, and they try again."""
_PAUSE = 0.1
"""Seconds to wait for descriptors when there are none left."""


def begin(sock: socket.socket) -> None:
    """Have a bound socket listen.

    What it accepts may leave remains (TIME_WAIT) that keep nobody off the port later, socket(7)
    SO_REUSEADDR. Not before it listens: until then others could bind the port, too.
    """
    sock.setblocking(False)
    sock.listen(_BACKLOG)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)


class _Listener:
    def __init__(self, sock: socket.socket, targets: Sequence[Target]) -> None:
        self.sock = sock
        self.targets = targets


class _End:
    """One side of a connection. `pending` is what it is still to be sent, besides the `held` bytes that are
    in the `pipe` of the other side. `ended` when it has said all, `shut` when all was said to it. `mask` is
    what the epoll watches it for.
    """

    __slots__ = (
        "connecting", "ended", "held", "mask", "peer", "pending", "pipe", "shut", "sock", "targets",
    )  # fmt: skip

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.peer = self
        self.pending = b""
        self.ended = self.shut = self.connecting = False
        self.mask = self.held = 0
        self.pipe: tuple[int, int] | None = None
        self.targets: Sequence[Target] = ()
        """Where to try next, while it is connecting."""

    @property
    def waits(self) -> bool:
        """Whether there is something that it is to be sent first."""
        return bool(self.pending or self.peer.held)

    def close(self) -> None:
        self.sock.close()
        for descriptor in self.pipe or ():
            os.close(descriptor)


class Streams:
    """Carries what comes to its listeners. Made, and used, inside a running asyncio loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._poll = select.epoll()
        self._all: dict[int, _Listener | _End] = {}
        self._done: list[_End] = []
        self._buffer = memoryview(bytearray(_CHUNK))
        self._loop.add_reader(self._poll.fileno(), self._turn)

    def listen(self, sock: socket.socket, targets: Sequence[Target]) -> None:
        """Carry connections to the first target that accepts. Again with others: they are for new ones."""
        there = self._all.get(sock.fileno())
        if isinstance(there, _Listener):
            there.targets = targets
            return
        begin(sock)
        self._all[sock.fileno()] = _Listener(sock, targets)
        self._poll.register(sock.fileno(), select.EPOLLIN)

    def forget(self, sock: socket.socket) -> None:
        """Accept no more; connections that stand go on. Must come before the socket is closed."""
        if self._all.pop(sock.fileno(), None) is not None:
            try:
                self._poll.unregister(sock.fileno())
            except FileNotFoundError:
                pass  # it is about to be taken up again

    def close(self) -> None:
        """End everything; listeners are left to whoever made them."""
        self._loop.remove_reader(self._poll.fileno())
        for each in self._all.values():
            if isinstance(each, _End):
                each.close()
        self._all.clear()
        self._poll.close()

    def _turn(self) -> None:
        for descriptor, events in self._poll.poll(0, _AT_ONCE):
            found = self._all.get(descriptor)
            if isinstance(found, _Listener):
                self._accept(found)
            elif found is not None:
                try:
                    self._handle(found, events)
                except OSError:
                    self._drop(found)
        # Not before: the next connection would get the same number, and the events of the old one.
        for end in self._done:
            end.close()
        self._done.clear()

    def _accept(self, listener: _Listener) -> None:
        for _ in range(_AT_ONCE):
            try:
                client = _End(listener.sock.accept()[0])
            except (BlockingIOError, ConnectionError):
                return
            except OSError:  # out of descriptors: those in use must first come back
                self._poll.unregister(listener.sock.fileno())
                self._loop.call_later(_PAUSE, self._resume, listener)
                return
            client.sock.setblocking(False)
            client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._all[client.sock.fileno()] = client
            self._connect(client, listener.targets)

    def _resume(self, listener: _Listener) -> None:
        if self._all.get(listener.sock.fileno()) is listener:
            self._poll.register(listener.sock.fileno(), select.EPOLLIN)

    def _connect(self, client: _End, targets: Sequence[Target]) -> None:
        for number, (address, port) in enumerate(targets, 1):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            try:
                made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            except OSError:
                break
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, _SYN_RETRIES)
            state = made.connect_ex((address, port))
            if state == errno.EINPROGRESS:  # a neighbour on a bridge has answered before one can ask again
                state = made.connect_ex((address, port))
            if state not in (0, errno.EISCONN, errno.EALREADY):
                made.close()
                continue
            server = _End(made)
            server.connecting, server.targets = True, targets[number:]
            server.peer, client.peer = client, server
            self._all[made.fileno()] = server
            if state == errno.EALREADY:
                self._watch(server, select.EPOLLOUT)
            else:
                self._connected(server)
            return
        self._drop(client)

    def _handle(self, end: _End, events: int) -> None:
        """Raises OSError when the connection is broken."""
        if end.connecting:
            self._connected(end)
            return
        if events & select.EPOLLOUT:
            self._drain(end.peer)
            self._send(end, end.pending)
        if events & ~select.EPOLLOUT and not end.ended and not end.peer.waits:
            self._receive(end)
        self._settle(end)

    def _settle(self, end: _End) -> None:
        """Pass on the ends of what both sides have to say, and see what each can do next."""
        for each in (end, end.peer):
            if each.peer.ended and not each.waits and not each.shut:
                each.shut = True
                each.sock.shutdown(socket.SHUT_WR)
        if end.shut and end.peer.shut:
            self._drop(end)
            return
        for each in (end, end.peer):
            can_speak = not each.ended and not each.peer.waits
            mask = (select.EPOLLIN if can_speak else 0) | (select.EPOLLOUT if each.waits else 0)
            self._watch(each, mask)

    def _connected(self, server: _End) -> None:
        """Its connection is there, or failed: then the next target is tried."""
        client = server.peer
        if server.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            server.peer, client.peer = server, client
            self._drop(server)
            self._connect(client, server.targets)
            return
        server.connecting = False
        try:
            self._receive(client)
            self._settle(client)
        except OSError:
            self._drop(client)

    def _receive(self, end: _End) -> None:
        """Take what it says, and pass it on as far as the other side can hear."""
        try:
            if end.pipe:
                count = end.held = os.splice(end.sock.fileno(), end.pipe[1], _PIPE, flags=_SPLICE)
            else:
                count = end.sock.recv_into(self._buffer)
        except BlockingIOError:
            return
        if not count:
            end.ended = True
        elif end.pipe:
            self._drain(end)
        else:
            self._send(end.peer, self._buffer[:count])
            if count >= _BULK:
                end.pipe = _pipe()

    def _drain(self, end: _End) -> None:
        """What is in its pipe goes to the other side."""
        try:
            while end.pipe and end.held:
                end.held -= os.splice(end.pipe[0], end.peer.sock.fileno(), end.held, flags=_SPLICE)
        except BlockingIOError:
            return

    def _send(self, end: _End, data: bytes | memoryview) -> None:
        if not data:
            return
        try:
            sent = end.sock.send(data)
        except BlockingIOError:
            sent = 0
        end.pending = bytes(data[sent:])

    def _watch(self, end: _End, mask: int) -> None:
        if mask == end.mask:
            return
        if not end.mask:
            self._poll.register(end.sock.fileno(), mask)
        elif mask:
            self._poll.modify(end.sock.fileno(), mask)
        else:
            self._poll.unregister(end.sock.fileno())
        end.mask = mask

    def _drop(self, end: _End) -> None:
        for each in {end, end.peer}:
            if self._all.pop(each.sock.fileno(), None) is not None:
                self._watch(each, 0)
                self._done.append(each)


def _pipe() -> tuple[int, int] | None:
    """None when there are no descriptors left for it."""
    try:
        made = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.fcntl(made[1], fcntl.F_SETPIPE_SZ, _PIPE)
    except OSError:  # more than an unprivileged user may have: it works with less
        pass
    return made
