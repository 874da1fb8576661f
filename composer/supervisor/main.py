"""The process, started by the keeper with the stack's run and state directories as arguments.

Descriptor 3 is the listening socket of the door. Everything that runs, in one place.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
from pathlib import Path

import anyio

from composer.paths import Paths
from composer.supervisor.api import Api
from composer.supervisor.core import Core
from composer.supervisor.ops import Ops
from composer.supervisor.userns import Userns

LINGER = 2.0
"""Seconds that a supervisor with nothing to do stays, in case somebody is about to ask for something."""


async def supervise(paths: Paths, name: str, door: socket.socket, userns: Userns) -> None:
    """Until nothing runs any more, or the keeper is gone."""
    async with anyio.create_task_group() as tasks:
        core = Core(paths, name, tasks, userns)
        tasks.start_soon(serve_keeper, core)
        await core.keeper.call("subscribe")
        await core.recover()
        api = Api(Ops(core).verbs())
        tasks.start_soon(core.net.names.resolver.run)
        tasks.start_soon(core.net.watch, core.loop.wake)
        tasks.start_soon(core.loop.run)
        tasks.start_soon(api.serve, door)
        tasks.start_soon(leave_when_idle, core, api)
        tasks.start_soon(end_on_signal, tasks)
    for live in core.world.containers.values():
        live.stop_forwarding()


async def serve_keeper(core: Core) -> None:
    """Without its keeper the stack is over, and so is this process."""
    await core.keeper.run()
    for live in core.world.containers.values():
        core.runs.sweep(live)
    core.tasks.cancel_scope.cancel()


async def leave_when_idle(core: Core, api: Api) -> None:
    """Nothing runs when nothing is up."""
    while True:
        await anyio.sleep(LINGER)
        while not core.idle or api.clients:
            await core.pulse()
            await anyio.sleep(LINGER)
        await core.leave()


async def end_on_signal(tasks: anyio.abc.TaskGroup) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            tasks.cancel_scope.cancel()


def main() -> None:
    """The process."""
    run, state = Path(sys.argv[1]), Path(sys.argv[2])
    os.environ["COMPOSER_RUN_DIR"], os.environ["COMPOSER_STATE_DIR"] = (
        str(run.parents[1]),
        str(state.parents[1]),
    )
    door = socket.socket(fileno=3)
    paths = Paths(run.parents[1], state.parents[1])
    userns = Userns(paths, run.name)
    gc.freeze()
    anyio.run(supervise, paths, run.name, door, userns)
    # All is written and told; taking the interpreter down piece by piece is what `down` would wait for.
    os._exit(0)
