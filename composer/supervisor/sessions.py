"""Processes that somebody asks for and waits for: commands in containers, one-offs, and ends of containers.

Their terminals and pipes are the caller's own descriptors; nothing of what they say passes through here.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Any

from composer import offline
from composer.errors import ComposerError, ConflictError, NotFoundError
from composer.plan.actions import StopContainer
from composer.supervisor.api import Handler, Request
from composer.supervisor.channel import close_all
from composer.supervisor.core import Core
from composer.supervisor.desires import stack_of
from composer.supervisor.faults import NOT_STARTED
from composer.supervisor.world import Live


class Sessions:
    """Handlers of the door by verb."""

    def __init__(self, core: Core) -> None:
        self.core = core

    def verbs(self) -> dict[str, Handler]:
        return {
            "exec": self.exec,
            "run": self.run,
            "begin": self.begin,
            "attach": self.attach,
            "wait": self.wait,
            "end": self.end,
        }

    async def exec(self, request: Request) -> dict[str, Any]:
        live = self.core.live(request.text("container"))
        running, fds = await self.core.inside.execute(live, request.fields["process"], request.fds)
        await request.channel.send({"id": request.number, "event": {"pid": running.pid}}, fds)
        for descriptor in fds.values():
            os.close(descriptor)
        if request.fields["process"].get("detach"):
            return {"exit": 0}
        await running.ended.wait()
        return {"exit": running.code}

    async def run(self, request: Request) -> dict[str, Any]:
        """Make a one-off once what it needs is there."""
        core, fields = self.core, request.fields
        offline.go(bool(fields.get("offline")))
        if "stack" in request.fds:
            core.desire(stack_of(request.fds), request.text("digest"), fields.get("origin") or {})
        service = core.service(request.text("service"))

        def tell(frame: dict[str, Any]) -> None:
            core.tasks.start_soon(partial(request.send, progress=frame))

        core.images.report = tell
        await core.oneoff.prepare(service, pull=request.text("pull", ""), build=bool(fields.get("build")))
        if not fields.get("no_deps"):
            await core.oneoff.await_dependencies(service, tell)
        live = await core.oneoff.create_oneoff(service, fields.get("overrides") or {})
        live.remove_after = bool(fields.get("remove"))
        await core.settle()
        return {"container": live.name, "id": live.plan.id}

    async def begin(self, request: Request) -> dict[str, Any]:
        """Start a one-off, with the descriptors stdin, stdout, stderr if given, and wait for its end."""
        live = self.core.live(request.text("container"))
        live.stdio, fds = request.fds, {}
        try:
            await self.core.runs.start(live.name)
            if live.tty or (live.stdin and not live.stdio):
                fds = (await self.core.keeper.call("stream", id=live.plan.id))["fds"]
        except ComposerError as error:
            error.exit_code = live.plan.exit_code or NOT_STARTED
            if live.remove_after:
                await self.core.oneoff.discard(live)
            raise
        finally:
            # Ours must not keep a reader waiting for the end of what the container has closed.
            close_all(request.fds)
            request.fds, live.stdio = {}, {}
        self.core.changed(live)
        await self.core.settle()
        await request.channel.send({"id": request.number, "event": {"pid": live.pid}}, fds)
        close_all(fds)
        if request.fields.get("detach"):
            return {}
        code = await self.end_of([live])
        while live.remove_after and live.name in self.core.world.containers:
            await self.core.pulse()
        return {"exit": code}

    async def end_of(self, lives: list[Live]) -> int:
        while all(live.plan.alive for live in lives):
            await self.core.pulse()
        return next(live.plan.exit_code for live in lives if not live.plan.alive)

    async def attach(self, request: Request) -> dict[str, Any]:
        """Who only rests is woken. With `input`, a descriptor leads to what it reads."""
        live = self.core.live(request.text("container"))
        await self.core.inside.awake(live)
        if request.fields.get("input"):
            request.answer_fds = (await self.core.keeper.call("stream", id=live.plan.id))["fds"]
        return {}

    async def wait(self, request: Request) -> dict[str, Any]:
        lives = [self.core.live(name) for name in request.fields.get("containers") or ()]
        if not lives:
            raise NotFoundError("no containers to wait for")
        if request.fields.get("all"):
            while any(live.plan.alive for live in lives):
                await self.core.pulse()
        code = await self.end_of(lives)
        ended = next(live for live in lives if not live.plan.alive)
        return {"container": ended.name, "exit": code}

    async def end(self, request: Request) -> dict[str, Any]:
        core, timeout = self.core, request.fields.get("timeout")
        live = core.live(request.text("container"))
        if not live.plan.oneoff:
            raise ConflictError(f"container {live.name} is one of its service's", hint="`composer stop`")
        if live.plan.alive:
            slot, grace = live.plan.slot, None if timeout is None else int(timeout)
            await core.runs.stop(StopContainer("asked for", slot, live.name, True, grace=grace))
            core.loop.wake()
            await self.end_of([live])
        if request.fields.get("remove") and live.name in core.world.containers:
            await core.oneoff.discard(live)
        await core.settle()
        return {}
