"""`composer commit`: an image from what a container changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from composer.api.client import Supervisor
from composer.api.select import container
from composer.cli import common
from composer.cli.context import Context
from composer.cli.grammar import Flag, Positional, Verb
from composer.errors import ComposerError
from composer.images.store import Store
from composer.record import ContainerRow
from composer.volumes.snapshots import SnapshotStore

VERB = Verb(
    "commit",
    "Make an image from a container",
    (
        Flag("author", "str", "Its author", "a"),
        Flag("change", "list", "A Dockerfile instruction to apply (repeatable)", "c", metavar="INSTRUCTION"),
        common.INDEX,
        Flag("message", "str", "A message for its history", "m"),
        Flag("pause", "bool", "Freeze the container meanwhile", "p", default=True),
    ),
    (common.SERVICE, Positional("REPOSITORY[:TAG]", "Its name", required=False)),
    examples=(('commit -c "CMD [\\"serve\\"]" web shop:patched', "with another command"),),
)


def run(
    context: Context,
    *,
    author: str,
    change: list[str],
    index: int | None,
    message: str,
    pause: bool,
    service: str,
    repository: str,
) -> int:
    row = container(context, service, index, running=False)
    store = Store(context.paths)
    base = store.get(row["image_id"])
    if len(base.root) > 1:
        raise ComposerError(
            f"container {row['name']} is made of {row['image']}, which only exists on this host",
            hint="commit needs a container of a stored image",
        )
    upper, _, kept = SnapshotStore(context.paths).overlay(context.stack_paths.container_state(row["name"]), 0)
    if not upper.is_dir():
        raise ComposerError(f"container {row['name']} has never run: there is nothing to commit")
    with frozen(context, row) if pause and row["state"] == "running" else nullcontext():
        for layer in reversed(kept):
            base = store.commit(base, Path(layer), None)
        image = store.commit(base, upper, repository or None, changes=change, message=message, author=author)
    print(image.id)
    return 0


@contextmanager
def frozen(context: Context, row: ContainerRow) -> Iterator[None]:
    """The container stands still meanwhile."""
    supervisor = Supervisor.connect(context.stack_paths)
    if supervisor is None:
        yield
        return
    with supervisor:
        supervisor.call("pause", containers=[row["name"]])
        try:
            yield
        finally:
            supervisor.call("pause", containers=[row["name"]], thaw=True)
