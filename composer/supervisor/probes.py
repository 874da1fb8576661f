"""Healthchecks of running containers: one task each, asleep until the next probe is due.

When a probe is due and what its result means is `plan.health`'s matter. A probe is an exec in the
container, or comes from the outside (`outside`). One that takes too long is killed with all of its session.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Awaitable, Callable

import anyio

from composer.errors import ComposerError
from composer.plan.health import OUTPUT_LIMIT, Check, Health, Result, after, deadline, next_probe
from composer.supervisor.world import Live

SECOND = 1_000_000_000
Execute = Callable[[Live, tuple[str, ...], int], Awaitable["Running"]]


class Running:
    """A process in a container: its pid, and an event that is set when `code` is known.

    `said` is the end of what it printed, if that went into the container's log. `id` is what events call it;
    nothing is told of one without.
    """

    def __init__(self, pid: int, live: Live, id: str = "") -> None:
        self.pid = pid
        self.live = live
        self.id = id
        self.ended = anyio.Event()
        self.code = 0
        self.said = ""


async def watch(live: Live, check: Check, execute: Execute, changed: Callable[[Live], None]) -> None:
    """Probe until cancelled. `changed` hears when the status turned."""
    while True:
        health = live.plan.health or Health()
        await sleep_until(next_probe(check, health))
        if not live.plan.alive:
            return
        result = await probe(live, check, execute)
        new = after(check, live.plan.health or health, result)
        live.change(health=new)
        if new.status != health.status:
            changed(live)


async def sleep_until(moment: int) -> None:
    await anyio.sleep(max((moment - time.time_ns()) / SECOND, 0.0))


async def probe(live: Live, check: Check, execute: Execute) -> Result:
    """Run the check once. Its exit code is -1 when it took too long, as in Docker."""
    return await (probe_outside(live, check) if check.probe else probe_inside(live, check, execute))


async def probe_outside(live: Live, check: Check) -> Result:
    from composer.supervisor.outside import look

    assert check.probe is not None
    began = time.time_ns()
    with anyio.move_on_after(check.timeout / SECOND if check.timeout else None):
        well, output = await look(live.pid, check.probe)
        return Result(began, time.time_ns(), 0 if well else 1, output)
    return Result(began, time.time_ns(), -1, too_long(check))


async def probe_inside(live: Live, check: Check, execute: Execute) -> Result:
    began = time.time_ns()
    reading, writing = os.pipe()
    output = bytearray()
    try:
        os.set_blocking(reading, False)
        try:
            running = await execute(live, argv(check), writing)
        finally:
            os.close(writing)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(drain, reading, output)
            code = await finish(running, deadline(check, began))
            tasks.cancel_scope.cancel()
        drain_rest(reading, output)
    except ComposerError as error:
        code, output = 126, bytearray(str(error).encode())
    finally:
        os.close(reading)
    if code == -1:
        output += too_long(check).encode()
    return Result(began, time.time_ns(), code, output.decode(errors="replace"))


def too_long(check: Check) -> str:
    return f"Health check exceeded timeout ({check.timeout / SECOND:g}s)"


async def finish(running: Running, limit: int) -> int:
    """Wait for the probe until `limit` (ns since the epoch); then kill it, and -1."""
    with anyio.move_on_after(min(max((limit - time.time_ns()) / SECOND, 0.0), 1e9)):
        await running.ended.wait()
        return running.code
    end(running.pid)
    await running.ended.wait()
    return -1


async def drain(descriptor: int, output: bytearray) -> None:
    """Read what the probe prints, so that it never blocks; keep the beginning."""
    while drain_rest(descriptor, output):
        await anyio.wait_readable(descriptor)


def drain_rest(descriptor: int, output: bytearray) -> bool:
    """Read all there is now. False at the end."""
    try:
        while data := os.read(descriptor, 65536):
            output += data[: max(OUTPUT_LIMIT - len(output), 0)]
    except BlockingIOError:
        return True
    return False


def end(pid: int) -> None:
    """Kill the probe and its process group. The keeper has not reaped it yet, so the pid is its own."""
    for kill in (os.killpg, os.kill):
        try:
            kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def argv(check: Check) -> tuple[str, ...]:
    kind, *words = check.test
    return ("/bin/sh", "-c", " ".join(words)) if kind == "CMD-SHELL" else tuple(words)
