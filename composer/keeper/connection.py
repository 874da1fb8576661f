"""One client of the keeper, and its requests."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from composer.keeper.loop import CONTROL, Loop
from composer.keeper.wire import (
    HELLO,
    VERBS,
    VERSION,
    Decoder,
    Message,
    WireError,
    complaint,
    encode,
    receive,
    rights,
)
from composer.runtime.errors import StepError

MAX_BEHIND: Final = 4 << 20
"""A client that has so many bytes unread is let go."""


class RefusalError(Exception):
    """A request that is answered with an error."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text


class Request:
    """Something to be answered once, now or later. Its descriptors are closed when the verb returns."""

    __slots__ = ("connection", "message", "number")

    def __init__(self, connection: Connection, message: Message) -> None:
        self.connection = connection
        self.message = message
        self.number = message["number"]

    def answer(self, fields: Mapping[str, Any], fds: Mapping[str, int] | None = None) -> None:
        """`fds` stay the keeper's."""
        self.connection.send({"number": self.number, "ok": fields}, fds or {})

    def fail(self, kind: str, text: str, **more: Any) -> None:
        self.connection.send({"number": self.number, "error": {"kind": kind, "text": text, **more}}, {})

    def fail_step(self, error: StepError) -> None:
        self.fail("step", error.text, step=error.step, errno=error.errno, path=error.path)


class Connection:
    """Reads requests and hands each to `serve`; sends without ever blocking."""

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        pid: int,
        serve: Callable[[Request], None],
        on_close: Callable[[Connection], None],
    ) -> None:
        self._loop = loop
        self._socket = sock
        self._serve = serve
        self._on_close = on_close
        self._decoder = Decoder()
        self._greeted = False
        self._unsent: deque[tuple[bytes, list[int]]] = deque()
        self._behind = 0
        self.open = True
        self.subscribed = False
        self.pid = pid
        sock.setblocking(False)
        loop.watch(sock.fileno(), CONTROL, self._wake)
        self.send(HELLO, {})

    def close(self) -> None:
        if not self.open:
            return
        self.open = False
        self._loop.forget(self._socket.fileno())
        self._socket.close()
        for fd in [*self._decoder.fds, *(fd for _, fds in self._unsent for fd in fds)]:
            os.close(fd)
        self._on_close(self)

    def send(self, message: Mapping[str, Any], fds: Mapping[str, int]) -> None:
        """Send it, or keep it, with copies of `fds`, until the client reads. Not if the client is gone."""
        if not self.open:
            return
        data = encode({**message, "fds": list(fds)})
        copies = [os.dup(fd) for fd in fds.values()]
        self._unsent.append((data, copies))
        self._behind += len(data)
        self._flush()

    # --- below: the socket

    def _wake(self) -> None:
        self._flush()
        if self.open:
            self._read()

    def _read(self) -> None:
        try:
            data, fds = receive(self._socket)
        except BlockingIOError:
            return
        except OSError:
            data, fds = b"", []
        if not data:
            self.close()
            return
        try:
            for message in self._decoder.feed(data, fds):
                self._take(message)
                if not self.open:
                    return
        except WireError as error:
            self.send({"error": {"kind": "request", "text": str(error)}}, {})
            self.close()

    def _take(self, message: Message) -> None:
        fds = list(message["fds"].values())
        try:
            if not self._greeted:
                self._greet(message)
                return
            if type(message.get("number")) is not int:
                raise WireError("number is missing")
            request = Request(self, message)
            fields = VERBS.get(message["verb"]) if isinstance(message.get("verb"), str) else None
            wrong = "verb is not known" if fields is None else complaint(fields, message)
            if wrong:
                request.fail("request", wrong)
            else:
                self._serve(request)
        finally:
            for fd in fds:
                os.close(fd)

    def _greet(self, message: Message) -> None:
        if message.get("keeper") != VERSION:
            raise WireError(f"the keeper speaks version {VERSION} of this protocol")
        self._greeted = True

    def _flush(self) -> None:
        while self._unsent:
            data, fds = self._unsent[0]
            try:
                sent = self._socket.sendmsg([data], rights(fds))
            except BlockingIOError:
                break
            except OSError:
                self.close()
                return
            for fd in fds:
                os.close(fd)
            self._behind -= sent
            if sent == len(data):
                self._unsent.popleft()
            else:
                self._unsent[0] = data[sent:], []
        if self._behind > MAX_BEHIND:
            self.close()
            return
        self._loop.watch(self._socket.fileno(), CONTROL, self._wake, writable=bool(self._unsent))
