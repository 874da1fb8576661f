"""What a test does to a stack: take it back to a point, and disturb it for a while. Blocking.

A fault is a context manager. It ends with its block, and also when this process ends, however that happens:
the supervisor undoes it when the connection is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Literal, Self

from composer.api import wish
from composer.api.client import Heard, Message, Supervisor
from composer.api.context import Context
from composer.errors import ComposerError, NotFoundError, PeerLostError

SECOND = 1_000_000_000
MADE: Mapping[str, Any] = {
    **dict.fromkeys(("build", "force_recreate", "always_recreate_deps", "renew_anon_volumes"), False),
    "pull": "",
}
"""Of an `up` whose containers are there: nothing is to be made anew."""
Answer = Literal["silent", "servfail", "nxdomain"]


def point(context: Context, heard: Heard | None = None, **fields: Any) -> Message:
    """Ask for a snapshot, or to go back to one. Raises ComposerError when the stack has no containers."""
    if not context.again()["containers"]:
        raise ComposerError(
            f"stack {context.stack_name} has no containers",
            hint="`composer up`, or `composer create`, makes them",
        )
    paths = context.stack_paths
    with Supervisor.connect(paths) or Supervisor.start(paths) as supervisor:
        return supervisor.call("snapshot", None, heard, **fields)


def begin_from(
    context: Context, options: Mapping[str, Any], snapshot: str, heard: Heard | None = None
) -> tuple[dict[str, Any], Message]:
    """Have the containers of an `up` made, and their data as at a snapshot, before they are started.

    The options of the `up` that is left to do, and what going back has to say. Raises NotFoundError before
    anything is made, ConflictError, FailedError.
    """
    from composer.plan.order import with_dependencies
    from composer.volumes.snapshots import SnapshotStore

    stack, _, name = snapshot.rpartition("/")
    asked = {"stack": stack or context.stack_name, "name": name}
    SnapshotStore(context.paths).get(**asked)
    wish.check(wish.apply(context, {**options, "no_start": True}, heard))
    services = frozenset(options["services"])
    if services and not options.get("no_deps"):
        services = frozenset(with_dependencies(context.project.stack.services, services))
    answer = point(context, heard, restore=True, services=sorted(services), **asked)
    wish.check(answer)
    return {**options, **MADE}, answer


def connected(context: Context) -> Supervisor:
    """To be disturbed it must run. Raises ComposerError when nothing of the stack does."""
    supervisor = Supervisor.connect(context.stack_paths)
    if supervisor is None:
        hint = "`composer up -d` brings it up"
        raise ComposerError(f"nothing of stack {context.stack_name} runs", hint=hint)
    return supervisor


class Fault:
    """Something that is wrong with a stack for as long as the block lasts. `notices`: what is to be known."""

    def __init__(self, context: Context, kind: str, targets: tuple[str, ...], **settings: Any) -> None:
        self.context = context
        self.asked = {"kind": kind, "targets": targets, "settings": settings}
        self.number = 0
        self.notices: list[str] = []

    def __enter__(self) -> Self:
        """It acts when this returns. Raises ComposerError when it cannot."""
        with ExitStack() as held:
            self.supervisor = held.enter_context(connected(self.context))
            request = self.supervisor.send("fault", None, **self.asked)
            frame = self.supervisor.next(request)
            if "event" not in frame:
                self.supervisor.frames.append(frame)
                self.supervisor.result(request)
            self.number, self.notices = frame["event"]["fault"]["number"], frame["event"]["notices"]
            self.held = held.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """It is undone when this returns."""
        with self.held:
            try:
                self.supervisor.call("clear", numbers=[self.number])
            except (PeerLostError, NotFoundError):
                pass  # whoever takes over undoes what it finds; or somebody else has undone it


class Trials:
    """What `Stack` can be put to."""

    @property
    def context(self) -> Context:
        raise NotImplementedError

    # Back to a point.

    def snapshot(self, name: str, *services: str, timeout: float | None = None) -> None:
        """Keep volumes and what containers wrote; of these services, or of all. What runs is stopped for it
        (after `timeout` seconds killed), and started again.

        Raises ConflictError when there is one of this name, or somebody else uses a volume.
        """
        grace = None if timeout is None else int(timeout * SECOND)
        wish.check(point(self.context, name=name, services=services, grace=grace))

    def restore(
        self,
        name: str,
        *services: str,
        wait: bool = True,
        timeout: float | None = None,
        heard: Heard | None = None,
    ) -> None:
        """Back to a snapshot, or with `stack/name` to one of another stack of the same files. What runs is
        killed, and started again; `wait` until it is healthy, `timeout` seconds at most.

        Raises NotFoundError, ConflictError, FailedError.
        """
        stack, _, name = name.rpartition("/")
        asked = {"stack": stack or self.context.stack_name, "name": name, "services": services}
        wish.check(point(self.context, heard, restore=True, wait=wait, wait_timeout=timeout, **asked))

    @property
    def snapshots(self) -> list[str]:
        """Names, oldest first."""
        from composer.volumes.snapshots import SnapshotStore

        store = SnapshotStore(self.context.paths)
        return [each["name"] for each in store.list(self.context.stack_name)]

    def remove_snapshot(self, *names: str) -> None:
        """One that is gone is no error."""
        from composer.volumes.store import VolumeStore

        VolumeStore(self.context.paths).forget(self.context.stack_name, names)

    # Disturbed for a while.

    def partition(self, *services: str) -> Fault:
        """The first and the others do not reach each other: connections time out."""
        return Fault(self.context, "partition", services)

    def drop(self, *targets: str) -> Fault:
        """Services, or all on a network, have their network cable pulled."""
        return Fault(self.context, "drop", targets)

    def delay(self, *targets: str, by: float = 0.0, jitter: float = 0.0, loss: float = 0.0) -> Fault:
        """What services, or all on a network, send comes `by` seconds later, give or take `jitter`, or not at
        all, with a chance of `loss` (0 to 1).
        """
        return Fault(self.context, "delay", targets, delay=by, jitter=jitter, loss=loss)

    def killed(self, *services: str) -> Fault:
        """Killed, and down until the block ends."""
        return Fault(self.context, "kill", services)

    def paused(self, *services: str) -> Fault:
        """Frozen."""
        return Fault(self.context, "pause", services)

    def clock(self, *services: str, by: float) -> Fault:
        """Restarted, with monotonic and boot clocks `by` seconds ahead. The time of day stays."""
        return Fault(self.context, "clock", services, seconds=by)

    def frozen_dns(self, *services: str, answer: Answer = "silent") -> Fault:
        """Their resolver does not answer any more, or with an error."""
        return Fault(self.context, "freeze-dns", services, answer=answer)

    def full_disk(self, service: str, path: str, *, size: int = 0) -> Fault:
        """A bounded file system, like a tmpfs, has no room left, or `size` bytes less."""
        return Fault(self.context, "fill-disk", (service,), path=path, size=size)
