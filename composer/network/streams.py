"""TCP connections carried from one socket to another: accepted here, connected there, copied both ways.

All of them hang in one epoll(7), which an asyncio loop watches as a single reader. A connection is two ends
and no task, so a short one costs little more than its system calls.
"""

from __future__ import annotations

import asyncio
import errno
import select
import socket
from collections.abc import Sequence

Target = tuple[str, int]

_CHUNK = 256 * 1024
_SYN_RETRIES = 2
"""tcp(7): a target that does not answer is given up after 1 + 2 + 4 seconds."""
_AT_ONCE = 64
"""Connections accepted, and events handled, before others have their turn."""
_PAUSE = 0.1
"""Seconds to wait for descriptors when there are none left."""


class _Listener:
    def __init__(self, sock: socket.socket, targets: Sequence[Target]) -> None:
        self.sock = sock
        self.targets = targets


class _End:
    """One side of a connection. `pending` is what it is still to be sent; `ended` when it has said all,
    `shut` when all was said to it. `mask` is what the epoll watches it for.
    """

    __slots__ = ("connecting", "ended", "mask", "peer", "pending", "shut", "sock", "targets")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.peer = self
        self.pending = b""
        self.ended = self.shut = self.connecting = False
        self.mask = 0
        self.targets: Sequence[Target] = ()
        """Where to try next, while it is connecting."""


class Streams:
    """Carries what comes to its listeners. Made, and used, inside a running asyncio loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._poll = select.epoll()
        self._all: dict[int, _Listener | _End] = {}
        self._done: list[socket.socket] = []
        self._buffer = memoryview(bytearray(_CHUNK))
        self._loop.add_reader(self._poll.fileno(), self._turn)

    def listen(self, sock: socket.socket, targets: Sequence[Target]) -> None:
        """Carry connections to the first target that accepts. Again with others: they are for new ones."""
        there = self._all.get(sock.fileno())
        if isinstance(there, _Listener):
            there.targets = targets
            return
        sock.setblocking(False)
        sock.listen(1024)
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
                each.sock.close()
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
        for sock in self._done:
            sock.close()
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
            if made.connect_ex((address, port)) not in (0, errno.EINPROGRESS):
                made.close()
                continue
            server = _End(made)
            server.connecting, server.targets = True, targets[number:]
            server.peer, client.peer = client, server
            self._all[made.fileno()] = server
            self._watch(server, select.EPOLLOUT)
            return
        self._drop(client)

    def _handle(self, end: _End, events: int) -> None:
        """Raises OSError when the connection is broken."""
        if end.connecting:
            self._connected(end)
            return
        if events & select.EPOLLOUT:
            self._send(end, end.pending)
        if events & ~select.EPOLLOUT and not end.ended and not end.peer.pending:
            self._receive(end)
        for each in (end, end.peer):
            if each.peer.ended and not each.pending and not each.shut:
                each.shut = True
                each.sock.shutdown(socket.SHUT_WR)
        if end.shut and end.peer.shut:
            self._drop(end)
        else:
            self._settle(end)
            self._settle(end.peer)

    def _connected(self, server: _End) -> None:
        """Its connection is there, or failed: then the next target is tried."""
        client = server.peer
        if server.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            server.peer, client.peer = server, client
            self._drop(server)
            self._connect(client, server.targets)
            return
        server.connecting = False
        self._settle(client)
        self._settle(server)

    def _receive(self, end: _End) -> None:
        try:
            count = end.sock.recv_into(self._buffer)
        except BlockingIOError:
            return
        if count:
            self._send(end.peer, self._buffer[:count])
        else:
            end.ended = True

    def _send(self, end: _End, data: bytes | memoryview) -> None:
        try:
            sent = end.sock.send(data)
        except BlockingIOError:
            sent = 0
        end.pending = bytes(data[sent:])

    def _settle(self, end: _End) -> None:
        """Be told of what it can do next: say something, while the other one can hear; hear what is left."""
        can_speak = not end.ended and not end.peer.pending
        self._watch(end, (select.EPOLLIN if can_speak else 0) | (select.EPOLLOUT if end.pending else 0))

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
                self._done.append(each.sock)
