"""Faults that are injected on purpose: begun, recorded, undone, whatever happens to whoever asked for them.

A fault is undone when its time is over, when it is cleared, or when the connection that asked for it ends,
unless it was detached from it. It is on disk before it acts: a supervisor that takes over keeps what was
detached and undoes the rest. What each kind does is in `injected`.
"""

from __future__ import annotations

import time
from typing import Any

import anyio

from composer.disk import read_json, write_json
from composer.errors import ComposerError, NotFoundError, UsageError
from composer.supervisor.api import Request
from composer.supervisor.core import Core
from composer.supervisor.injected import KINDS, Fault, Kind
from composer.supervisor.network_faults import NetworkFaults

SECOND = 1_000_000_000


class Injection:
    """The faults of one stack. `over` says, by number, that one has ended."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.faults: dict[int, Fault] = {}
        self.last = 0
        """The number of the latest one. None is given twice: whoever has one may still want to end it."""
        self.over: dict[int, anyio.Event] = {}
        self.network = NetworkFaults(core)

    def kind(self, fault: Fault) -> Kind:
        return KINDS[fault["kind"]](self.core, fault)

    # Beginning and ending

    async def inject(self, request: Request) -> dict[str, Any]:
        """The verb: answers when the fault is over, or, detached, once it acts."""
        fault = self.wanted(request)
        await self.begin(fault)
        if not fault["tied"]:
            return {"fault": fault, "notices": self.notices()}
        await request.send(event={"fault": fault, "notices": self.notices()})
        over = self.over[fault["number"]]
        async with anyio.create_task_group() as tasks:

            async def gone() -> None:
                await request.closed.wait()
                tasks.cancel_scope.cancel()

            tasks.start_soon(gone)
            await over.wait()
            tasks.cancel_scope.cancel()
        await self.end(fault["number"])
        return {"fault": fault, "notices": self.notices()}

    def notices(self) -> list[str]:
        notices, self.core.notices = self.core.notices, []
        return notices

    def wanted(self, request: Request) -> Fault:
        """Raises UsageError, NotFoundError, ConflictError."""
        fields = request.fields
        if fields.get("kind") not in KINDS:
            raise UsageError(f"there is no fault {fields.get('kind')!r}", hint=", ".join(KINDS))
        now, lasts = time.time_ns(), fields.get("lasts")
        if lasts is not None and lasts <= 0:
            raise UsageError("it would be over at once", hint="say nothing about time for one without an end")
        fault = Fault(
            number=self.last + 1,
            kind=request.text("kind"),
            targets=[str(target) for target in fields.get("targets") or ()],
            settings=dict(fields.get("settings") or {}),
            since=now,
            until=now + int(lasts) if lasts else 0,
            tied=not fields.get("detach"),
            state={},
        )
        self.kind(fault).check()
        return fault

    async def begin(self, fault: Fault) -> None:
        """On failure nothing of it is left."""
        number = self.last = fault["number"]
        self.faults[number], self.over[number] = fault, anyio.Event()
        self.write()
        try:
            await self.kind(fault).do()
            self.write()
            self.settle()
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.end(number)
            raise
        await self.core.settle()
        if fault["until"]:
            self.core.tasks.start_soon(self.expire, fault)

    async def expire(self, fault: Fault) -> None:
        await anyio.sleep(max((fault["until"] - time.time_ns()) / SECOND, 0.0))
        if self.faults.get(fault["number"]) is fault:
            await self.end(fault["number"])

    async def end(self, number: int) -> None:
        """Undo it; nothing when that was done."""
        fault = self.faults.pop(number, None)
        if fault is None:
            return
        try:
            await self.kind(fault).undo()
        except (ComposerError, OSError) as error:
            self.core.notice(f"{fault['kind']} could not be undone: {error}")
        self.follow()
        self.write()
        await self.core.settle()
        self.over.pop(number).set()

    async def clear(self, request: Request) -> dict[str, Any]:
        """The verb: undo those of these numbers, or all."""
        numbers = [int(number) for number in request.fields.get("numbers") or ()]
        for number in numbers:
            if number not in self.faults:
                raise NotFoundError(f"there is no fault {number}", hint="`composer fault ls` shows them")
        cleared = numbers or list(self.faults)
        for number in cleared:
            await self.end(number)
        return {"cleared": cleared, "notices": self.notices()}

    # What follows from them

    def settle(self) -> None:
        """Rules and names follow the faults and the containers of now. Raises ComposerError."""
        self.network.settle(self.faults.values())
        for live in self.core.world.containers.values():
            if live.pid:
                self.core.net.names.resolver.trouble(live.plan.id, self.dns(live.plan.slot.service))

    def follow(self) -> None:
        """`settle`, from within the loop: what cannot be done is told to the next who asks for something."""
        try:
            self.settle()
        except ComposerError as error:
            self.core.notice(f"a fault does not act as it should: {error}")

    def dns(self, service: str) -> str:
        """How its questions are answered; "" as ever."""
        troubles = [each for each in self.faults.values() if each["kind"] == "freeze-dns"]
        return next((each["settings"]["answer"] for each in troubles if service in each["targets"]), "")

    def clock(self, service: str) -> int:
        """Seconds that its clocks are ahead; 0 as ever."""
        shifts = (each for each in self.faults.values() if each["kind"] == "clock")
        return sum(each["settings"]["seconds"] for each in shifts if service in each["targets"])

    # Life

    def write(self) -> None:
        file = self.core.here.faults
        if self.faults:
            write_json(file, list(self.faults.values()), durable=False)
        else:
            file.unlink(missing_ok=True)

    async def recover(self) -> None:
        """After a crash: what belonged to a connection is undone, what was detached goes on."""
        if self.core.loop.held:  # everything was lost, and with it what could be undone
            self.forget()
            return
        kept: list[Fault] = read_json(self.core.here.faults) or []
        for fault in kept:
            self.faults[fault["number"]], self.over[fault["number"]] = fault, anyio.Event()
            self.last = max(self.last, fault["number"])
        self.network.clean(kept)
        self.network.settle((), anew=True)
        for fault in kept:
            if fault["tied"] or (fault["until"] and fault["until"] <= time.time_ns()):
                await self.end(fault["number"])
            else:
                await self.kind(fault).again()
                if fault["until"]:
                    self.core.tasks.start_soon(self.expire, fault)
        self.follow()

    def forget(self) -> None:
        """The stack is down."""
        self.faults.clear()
        for over in self.over.values():
            over.set()
        self.over.clear()
        self.network.settle((), anew=True)
        self.write()
