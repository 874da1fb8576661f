"""The keeper's verbs, on its tasks, its descriptors and its supervisor."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Any, Final

from composer.keeper.connection import Connection, RefusalError, Request
from composer.keeper.loop import CONTROL, Loop, complain
from composer.keeper.supervise import Supervisor
from composer.keeper.task import Task
from composer.keeper.tasks import Tasks
from composer.keeper.wire import LOG, OVERLAY, VERBS, complaint
from composer.runtime.errors import StepError

MAX_TASKS: Final = 4096
MAX_KEPT: Final = 1024
MAX_CONNECTIONS: Final = 256
QUIT_PATIENCE: Final = 5.0


class Server:
    """Everything that clients can see. `close_sockets` takes away what new ones would connect to."""

    def __init__(
        self,
        loop: Loop,
        listener: socket.socket,
        tasks: Tasks,
        supervisor: Supervisor,
        close_sockets: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._listener = listener
        self._tasks = tasks
        self._supervisor = supervisor
        self._close_sockets = close_sockets
        self._kept: dict[str, int] = {}
        self._connections: set[Connection] = set()
        self._leaving: list[Request] = []
        self._quitting = False
        self._left = False
        self._verbs: Mapping[str, Callable[[Request], None]] = {
            verb: getattr(self, f"_{verb}") for verb in VERBS
        }
        tasks.on_exit = self._exited
        tasks.on_failed = self._leave
        tasks.on_trouble = self._troubled
        supervisor.on_start = lambda: self._publish({"event": "supervisor", "starts": supervisor.starts})
        supervisor.on_despair = self._despair
        listener.setblocking(False)
        loop.watch(listener.fileno(), CONTROL, self._accept)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        pid, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid not in (0, os.geteuid()) or len(self._connections) >= MAX_CONNECTIONS:
            sock.close()
        else:
            self._connections.add(Connection(self._loop, sock, pid, self._serve, self._closed))

    def _closed(self, connection: Connection) -> None:
        self._connections.discard(connection)
        for task in list(self._tasks.by_id.values()):
            if task.container and task.exit and task.asked and task.asked.connection is connection:
                self._tasks.forget(task)

    def _serve(self, request: Request) -> None:
        verb = request.message["verb"]
        try:
            self._verbs[verb](request)
        except RefusalError as error:
            request.fail(error.kind, error.text)
        except StepError as error:
            request.fail_step(error)
        except OSError as error:
            request.fail_step(StepError.of(verb, error))
        except Exception as error:  # whatever is in there, the containers depend on this process
            request.fail("request", f"{type(error).__name__}: {error}")

    # --- the verbs

    def _create(self, request: Request) -> None:
        message = request.message
        self._vacant(message["id"])
        wrong = complaint(LOG, message["log"]) or (
            "overlay" in message and complaint(OVERLAY, message["overlay"])
        )
        if wrong:
            raise RefusalError("request", wrong)
        self._tasks.create(request)

    def _start(self, request: Request) -> None:
        self._tasks.start(self._container(request), request)

    def _exec(self, request: Request) -> None:
        self._vacant(request.message["id"])
        self._tasks.execute(request)

    def _signal(self, request: Request) -> None:
        task = self._task(request)
        if not self._tasks.signal(task, request.message["signo"]):
            raise RefusalError("state", f"{task.id} is {task.state}")
        request.answer({})

    def _list(self, request: Request) -> None:
        request.answer(
            {
                "containers": [task.shown() for task in self._tasks.by_id.values()],
                "descriptors": sorted(self._kept),
                "supervisor": {"pid": self._supervisor.pid, "starts": self._supervisor.starts},
            }
        )

    def _stream(self, request: Request) -> None:
        task = self._container(request)
        fds = task.named("stdin", "tty")
        if not fds:
            raise RefusalError("state", f"{task.id} has no standard input, or has ended")
        request.answer({}, fds)

    def _close_stdin(self, request: Request) -> None:
        self._container(request).close("stdin")
        request.answer({})

    def _forget(self, request: Request) -> None:
        task = self._task(request)
        if task.state in ("starting", "running"):
            raise RefusalError("state", f"{task.id} is {task.state}")
        self._tasks.forget(task)
        request.answer({})
        self._leave()

    def _put(self, request: Request) -> None:
        fds = list(request.message["fds"].values())
        if len(fds) != 1:
            raise RefusalError("request", "one descriptor can be put at a time")
        if len(self._kept) >= MAX_KEPT:
            raise RefusalError("limit", f"{MAX_KEPT} descriptors are kept already")
        name = request.message["name"]
        copy = os.dup(fds[0])
        self._release(name)
        self._kept[name] = copy
        request.answer({})

    def _take(self, request: Request) -> None:
        name = request.message["name"]
        owner, _, part = name.rpartition("/")
        fd = self._kept.get(name)
        if fd is None and owner in self._tasks.by_id:
            fd = self._tasks.by_id[owner].fds.get(part)
        if fd is None:
            raise RefusalError("absent", f"nothing is kept as {name}")
        request.answer({}, {name: fd})

    def _drop(self, request: Request) -> None:
        if not self._release(request.message["name"]):
            raise RefusalError("absent", f"nothing is kept as {request.message['name']}")
        request.answer({})

    def _reopen_log(self, request: Request) -> None:
        task = self._container(request)
        if task.log:
            task.log.reopen()
        request.answer({})

    def _subscribe(self, request: Request) -> None:
        request.connection.subscribed = True
        request.answer({})

    def _quit(self, request: Request) -> None:
        alive = self._tasks.alive
        if alive and not request.message.get("kill"):
            raise RefusalError("state", f"{alive[0].id} is {alive[0].state}")
        self._quitting = True
        self._leaving.append(request)
        for task in alive:
            self._tasks.kill(task)
        self._leave()

    # --- what follows from them

    def _leave(self) -> None:
        """Once nothing lives any more, answer who asked for the end, and end when the supervisor has."""
        if not self._quitting or self._left or self._tasks.alive:
            return
        self._left = True
        self._loop.forget(self._listener.fileno())
        self._close_sockets()
        asked_by_it = any(request.connection.pid == self._supervisor.pid for request in self._leaving)
        for request in self._leaving:
            request.answer({})
        self._leaving.clear()
        self._supervisor.release(self._end, patience=QUIT_PATIENCE, politely=not asked_by_it)

    def _end(self) -> None:
        self._loop.running = False

    def _despair(self) -> None:
        if not self._tasks.alive and not self._quitting:
            complain("the supervisor keeps failing, and there is nothing to keep")
            self._quitting = True
            self._leave()

    def _exited(self, task: Task) -> None:
        assert task.exit
        owner = task.asked.connection if task.container and task.asked else None
        self._publish({"event": "exit", "id": task.id, **task.exit}, also=owner)
        if owner and not owner.open:
            self._tasks.forget(task)
        self._leave()

    def _troubled(self, task: Task, errno: int, text: str, lost: int) -> None:
        self._publish({"event": "log", "id": task.id, "errno": errno, "text": text, "lost": lost})

    def _publish(self, event: dict[str, Any], also: Connection | None = None) -> None:
        for connection in [c for c in self._connections if c.subscribed or c is also]:
            connection.send(event, {})

    def _release(self, name: str) -> bool:
        fd = self._kept.pop(name, -1)
        if fd >= 0:
            os.close(fd)
        return fd >= 0

    def _vacant(self, name: str) -> None:
        if name in self._tasks.by_id:
            raise RefusalError("state", f"{name} exists")
        if self._quitting:
            raise RefusalError("state", "the keeper is about to end")
        if len(self._tasks.by_id) >= MAX_TASKS:
            raise RefusalError("limit", f"{MAX_TASKS} processes are held already")

    def _task(self, request: Request) -> Task:
        task = self._tasks.by_id.get(request.message["id"])
        if not task:
            raise RefusalError("absent", f"{request.message['id']} is not known")
        return task

    def _container(self, request: Request) -> Task:
        task = self._task(request)
        if task.container:
            raise RefusalError("state", f"{task.id} is not a container")
        return task
