"""The same stacks for programs in an event loop (anyio: asyncio or trio). Nothing here blocks it.

Each call is the blocking one, in a thread of its own, with the same arguments, which are written there only.
One that is cancelled ends at once, as Ctrl-C ends a command: what it has begun stays, and nothing more is
begun.
"""

from __future__ import annotations

import math
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial, wraps
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar

import anyio
from anyio import to_thread
from anyio.lowlevel import checkpoint_if_cancelled

from composer.api.container import Container
from composer.api.events import Event, EventStream
from composer.api.patience import STOP
from composer.api.service import Service
from composer.api.stack import Stack
from composer.api.trials import Fault

P = ParamSpec("P")
T = TypeVar("T")
U = TypeVar("U")


async def in_thread(call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call something that waits by `patience.readable`, and only by that."""
    stop = os.eventfd(0, os.EFD_CLOEXEC)
    outcome: list[T] = []
    failed: list[Exception] = []

    def work() -> None:
        STOP.set(stop)
        try:
            outcome.append(call(*args, **kwargs))
        except Exception as error:
            failed.append(error)

    async def warn() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            os.eventfd_write(stop, 1)

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(warn)
            await to_thread.run_sync(work, limiter=anyio.CapacityLimiter(math.inf))
            tasks.cancel_scope.cancel()
    finally:
        os.close(stop)
    if failed:
        await checkpoint_if_cancelled()  # what was abandoned was cancelled
        raise failed[0]
    return outcome[0]


class Blocking(Protocol):
    """What stands for a blocking object."""

    @property
    def blocking(self) -> Any: ...


S = TypeVar("S", bound=Blocking)


class Threaded(Generic[P, T]):
    """A method of the blocking class, as a coroutine function."""

    def __init__(self, method: Callable[Concatenate[Any, P], T]) -> None:
        self.name = method.__name__
        self.__doc__ = method.__doc__

    def __get__(self, one: Blocking, kind: type) -> Callable[P, Coroutine[Any, Any, T]]:
        if one is None:  # asked of the class
            return self  # type: ignore[unreachable]
        blocking: Callable[P, T] = getattr(one.blocking, self.name)

        @wraps(blocking)
        async def call(*args: P.args, **kwargs: P.kwargs) -> T:
            return await in_thread(blocking, *args, **kwargs)

        return call


class Chained(Generic[P]):
    """As `Threaded`, of a method that gives the object itself."""

    def __init__(self, method: Callable[Concatenate[Any, P], Any]) -> None:
        self.threaded = Threaded(method)
        self.__doc__ = method.__doc__

    def __get__(self, one: S, kind: type) -> Callable[P, Coroutine[Any, Any, S]]:
        if one is None:  # asked of the class
            return self  # type: ignore[unreachable]
        threaded = self.threaded.__get__(one, kind)

        @wraps(threaded)
        async def call(*args: P.args, **kwargs: P.kwargs) -> S:
            await threaded(*args, **kwargs)
            return one

        return call


class Wrapped(Generic[P, T, U]):
    """A method of the blocking class that only makes something, which then waits as `wrap` has it."""

    def __init__(self, method: Callable[Concatenate[Any, P], T], wrap: Callable[[T], U]) -> None:
        self.name, self.wrap = method.__name__, wrap
        self.__doc__ = method.__doc__

    def __get__(self, one: Blocking, kind: type) -> Callable[P, U]:
        if one is None:  # asked of the class
            return self  # type: ignore[unreachable]
        make: Callable[P, T] = getattr(one.blocking, self.name)

        @wraps(make)
        def call(*args: P.args, **kwargs: P.kwargs) -> U:
            return self.wrap(make(*args, **kwargs))

        return call


def with_the_arguments_of(
    make: Callable[P, Any],
) -> Callable[[Callable[..., None]], Callable[Concatenate[Any, P], None]]:
    """For an `__init__` that passes all of them on."""
    return lambda init: init


class AsyncFault:
    """As `Fault`."""

    def __init__(self, blocking: Fault) -> None:
        self.blocking = blocking

    async def __aenter__(self) -> Self:
        await in_thread(self.blocking.__enter__)
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            await in_thread(self.blocking.__exit__)


class AsyncEventStream:
    """As `EventStream`."""

    def __init__(self, blocking: EventStream) -> None:
        self.blocking = blocking

    async def __aiter__(self) -> AsyncIterator[Event]:
        events = iter(self.blocking)
        while (event := await in_thread(partial(next, events, None))) is not None:
            yield event

    wait_for = Threaded(EventStream.wait_for)

    def close(self) -> None:
        self.blocking.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


class AsyncService:
    """As `Service`. What only reads what is known is no coroutine."""

    def __init__(self, blocking: Service) -> None:
        self.blocking = blocking

    @property
    def name(self) -> str:
        return self.blocking.name

    async def container(self) -> Container:
        return await in_thread(lambda: self.blocking.container)

    port = Threaded(Service.port)
    url = Threaded(Service.url)
    endpoint = Threaded(Service.endpoint)
    start = Threaded(Service.start)
    stop = Threaded(Service.stop)
    restart = Threaded(Service.restart)
    kill = Threaded(Service.kill)
    pause = Threaded(Service.pause)
    unpause = Threaded(Service.unpause)
    scale = Threaded(Service.scale)
    exec = Threaded(Service.exec)
    """Cancelled, it kills the command."""
    wait = Threaded(Service.wait)
    wait_healthy = Threaded(Service.wait_healthy)
    logs = Threaded(Service.logs)
    wait_for_log = Threaded(Service.wait_for_log)
    copy_to = Threaded(Service.copy_to)
    copy_from = Threaded(Service.copy_from)


class AsyncStack:
    """As `Stack`, with the same arguments; `async with` brings it up, and down again.

    What is told of progress (`heard`) is told in another thread.
    """

    @with_the_arguments_of(Stack)
    def __init__(self, *given: Any, **ways: Any) -> None:
        self.blocking = Stack(*given, **ways)

    @property
    def name(self) -> str:
        return self.blocking.name

    @property
    def config(self) -> dict[str, Any]:
        return self.blocking.config

    @property
    def services(self) -> list[str]:
        return self.blocking.services

    def __getitem__(self, service: str) -> AsyncService:
        return AsyncService(self.blocking[service])

    def __contains__(self, service: object) -> bool:
        return service in self.blocking

    containers = Threaded(Stack.containers)
    up = Chained(Stack.up)
    down = Threaded(Stack.down)
    remove = Threaded(Stack.remove)
    start = Threaded(Stack.start)
    stop = Threaded(Stack.stop)
    restart = Threaded(Stack.restart)
    kill = Threaded(Stack.kill)
    pause = Threaded(Stack.pause)
    unpause = Threaded(Stack.unpause)
    logs = Threaded(Stack.logs)
    cp = Threaded(Stack.cp)
    snapshot = Threaded(Stack.snapshot)
    restore = Threaded(Stack.restore)
    remove_snapshot = Threaded(Stack.remove_snapshot)
    reached = Threaded(Stack.reached)

    async def events(self, *services: str) -> AsyncEventStream:
        return AsyncEventStream(await in_thread(self.blocking.events, *services))

    partition = Wrapped(Stack.partition, AsyncFault)
    drop = Wrapped(Stack.drop, AsyncFault)
    delay = Wrapped(Stack.delay, AsyncFault)
    killed = Wrapped(Stack.killed, AsyncFault)
    paused = Wrapped(Stack.paused, AsyncFault)
    clock = Wrapped(Stack.clock, AsyncFault)
    frozen_dns = Wrapped(Stack.frozen_dns, AsyncFault)
    full_disk = Wrapped(Stack.full_disk, AsyncFault)

    async def __aenter__(self) -> Self:
        await in_thread(self.blocking.__enter__)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await in_thread(self.blocking.__exit__, kind, error, where)
