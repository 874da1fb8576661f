"""Messages with descriptors over a unix socket, for anyio. The framing is the keeper's (keeper/wire.py)."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any

import anyio

from composer.keeper.wire import Decoder, WireError, encode, receive, rights

Message = dict[str, Any]


class Channel:
    """One connection. `receive` ends with None when the other side is gone; `send` then raises OSError."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.decoder = Decoder()
        self.ready: list[Message] = []
        self.sending = anyio.Lock(fast_acquire=True)

    async def receive(self) -> Message | None:
        """The next message; its `fds` are the receiver's to close."""
        while not self.ready:
            try:
                data, fds = receive(self.sock)
            except BlockingIOError:
                await anyio.wait_readable(self.sock)
                continue
            except ConnectionError:
                return None
            if not data:
                return None
            self.ready.extend(self.decoder.feed(data, fds))
        return self.ready.pop(0)

    async def send(self, message: Mapping[str, Any], fds: Mapping[str, int] | None = None) -> None:
        """Send one message and copies of descriptors, by name: all of it, or nothing if cancelled."""
        body = dict(message)
        if fds:
            body["fds"] = list(fds)
        data = memoryview(encode(body))
        ancillary = rights(list((fds or {}).values()))
        async with self.sending:
            with anyio.CancelScope(shield=True):
                await self._send_all(data, ancillary)

    async def _send_all(self, data: memoryview, ancillary: Any) -> None:
        while data:
            try:
                sent = self.sock.sendmsg([data], ancillary)
            except BlockingIOError:
                await anyio.wait_writable(self.sock)
                continue
            data, ancillary = data[sent:], []

    def close(self) -> None:
        for fds in (self.decoder.fds, *(message["fds"] for message in self.ready)):
            close_all(fds)
        self.sock.close()


def close_all(fds: list[int] | Mapping[str, int]) -> None:
    for fd in list(fds.values()) if isinstance(fds, Mapping) else list(fds):
        os.close(fd)


__all__ = ["Channel", "Message", "WireError", "close_all"]
