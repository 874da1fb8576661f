"""DNS messages over TCP: two octets of length, then the message (RFC 1035, section 4.2.2; RFC 7766)."""

from __future__ import annotations

import asyncio
import socket


async def receive(sock: socket.socket, limit: int) -> bytes:
    """The next message. Raises EOFError when none comes or it has more than `limit` octets, and OSError."""
    size = int.from_bytes(await _exactly(sock, 2))
    if size > limit:
        raise EOFError
    return await _exactly(sock, size)


async def send(sock: socket.socket, message: bytes) -> None:
    """Send one message. Raises OSError."""
    await asyncio.get_running_loop().sock_sendall(sock, len(message).to_bytes(2) + message)


async def _exactly(sock: socket.socket, size: int) -> bytes:
    loop = asyncio.get_running_loop()
    data = bytearray()
    while len(data) < size:
        part = await loop.sock_recv(sock, size - len(data))
        if not part:
            raise EOFError
        data += part
    return bytes(data)
