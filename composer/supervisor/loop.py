"""The loop: look, step, act, and look again when something changed or its time has come.

One operation (a user's wish) at a time drives the goal; between operations the goal is `keep`. The loop
decides nothing itself: `plan.step` does. It remembers which subjects have an action under way, so that an
action is never begun twice, and records failures as observations.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import anyio
from anyio.abc import TaskGroup

from composer.errors import ComposerError
from composer.model.stack import Stack
from composer.plan.actions import Action, BuildImage, PullImage
from composer.plan.observed import Subject
from composer.plan.options import Desired, Options
from composer.plan.step import Blocked, Step, step
from composer.supervisor.world import World

SECOND = 1_000_000_000
IDLE = 3600.0
"""Seconds after which the loop looks again though nothing is known to be due."""

EMPTY = Stack("", {})


class Operation:
    """One wish on its way; `finished` is set once nothing is left to do.

    `report` hears of every action, `tell` of what else its person wants to see: ready frames; `look` of what
    stands in the way, at every look.
    """

    def __init__(
        self,
        options: Options,
        report: Callable[[Action, str, str], None],
        tell: Callable[[dict[str, Any]], None],
        look: Callable[[tuple[Blocked, ...]], None] | None = None,
    ) -> None:
        self.options = options
        self.report = report
        self.tell = tell
        self.look = look
        self.finished = anyio.Event()
        self.blocked: tuple[Blocked, ...] = ()
        self.superseded = ""

    @property
    def failures(self) -> list[Blocked]:
        """What will never be fulfilled. What waits in vain for something that failed is named with that."""
        final = [entry for entry in self.blocked if entry.final]
        waiting: dict[str, list[str]] = {entry.reason: [] for entry in final if not entry.service}
        found = []
        for entry in final:
            if entry.service and entry.reason in waiting:
                waiting[entry.reason].append(entry.instance)
            else:
                found.append(entry)
        return [_with(entry, waiting.get(entry.reason, ())) for entry in found]


def _with(entry: Blocked, others: Iterable[str]) -> Blocked:
    names = ", ".join(others)
    return entry.replace(instance=f"{entry.instance} ({names})") if names and not entry.service else entry


class Loop:
    """`act` carries out one action; `settle` makes what is shared (names, ports, the record) follow."""

    def __init__(
        self,
        world: World,
        act: Callable[[Action], Awaitable[None]],
        settle: Callable[..., Awaitable[float | None]],
    ) -> None:
        self.world, self.act, self.settle = world, act, settle
        self.desired: Desired | None = None
        self.keep = Options()
        self.operation: Operation | None = None
        self.queue: list[Operation] = []
        self.busy: dict[Subject, str] = {}
        self.fetching: set[anyio.CancelScope] = set()
        """Pulls and builds under way: nobody waits for them who wants an end."""
        self.parallel = 0
        self.blocked: tuple[Blocked, ...] = ()
        self.ended = False
        self.held = False
        """After a loss of everything nothing is begun again before somebody asks for something."""
        self._woken = anyio.Event()

    def wake(self) -> None:
        """Something changed: look again."""
        self._woken.set()

    def submit(self, operation: Operation) -> None:
        """Put a wish in line. One that ends things overtakes what is under way."""
        if operation.options.goal in ("down", "stop", "rm") and self.operation is not None:
            self.supersede(self.operation, operation.options.goal)
        self.queue.append(operation)
        self.held = False
        self.wake()

    def abandon(self, operation: Operation) -> None:
        """Nobody wants it any more. What is under way comes to its end."""
        if operation in self.queue:
            self.queue.remove(operation)
            operation.finished.set()
        elif operation is self.operation:
            self.supersede(operation, operation.superseded or "Ctrl-C")
            self.wake()

    def supersede(self, operation: Operation, by: str) -> None:
        """No more of it is begun, and what takes long and can be begun again is given up."""
        operation.superseded = by
        for scope in self.fetching:
            scope.cancel()

    async def run(self) -> None:
        """Until `ended` is set."""
        async with anyio.create_task_group() as tasks:
            while not self.ended:
                self._woken = anyio.Event()
                self._next_operation()
                delay = await self._look(tasks)
                with anyio.move_on_after(delay):
                    await self._woken.wait()
            tasks.cancel_scope.cancel()

    def _next_operation(self) -> None:
        current = self.operation
        if current is not None and current.superseded and not self.busy:
            self._finish(current)
        if self.operation is None and self.queue:
            self.operation = self.queue.pop(0)
            self.world.failures.clear()

    def _finish(self, operation: Operation) -> None:
        operation.finished.set()
        self.operation = None
        self.world.failures.clear()
        self.wake()

    async def _look(self, tasks: TaskGroup) -> float:
        """One pass. Seconds until the next one, if nothing wakes the loop before."""
        if self.desired is None or self.held:
            return IDLE
        operation = self.operation
        options = operation.options if operation else self.keep
        now = time.time_ns()
        result = step(self.desired, self.world.observed(), options, now)
        self.blocked = result.blocked
        if operation is not None and operation.look is not None:
            operation.look(result.blocked)
        if operation is None or not operation.superseded:
            self._begin(tasks, result, operation)
        again = await self.settle(now=not self.busy)
        if operation is not None and not self.busy and result.settled and not operation.superseded:
            operation.blocked = result.blocked
            self._finish(operation)
        due = IDLE if result.wake_at is None else max((result.wake_at - time.time_ns()) / SECOND, 0.0)
        return due if again is None else min(due, again)

    def _begin(self, tasks: TaskGroup, result: Step, operation: Operation | None) -> None:
        for action in result.actions:
            if action.subject in self.busy or (self.parallel > 0 and len(self.busy) >= self.parallel):
                continue
            self.busy[action.subject] = type(action).__name__
            tasks.start_soon(self._carry_out, action, operation)

    async def _carry_out(self, action: Action, operation: Operation | None) -> None:
        report = operation.report if operation else _nobody
        report(action, "begin", "")
        scope = anyio.CancelScope()
        if isinstance(action, PullImage | BuildImage):
            self.fetching.add(scope)
        try:
            with scope:
                await self.act(action)
            if scope.cancelled_caught:
                raise ComposerError("given up")
        except Exception as error:  # a fault of ours ends this action, never the stack
            text = said(error) if isinstance(error, ComposerError) else internal(error)
            self.world.failures[action.subject] = text
            report(action, "failed", text)
        else:
            report(action, "done", "")
        finally:
            self.fetching.discard(scope)
            del self.busy[action.subject]
            self.wake()


def said(error: ComposerError) -> str:
    """In one line with its remedy: failures of actions are told as texts."""
    return f"{error.message} ({error.hint})" if error.hint else error.message


def internal(error: Exception) -> str:
    """A fault of ours in words; where it happened goes to the diagnostics."""
    traceback.print_exception(error)
    return f"internal error: {type(error).__name__}: {error}"


def _nobody(action: Action, phase: str, text: str) -> None:
    """Actions between wishes have no audience."""
