"""A wish for the stack: sent to its supervisor with the stack itself; its failures raised."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping
from typing import Any

from composer.api.client import Heard, Message, Supervisor
from composer.api.context import Context
from composer.disk import locked
from composer.errors import ComposerError, FailedError, PeerLostError

UNSAID = ("dependency failed", "didn't complete", "is unhealthy", "exited (")
"""Failures whose cause is in what a container did."""
TRIES = 3
"""A supervisor that was killed, or about to leave, has a successor, and a wish told again goes on there."""


def apply(
    context: Context,
    options: Mapping[str, Any],
    heard: Heard | None = None,
    *,
    start: bool = True,
    files: bool = True,
    fds: Mapping[str, int] | None = None,
    **more: Any,
) -> Message:
    """Send a wish; the supervisor's answer once nothing is left to do: `failures`, `notices`.

    `start`: make a supervisor when nothing runs; without one the answer is empty. `files`: the wish is about
    the stack of the files; otherwise about the stack as it was last brought up.
    """
    paths = context.stack_paths
    parallel = context.options.get("parallel", -1)
    wish = {"options": dict(options), "since": time.time_ns(), "parallel": parallel, **more}
    for left in reversed(range(TRIES)):
        supervisor = Supervisor.start(paths) if start else Supervisor.connect(paths)
        if supervisor is None:
            return {}
        try:
            with supervisor:
                if files:
                    return with_stack(context, supervisor, "apply", heard, fds, **wish)
                return supervisor.call("apply", fds, heard, **wish)
        except PeerLostError:
            if not left:
                raise
    raise AssertionError("unreachable")


def with_stack(
    context: Context,
    supervisor: Supervisor,
    verb: str,
    heard: Heard | None,
    fds: Mapping[str, int] | None = None,
    **fields: Any,
) -> Message:
    """One request that carries the stack of the files."""
    descriptor = stack_descriptor(context)
    data = context.project.stack_data
    origin = {key: data.get(key) for key in ("working_dir", "files", "name_given")}
    try:
        return supervisor.call(
            verb,
            {"stack": descriptor, **(fds or {})},
            heard,
            digest=context.project.digest,
            origin=origin,
            **{"offline": bool(context.options.get("offline")), **fields},
        )
    finally:
        os.close(descriptor)


def stack_descriptor(context: Context) -> int:
    """The stack as JSON in an anonymous file: the other side may be slow, and it may be large."""
    descriptor = os.memfd_create("stack")
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(json.dumps(context.project.stack_data).encode())
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def check(answer: Mapping[str, Any]) -> None:
    """Raises FailedError when the wish could not be fulfilled."""
    failures = [(name, reason) for name, reason in answer.get("failures") or ()]
    if failures:
        error = FailedError(failures)
        if any(word in reason for _, reason in failures for word in UNSAID):
            error.hint = "`composer why` shows what it came from, and what that printed last"
        raise error


def leave(context: Context) -> None:
    """Wait until the keeper is gone and clear the stack's run directory."""
    paths = context.stack_paths
    supervisor = Supervisor.connect(paths)
    if supervisor is not None:
        try:
            with supervisor:
                supervisor.call("quit")
        except PeerLostError:
            pass  # it was about to leave by itself
        except ComposerError:
            return  # somebody wants the stack again
    if paths.run.exists():
        with locked(paths.life):
            shutil.rmtree(paths.run, ignore_errors=True)


def keeps_volumes(context: Context) -> bool:
    """Whether volumes of the stack have outlived its containers."""
    from composer.volumes.store import VolumeStore

    return any(volume.owner == context.stack_name for volume in VolumeStore(context.paths).list())
