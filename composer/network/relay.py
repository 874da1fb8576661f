"""A relay for the IPv6 clients that no rule can serve: of [::1], and of containers that have IPv4 only.

The kernel translates addresses, not IP versions, and refuses packets for ::1 that come from a bridge. So the
IPv6 sockets that reserve a published port serve as well: what the rules do not catch arrives there, and is
carried over in this process: connections by `streams`, datagrams here. Everything else, 127.0.0.1 included,
never leaves the kernel. Runs in an asyncio loop.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from composer.network.streams import Streams, Target

_UDP_IDLE_SECONDS = 120.0
_MOST_UDP_CLIENTS = 1000
"""Per port; the client that has been silent the longest gives way."""


class Relay:
    """Serves sockets until told otherwise. The sockets stay the caller's: their closing is no matter of
    ours.
    """

    def __init__(self) -> None:
        self._streams: Streams | None = None
        self._serving: dict[int, tuple[tuple[Target, ...], asyncio.Task[None]]] = {}

    def serve(self, listener: socket.socket, targets: Sequence[Target]) -> None:
        """Carry what comes to `listener` (a bound TCP or UDP socket) to the first target that accepts.

        Called again with other targets, connections that stand are kept and new ones go there.
        """
        if listener.type == socket.SOCK_STREAM:
            self._streams = self._streams or Streams()
            self._streams.listen(listener, targets)
            return
        old = self._serving.get(listener.fileno())
        if old is not None:
            if old[0] == tuple(targets):
                return
            old[1].cancel()
        listener.setblocking(False)
        task = asyncio.get_running_loop().create_task(_serve_udp(listener, tuple(targets)))
        self._serving[listener.fileno()] = (tuple(targets), task)

    def stop(self, listener: socket.socket) -> None:
        """Serve it no more. Must come before the socket is closed."""
        if self._streams is not None:
            self._streams.forget(listener)
        found = self._serving.pop(listener.fileno(), None)
        if found is not None:
            found[1].cancel()

    def close(self) -> None:
        if self._streams is not None:
            self._streams.close()
        for _, task in self._serving.values():
            task.cancel()
        self._serving.clear()


_tasks: set[asyncio.Task[None]] = set()
"""The loop holds tasks weakly: connections live here."""


def _spawn(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    task = asyncio.get_running_loop().create_task(work)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    return task


def _connect(targets: tuple[Target, ...]) -> socket.socket | None:
    for target in targets:
        family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
        server = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            server.connect(target)
        except OSError:
            server.close()
        else:
            return server
    return None


async def _serve_udp(listener: socket.socket, targets: tuple[Target, ...]) -> None:
    loop = asyncio.get_running_loop()
    clients: dict[Any, tuple[socket.socket, asyncio.Task[None]]] = {}
    try:
        while True:
            try:
                data, client = await loop.sock_recvfrom(listener, 65535)
            except ConnectionError:
                continue
            if client not in clients:
                server = _connect(targets)
                if server is None:
                    continue
                if len(clients) >= _MOST_UDP_CLIENTS:
                    clients[next(iter(clients))][1].cancel()
                answers = _answers(listener, server, client, lambda gone: clients.pop(gone, None))
                clients[client] = (server, _spawn(answers))
            clients[client] = clients.pop(client)
            try:
                clients[client][0].send(data)
            except OSError:  # refused, or its buffer is full: datagrams may get lost
                pass
    finally:
        for _, task in clients.values():
            task.cancel()


async def _answers(
    listener: socket.socket, server: socket.socket, client: Any, gone: Callable[[Any], object]
) -> None:
    """Carry a target's answers back to one client, until they cease."""
    loop = asyncio.get_running_loop()
    try:
        with server:
            while True:
                async with asyncio.timeout(_UDP_IDLE_SECONDS):
                    data = await loop.sock_recv(server, 65535)
                listener.sendto(data, client)
    except (OSError, TimeoutError):
        pass
    finally:
        gone(client)
