"""Speaking to a keeper: blocking for commands and tests, or fed by somebody's event loop through `fileno`."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from composer.keeper.launch import address
from composer.keeper.wire import HELLO, Decoder, Message, WireError, encode, receive, rights


class KeeperGoneError(Exception):
    """No keeper answers there (any more)."""


class RefusedError(Exception):
    """The keeper said no. `kind` as in `wire`; for `step` with the runtime's step, errno and path."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(error["text"])
        self.kind: str = error["kind"]
        self.text: str = error["text"]
        self.step: str = error.get("step", "")
        self.errno: int = error.get("errno", 0)
        self.path: str = error.get("path", "")


class Keeper:
    """One connection.

    Blocking: `call`, and `event` for the next event. In an event loop: `send`, and `receive` when `fileno`
    is readable, whose messages the caller matches by `number`. Descriptors in answers belong to the caller.
    """

    def __init__(self, run: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._decoder = Decoder()
        self._last = 0
        self._events: deque[Message] = deque()
        self._others: deque[Message] = deque()
        try:
            directory = os.open(run, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self._socket.connect(address(directory, "keeper.sock"))
            finally:
                os.close(directory)
            self._socket.sendall(encode(dict(HELLO)))
        except OSError as error:
            self._socket.close()
            raise KeeperGoneError(f"no keeper in {run}: {error.strerror}") from error

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        """Close the connection, and every descriptor that came and was not asked for."""
        for message in self._others:
            _close(message)
        for fd in self._decoder.fds:
            os.close(fd)
        self._decoder.fds.clear()
        self._socket.close()

    def __enter__(self) -> Keeper:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, verb: str, *, fds: Mapping[str, int] | None = None, **fields: Any) -> int:
        """Send a request and return its number. `fds` stay the caller's."""
        self._last += 1
        given = dict(fds or {})
        frame = encode({**fields, "number": self._last, "verb": verb, "fds": list(given)})
        try:
            sent = self._socket.sendmsg([frame], rights(list(given.values())))
            self._socket.sendall(frame[sent:])
        except (BrokenPipeError, ConnectionResetError) as error:
            raise KeeperGoneError("the keeper is gone") from error
        return self._last

    def receive(self) -> list[Message]:
        """What one read brings: answers, with `ok` or `error`, and events, with `event`. Blocks for it."""
        try:
            data, fds = receive(self._socket)
        except ConnectionResetError:
            data, fds = b"", []
        if not data:
            raise KeeperGoneError("the keeper is gone")
        messages = list(self._decoder.feed(data, fds))
        for message in messages:
            if message.get("keeper", HELLO["keeper"]) != HELLO["keeper"]:
                raise WireError(f"the keeper speaks version {message['keeper']}, not {HELLO['keeper']}")
            if "error" in message and "number" not in message:
                raise WireError(message["error"]["text"])
        return [message for message in messages if "keeper" not in message]

    def call(self, verb: str, *, fds: Mapping[str, int] | None = None, **fields: Any) -> Message:
        """The fields of the answer, with its descriptors as `fds`. Raises RefusedError, KeeperGoneError."""
        return self.result(self.send(verb, fds=fds, **fields))

    def result(self, number: int) -> Message:
        """The answer to a request that was sent. Other answers, and events, are kept for later."""
        while True:
            for message in self._others:
                if message["number"] == number:
                    self._others.remove(message)
                    return unwrap(message)
            self._sort()

    def event(self) -> Message:
        """The next event, after `subscribe` or of an exec of this connection."""
        while not self._events:
            self._sort()
        return self._events.popleft()

    def _sort(self) -> None:
        for message in self.receive():
            if "event" in message:
                self._events.append(message)
            else:
                self._others.append(message)


def unwrap(message: Message) -> Message:
    """The fields of a good answer; a bad one is raised as RefusedError."""
    if "error" in message:
        _close(message)
        raise RefusedError(message["error"])
    answer: Message = message["ok"]
    answer["fds"] = message["fds"]
    return answer


def _close(message: Message) -> None:
    for fd in message["fds"].values():
        os.close(fd)
