"""Images to and from registries, several at once, with their progress: for `pull`, `push`, `image pull`, …"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import anyio

from composer.cli import wish
from composer.cli.context import Context
from composer.errors import ComposerError, FailedError, UsageError
from composer.images.image import Progress

TOGETHER = 4
"""Images that are on their way at a time; each brings several layers at once."""
Heard = Callable[[dict[str, Any]], None]


class Job(NamedTuple):
    """One image. `work` does it and reports. With `optional` its failure is told and no more."""

    subject: str
    doing: str
    done: str
    work: Callable[[Callable[[Progress], None]], Awaitable[object]]
    optional: bool = False


def carry_out(context: Context, jobs: Sequence[Job], *, title: str, quiet: bool = False) -> None:
    """Do them all; those that can be done are, whatever becomes of the others. Raises FailedError."""
    failures: list[tuple[str, str]] = []
    with wish.progress(context, title, quiet=quiet) as heard:
        anyio.run(together, jobs, heard, failures, context.options.get("parallel", -1))
    if failures:
        raise FailedError(failures)


async def together(jobs: Sequence[Job], heard: Heard, failures: list[tuple[str, str]], parallel: int) -> None:
    limit = anyio.CapacityLimiter(parallel if parallel > 0 else TOGETHER)
    async with anyio.create_task_group() as tasks:
        for job in jobs:
            tasks.start_soon(one, job, heard, failures, limit)


async def one(job: Job, heard: Heard, failures: list[tuple[str, str]], limit: anyio.CapacityLimiter) -> None:
    blobs: dict[str, Progress] = {}

    def report(update: Progress) -> None:
        blobs[update.digest] = update
        heard(frame(job, blobs.values()))

    async with limit:
        heard(wish.done(job.subject, job.doing, "working"))
        try:
            await job.work(report)
        except ComposerError as error:
            text, state = ("Warning", "warning") if job.optional else ("Error", "error")
            heard(wish.done(job.subject, text, state, error.message))
            if not job.optional:
                failures.append((job.subject.removeprefix("Image "), error.message))
        else:
            heard(wish.done(job.subject, job.done))


def frame(job: Job, blobs: Any) -> dict[str, Any]:
    """One bar for all layers of an image."""
    parts = list(blobs)
    sizes = {"current": sum(p.current for p in parts), "total": sum(p.total for p in parts)}
    made = wish.done(job.subject, job.doing, "working")
    return {"progress": {**made["progress"], **sizes}}


def check_online(context: Context) -> None:
    """Raises UsageError with --offline."""
    if context.options.get("offline"):
        raise UsageError("--offline and a registry exclude each other")
