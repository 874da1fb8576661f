"""The same stacks for programs in an event loop (anyio: asyncio or trio). Nothing here blocks it.

Each call is the blocking one, in a thread of its own. One that is cancelled ends at once, as Ctrl-C ends a
command: what it has begun stays, and nothing more is begun.
"""

# ruff: noqa: ASYNC109 - the arguments are those of the blocking calls; anyio.fail_after works, too

from __future__ import annotations

import math
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Literal, ParamSpec, Self, TypeVar

import anyio
from anyio import to_thread
from anyio.lowlevel import checkpoint_if_cancelled

from composer.api.client import Heard
from composer.api.container import Container, Reached
from composer.api.events import Event, EventStream
from composer.api.patience import STOP
from composer.api.process import ExecResult
from composer.api.service import Service
from composer.api.stack import File, Stack
from composer.api.trials import Answer, Fault

P = ParamSpec("P")
T = TypeVar("T")


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


class AsyncStack:
    """As `Stack`, with the same arguments; `async with` brings it up, and down again."""

    def __init__(
        self,
        *files: File,
        yaml: str | Mapping[str, Any] | None = None,
        name: str | None = None,
        directory: File | None = None,
        profiles: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        env_files: Sequence[File] = (),
        isolated: bool = False,
        internal: bool = False,
        offline: bool = False,
        all_resources: bool = False,
    ) -> None:
        self.blocking = Stack(
            *files,
            yaml=yaml,
            name=name,
            directory=directory,
            profiles=profiles,
            env=env,
            env_files=env_files,
            isolated=isolated,
            internal=internal,
            offline=offline,
            all_resources=all_resources,
        )

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

    async def containers(self, *services: str) -> list[Container]:
        return await in_thread(self.blocking.containers, *services)

    async def up(
        self,
        *services: str,
        wait: bool = True,
        timeout: float | None = None,
        scale: Mapping[str, int] | None = None,
        build: bool = False,
        pull: Literal["", "always", "missing", "never"] = "",
        no_deps: bool = False,
        force_recreate: bool = False,
        remove_orphans: bool = False,
        owner: int | None = None,
        heard: Heard | None = None,
    ) -> Self:
        """As `Stack.up`. `heard` is called in another thread."""
        await in_thread(
            self.blocking.up,
            *services,
            wait=wait,
            timeout=timeout,
            scale=scale,
            build=build,
            pull=pull,
            no_deps=no_deps,
            force_recreate=force_recreate,
            remove_orphans=remove_orphans,
            owner=owner,
            heard=heard,
        )
        return self

    async def down(
        self,
        *services: str,
        volumes: bool = False,
        timeout: float | None = None,
        remove_orphans: bool = True,
        images: Literal["", "local", "all"] = "",
    ) -> None:
        await in_thread(
            self.blocking.down,
            *services,
            volumes=volumes,
            timeout=timeout,
            remove_orphans=remove_orphans,
            images=images,
        )

    async def remove(self, *services: str, volumes: bool = False) -> None:
        await in_thread(self.blocking.remove, *services, volumes=volumes)

    async def start(self, *services: str, wait: bool = True, timeout: float | None = None) -> None:
        await in_thread(self.blocking.start, *services, wait=wait, timeout=timeout)

    async def stop(self, *services: str, timeout: float | None = None) -> None:
        await in_thread(self.blocking.stop, *services, timeout=timeout)

    async def restart(self, *services: str, timeout: float | None = None, wait: bool = True) -> None:
        await in_thread(self.blocking.restart, *services, timeout=timeout, wait=wait)

    async def kill(self, *services: str, signal: int | str = "SIGKILL") -> None:
        await in_thread(self.blocking.kill, *services, signal=signal)

    async def pause(self, *services: str) -> None:
        await in_thread(self.blocking.pause, *services)

    async def unpause(self, *services: str) -> None:
        await in_thread(self.blocking.unpause, *services)

    async def logs(self, *services: str, tail: int | None = None) -> str:
        return await in_thread(self.blocking.logs, *services, tail=tail)

    async def cp(self, source: str, target: str, *, archive: bool = False) -> None:
        await in_thread(self.blocking.cp, source, target, archive=archive)

    async def snapshot(self, name: str, *services: str, timeout: float | None = None) -> None:
        await in_thread(self.blocking.snapshot, name, *services, timeout=timeout)

    async def restore(
        self,
        name: str,
        *services: str,
        wait: bool = True,
        timeout: float | None = None,
        heard: Heard | None = None,
    ) -> None:
        await in_thread(self.blocking.restore, name, *services, wait=wait, timeout=timeout, heard=heard)

    def partition(self, *services: str) -> AsyncFault:
        return AsyncFault(self.blocking.partition(*services))

    def drop(self, *targets: str) -> AsyncFault:
        return AsyncFault(self.blocking.drop(*targets))

    def delay(self, *targets: str, by: float = 0.0, jitter: float = 0.0, loss: float = 0.0) -> AsyncFault:
        return AsyncFault(self.blocking.delay(*targets, by=by, jitter=jitter, loss=loss))

    def killed(self, *services: str) -> AsyncFault:
        return AsyncFault(self.blocking.killed(*services))

    def paused(self, *services: str) -> AsyncFault:
        return AsyncFault(self.blocking.paused(*services))

    def clock(self, *services: str, by: float) -> AsyncFault:
        return AsyncFault(self.blocking.clock(*services, by=by))

    def frozen_dns(self, *services: str, answer: Answer = "silent") -> AsyncFault:
        return AsyncFault(self.blocking.frozen_dns(*services, answer=answer))

    def full_disk(self, service: str, path: str, *, size: int = 0) -> AsyncFault:
        return AsyncFault(self.blocking.full_disk(service, path, size=size))

    async def reached(self) -> Reached:
        return await in_thread(self.blocking.reached)

    async def events(self, *services: str) -> AsyncEventStream:
        return AsyncEventStream(await in_thread(self.blocking.events, *services))

    async def __aenter__(self) -> Self:
        await in_thread(self.blocking.__enter__)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await in_thread(self.blocking.__exit__, kind, error, where)


class AsyncService:
    """As `Service`. What only reads what is known is no coroutine."""

    def __init__(self, blocking: Service) -> None:
        self.blocking = blocking

    @property
    def name(self) -> str:
        return self.blocking.name

    async def container(self) -> Container:
        return await in_thread(lambda: self.blocking.container)

    async def port(self, target: int, protocol: str = "tcp") -> int:
        return await in_thread(self.blocking.port, target, protocol)

    async def url(self, target: int = 80, path: str = "", scheme: str = "http") -> str:
        return await in_thread(self.blocking.url, target, path, scheme)

    async def endpoint(self, target: int, protocol: str = "tcp") -> tuple[str, int]:
        return await in_thread(self.blocking.endpoint, target, protocol)

    async def start(self, *, wait: bool = True, timeout: float | None = None) -> None:
        await in_thread(self.blocking.start, wait=wait, timeout=timeout)

    async def stop(self, *, timeout: float | None = None) -> None:
        await in_thread(self.blocking.stop, timeout=timeout)

    async def restart(self, *, wait: bool = True, timeout: float | None = None) -> None:
        await in_thread(self.blocking.restart, wait=wait, timeout=timeout)

    async def kill(self, signal: int | str = "SIGKILL") -> None:
        await in_thread(self.blocking.kill, signal)

    async def pause(self) -> None:
        await in_thread(self.blocking.pause)

    async def unpause(self) -> None:
        await in_thread(self.blocking.unpause)

    async def scale(self, count: int) -> None:
        await in_thread(self.blocking.scale, count)

    async def exec(
        self,
        *command: str,
        env: Mapping[str, str] | None = None,
        user: str = "",
        cwd: str = "",
        privileged: bool = False,
        input: str | bytes = b"",
        timeout: float | None = None,
        check: bool = False,
    ) -> ExecResult:
        """As `Service.exec`. Cancelled, it kills the command."""
        return await in_thread(
            self.blocking.exec,
            *command,
            env=env,
            user=user,
            cwd=cwd,
            privileged=privileged,
            input=input,
            timeout=timeout,
            check=check,
        )

    async def wait(self, timeout: float | None = None) -> int:
        return await in_thread(self.blocking.wait, timeout)

    async def wait_healthy(self, timeout: float | None = None) -> None:
        await in_thread(self.blocking.wait_healthy, timeout)

    async def logs(self, tail: int | None = None) -> str:
        return await in_thread(self.blocking.logs, tail)

    async def wait_for_log(
        self, pattern: str | re.Pattern[str], timeout: float | None = 30, *, times: int = 1
    ) -> re.Match[str]:
        return await in_thread(self.blocking.wait_for_log, pattern, timeout, times=times)

    async def copy_to(self, source: File, path: str) -> None:
        await in_thread(self.blocking.copy_to, source, path)

    async def copy_from(self, path: str, target: File) -> None:
        await in_thread(self.blocking.copy_from, path, target)


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

    async def wait_for(self, action: str, service: str = "", timeout: float | None = 30) -> Event:
        return await in_thread(self.blocking.wait_for, action, service, timeout)

    def close(self) -> None:
        self.blocking.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
