"""Records to systemd's journal, by its native protocol: one datagram a line, or a sealed file for a long one.

https://systemd.io/JOURNAL_NATIVE_PROTOCOL/
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Mapping
from typing import Final

from composer.logs.format import CONTENT, STREAM, TIME

SOCKET: Final = "/run/systemd/journal/socket"
PRIORITIES: Final = {b"stdout": b"6", b"stderr": b"3"}
F_ADD_SEALS, SEALS = 1033, 0xF
"""fcntl(2): nobody can change the file any more."""


class Journal:
    """Raises OSError from `send` while there is no journal."""

    def __init__(self, fields: Mapping[str, str], path: str = SOCKET) -> None:
        self._path = path
        self._head = b"".join(field(name.encode(), value.encode()) for name, value in fields.items())
        self._socket: socket.socket | None = None

    def send(self, record: bytes) -> None:
        message = self._head + field(b"PRIORITY", PRIORITIES.get(record[STREAM], b"6"))
        message += field(b"SYSLOG_TIMESTAMP", record[:TIME]) + field(b"MESSAGE", record[CONTENT:])
        if self._socket is None:
            made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            try:
                made.connect(self._path)
            except OSError:
                made.close()
                raise
            made.settimeout(5)
            self._socket = made
        try:
            self._socket.send(message)
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                self.close()
                raise
            self._send_file(self._socket, message)

    @staticmethod
    def _send_file(sock: socket.socket, message: bytes) -> None:
        descriptor = os.memfd_create("composer-log", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.write(descriptor, message)
            fcntl.fcntl(descriptor, F_ADD_SEALS, SEALS)
            socket.send_fds(sock, [b""], [descriptor])
        finally:
            os.close(descriptor)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def field(name: bytes, value: bytes) -> bytes:
    """A value with a newline in it is told by its length."""
    if b"\n" in value:
        return name + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"
    return name + b"=" + value + b"\n"
