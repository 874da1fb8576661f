"""What the verbs of the door do. Each handler is a few calls on the core."""

from __future__ import annotations

import time
from functools import partial
from signal import SIGKILL
from typing import Any

import anyio

from composer.bundle.process import signal_number
from composer.errors import ComposerError
from composer.model.digest import from_json
from composer.model.stack import Attachment
from composer.plan.options import Options
from composer.supervisor import switch
from composer.supervisor.api import Handler, Request
from composer.supervisor.core import Core
from composer.supervisor.groups import stack_group
from composer.supervisor.sessions import Sessions
from composer.supervisor.wishes import Wishes


class Ops:
    """Handlers by verb."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.wishes = Wishes(core)
        self.taking = anyio.Lock()
        """Held while a snapshot is made or gone back to."""

    def verbs(self) -> dict[str, Handler]:
        own = (
            *(self.signal, self.pause, self.events, self.stats, self.top, self.network, self.snapshot),
            *(self.fault, self.clear, self.settle, self.reached, self.quit),
        )
        return {
            **self.wishes.verbs(),
            **Sessions(self.core).verbs(),
            **{handler.__name__: handler for handler in own},
        }

    async def signal(self, request: Request) -> dict[str, Any]:
        """What is killed, or sent its stop signal, by a person stays down, as with Docker."""
        number = int(request.fields["signo"])
        for name in request.fields.get("containers") or ():
            live = self.core.live(name)
            if number in (SIGKILL, signal_number(live.stop_signal)):
                live.change(stopped=True)
            if live.plan.idle:
                await self.core.gates.wake(live)
            await self.core.inside.signal(live, number)
        return {}

    async def pause(self, request: Request) -> dict[str, Any]:
        """Freeze at once, or with `after` once nobody has used it for so long; or thaw."""
        thaw, after = bool(request.fields.get("thaw")), int(request.fields.get("after") or 0)
        for name in request.fields.get("containers") or ():
            live = self.core.live(name)
            if after:
                self.core.gates.used(live)
                live.change(idle_after=after, used_at=time.time_ns())
                self.core.changed(live)
                continue
            live.change(idle_after=0)
            if live.plan.idle or (thaw and live.plan.gated):
                await self.core.gates.wake(live)
            if thaw == (live.plan.state == "paused"):
                self.core.inside.pause(live, thaw=thaw)
        return {}

    async def events(self, request: Request) -> dict[str, Any]:
        """Until the client is gone."""
        sending, receiving = anyio.create_memory_object_stream[dict[str, Any]](1000)

        def hear(event: dict[str, Any]) -> None:
            try:
                sending.send_nowait(event)
            except anyio.WouldBlock:
                request.closed.set()  # a listener that does not listen is let go

        self.core.events.listeners.append(hear)
        try:
            await request.send(event=None)
            async with anyio.create_task_group() as tasks:

                async def relay() -> None:
                    async for event in receiving:
                        await request.send(event=event)

                tasks.start_soon(relay)
                await request.closed.wait()
                tasks.cancel_scope.cancel()
        finally:
            self.core.events.listeners.remove(hear)
            sending.close()
            receiving.close()
        return {}

    async def stats(self, request: Request) -> dict[str, Any]:
        lives = [live for live in self.core.world.containers.values() if live.plan.alive]
        group = stack_group(self.core.name)
        total = dict(group.stats()) if group.exists() else {}
        stats = {x.name: self.core.inside.stats(x) for x in lives}
        return {"time": time.time_ns(), "stats": stats, "total": total}

    async def top(self, request: Request) -> dict[str, Any]:
        lives = [live for live in self.core.world.containers.values() if live.plan.alive]
        return {"pids": {live.name: self.core.inside.pids(live) for live in lives}}

    async def network(self, request: Request) -> dict[str, Any]:
        live, network = self.core.live(request.text("container")), request.text("network")
        if request.fields.get("connect"):
            wanted = from_json(Attachment, request.fields.get("attachment") or {})
            await switch.connect(self.core, live, network, wanted)
        else:
            await switch.disconnect(self.core, live, network)
        await self.core.settle()
        return {}

    async def fault(self, request: Request) -> dict[str, Any]:
        """Disturb the stack, until the client is gone or the time is over."""
        return await self.core.faulty().inject(request)

    async def clear(self, request: Request) -> dict[str, Any]:
        return await self.core.faulty().clear(request)

    async def snapshot(self, request: Request) -> dict[str, Any]:
        """Keep a point of the stack, or go back to one."""
        from composer.supervisor import snapshots

        core, fields = self.core, request.fields
        name, services = request.text("name"), list(fields.get("services") or ())

        def tell(frame: dict[str, Any]) -> None:
            core.tasks.start_soon(partial(request.send, progress=frame))

        async with self.taking:
            if fields.get("restore"):
                stack = request.text("stack", core.name)
                answer = await snapshots.restore(core, stack, name, services, tell)
            else:
                answer = await snapshots.create(core, name, services, fields.get("grace"), tell)
        if fields.get("wait") and answer["services"] and not answer["failures"]:
            options = Options("start", services=tuple(answer["services"]), no_deps=True)
            answer["failures"] = await self.wishes.until_ready(request, options)
        core.unsaved = True
        await core.settle()
        answer["notices"], core.notices = core.notices, []
        return answer

    async def reached(self, request: Request) -> dict[str, Any]:
        return self.core.net.reached()

    async def settle(self, request: Request) -> dict[str, Any]:
        loop = self.core.loop
        while request.fields.get("wishes") and (wish := loop.operation or next(iter(loop.queue), None)):
            await wish.finished.wait()
        await self.core.settle()
        return {}

    async def quit(self, request: Request) -> dict[str, Any]:
        if not self.core.idle:
            raise ComposerError("the stack still runs")
        self.core.tasks.start_soon(self.core.leave)
        return {}
