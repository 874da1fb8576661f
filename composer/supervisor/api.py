"""The supervisor's door: connections, requests, answers. What a verb does is not decided here."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import anyio
from anyio.abc import TaskGroup

from composer.errors import ComposerError, UsageError
from composer.supervisor.channel import Channel, Message, WireError, close_all
from composer.supervisor.loop import internal
from composer.supervisor.wire import ERRORS, HELLO, VERSION, another_version

Handler = Callable[["Request"], Awaitable[dict[str, Any] | None]]


class Request:
    """One request and its way back. `fds` are closed when it is over unless a handler takes them."""

    def __init__(self, channel: Channel, message: Message) -> None:
        self.channel = channel
        self.fields = message
        self.fds: dict[str, int] = message["fds"]
        self.number = message.get("id")
        self.closed = anyio.Event()
        """Set when the client is gone."""
        self.answer_fds: dict[str, int] = {}

    def text(self, name: str, default: str | None = None) -> str:
        value = self.fields.get(name, default)
        if not isinstance(value, str):
            raise UsageError(f"{name} is missing")
        return value

    async def send(self, **frame: Any) -> None:
        """A frame that belongs to this request. A client that left is no error."""
        try:
            await self.channel.send({"id": self.number, **frame})
        except OSError:
            self.closed.set()


class Api:
    """Serves a listening socket until cancelled."""

    def __init__(self, verbs: Mapping[str, Handler]) -> None:
        self.verbs = verbs
        self.clients = 0

    async def serve(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        async with anyio.create_task_group() as tasks:
            while True:
                try:
                    connection, _ = listener.accept()
                except BlockingIOError:
                    await anyio.wait_readable(listener)
                    continue
                if peer_uid(connection) not in (0, os.geteuid()):
                    connection.close()
                    continue
                tasks.start_soon(self._client, Channel(connection))

    async def _client(self, channel: Channel) -> None:
        self.clients += 1
        open_requests: set[Request] = set()
        try:
            await channel.send(HELLO)
            hello = await channel.receive()
            if hello is None or hello.get("supervisor") != VERSION:
                return
            async with anyio.create_task_group() as tasks:
                with suppress(WireError, OSError):  # its requests end as for any client that is gone
                    await self._requests(channel, tasks, open_requests)
                for request in open_requests:
                    request.closed.set()
        except (WireError, OSError):
            return
        finally:
            self.clients -= 1
            channel.close()

    async def _requests(self, channel: Channel, tasks: TaskGroup, open_requests: set[Request]) -> None:
        while (message := await channel.receive()) is not None:
            request = Request(channel, message)
            open_requests.add(request)
            tasks.start_soon(self._answer, request, open_requests)

    async def _answer(self, request: Request, open_requests: set[Request]) -> None:
        verb = request.fields.get("verb")
        try:
            handler = self.verbs.get(verb) if isinstance(verb, str) else None
            if handler is None:
                raise another_version(repr(verb))
            result = await handler(request)
            frame: dict[str, Any] = {"ok": result or {}}
        except ComposerError as error:
            frame = {"error": describe(error)}
        except Exception as error:
            # A fault of ours must reach the person who asked, and must not end the stack.
            frame = {"error": {"message": internal(error), "hint": None}}
        try:
            await request.channel.send({"id": request.number, **frame}, request.answer_fds)
        except OSError:
            request.closed.set()
        finally:
            open_requests.discard(request)
            close_all(request.fds)
            close_all(request.answer_fds)
            request.fds, request.answer_fds = {}, {}


def describe(error: ComposerError) -> dict[str, Any]:
    kind = next((each.__name__ for each in type(error).__mro__ if each.__name__ in ERRORS), "")
    return {"message": error.message, "hint": error.hint, "exit_code": error.exit_code, "kind": kind}


def peer_uid(connection: socket.socket) -> int:
    """The user at the other end (unix(7), SO_PEERCRED)."""
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(uid)
