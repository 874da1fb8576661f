"""The supervisor's side of the keeper's socket: calls with answers, and events as they come."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

import anyio

from composer.errors import ComposerError, PeerLostError, RuntimeStepError
from composer.keeper.wire import HELLO, encode
from composer.supervisor.channel import Channel, Message, close_all


class KeeperError(ComposerError):
    """The keeper refused. `kind` is request, absent, state or limit."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class KeeperLink:
    """Calls are answered in any order; `run` must be running meanwhile. Events go to `on_event`."""

    def __init__(self, sock: socket.socket, on_event: Callable[[Message], None]) -> None:
        sock.sendall(encode(dict(HELLO)))
        self.channel = Channel(sock)
        self.on_event = on_event
        self.numbers = count(1)
        self.waiting: dict[int, tuple[anyio.Event, list[Message]]] = {}
        self.lost = False

    async def run(self) -> None:
        """Read until the keeper is gone."""
        try:
            while (message := await self.channel.receive()) is not None:
                number = message.get("number")
                if isinstance(number, int) and number in self.waiting:
                    event, box = self.waiting.pop(number)
                    box.append(message)
                    event.set()
                elif "event" in message:
                    self.on_event(message)
                else:
                    close_all(message["fds"])
        finally:
            self.lost = True
            for event, _ in self.waiting.values():
                event.set()

    async def call(self, verb: str, fds: Mapping[str, int] | None = None, /, **fields: Any) -> Message:
        """One request; the answer's fields, with `fds` by name.

        Raises RuntimeStepError, KeeperError, PeerLostError.
        """
        if self.lost:
            raise PeerLostError("the keeper is gone")
        number = next(self.numbers)
        event, box = anyio.Event(), list[Message]()
        self.waiting[number] = (event, box)
        try:
            await self.channel.send({"number": number, "verb": verb, **fields}, fds)
            await event.wait()
        finally:
            self.waiting.pop(number, None)
        if not box:
            raise PeerLostError("the keeper is gone")
        answer = box[0]
        if "error" in answer:
            raise refusal(answer["error"])
        return {**answer["ok"], "fds": answer["fds"]}


def refusal(error: Message) -> ComposerError:
    if error["kind"] == "step":
        return RuntimeStepError(
            error["text"], step=error["step"], errno=error.get("errno", 0), path=error.get("path") or None
        )
    return KeeperError(error["kind"], error["text"])
