"""A wish for the stack on the screen: its progress shown, its notices and failures told."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from composer.api.wish import apply, check
from composer.cli.context import Context
from composer.cli.render.progress import Display, Json, Update, display


def untold(flags: Mapping[str, Any]) -> frozenset[str]:
    """The work of which --quiet-pull and --quiet-build show no more than that it begins and ends."""
    words = {"quiet_pull": "Pulling", "quiet_build": "Building"}
    return frozenset(word for flag, word in words.items() if flags[flag])


def shower(
    shown: Display, *, explain: bool = False, untold: Collection[str] = ()
) -> Callable[[dict[str, Any]], None]:
    """Turns progress frames into updates of a display. For people failures are told once: at the end."""
    for_people = not isinstance(shown, Json)

    def heard(frame: dict[str, Any]) -> None:
        progress = frame.get("progress")
        if progress and progress["text"] in untold and ("detail" in progress or "total" in progress):
            return
        if progress:
            failed = for_people and progress.get("state") == "error"
            detail = progress.get("detail", "") if not failed else ""
            if explain:
                detail = detail or progress.get("because", "")
            shown.update(
                Update(
                    progress["id"],
                    progress["text"],
                    progress.get("state", "working"),
                    detail,
                    progress.get("current", 0),
                    progress.get("total", 0),
                )
            )

    return heard


def carry_out(
    context: Context,
    options: Mapping[str, Any],
    *,
    title: str = "Running",
    start: bool = True,
    files: bool = True,
    explain: bool = False,
    quiet: bool = False,
    untold: Collection[str] = (),
    dry_run: bool = False,
    **more: Any,
) -> int:
    """Send the wish and show it until it is fulfilled. Raises FailedError with every cause.

    `start`: make a supervisor when nothing runs. `files`: the wish is about the stack of the files; otherwise
    about the stack as it was last brought up.
    """
    if dry_run:
        return rehearse(context, options)
    with progress(context, title, explain=explain, quiet=quiet, untold=untold) as heard:
        answer = apply(context, options, heard, start=start, files=files, **more)
    return report(answer)


@contextmanager
def progress(
    context: Context,
    title: str = "Running",
    *,
    explain: bool = False,
    quiet: bool = False,
    untold: Collection[str] = (),
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A display that hears a request's frames, until it is over, however it ends."""
    ways = context.options
    mode = "quiet" if quiet else ways.get("progress", "auto")
    shown = display(mode, title=title, ansi=ways.get("ansi", "auto"))
    try:
        yield shower(shown, explain=explain, untold=untold)
    finally:
        shown.close()


def done(subject: str, text: str, state: str = "done", detail: str = "") -> dict[str, Any]:
    """A frame about what this command does itself, for `progress`."""
    return {"progress": {"id": subject, "text": text, "state": state, "detail": detail}}


def announce(subjects: Iterable[str], action: str) -> int:
    """What --dry-run shows of a command that asks nobody."""
    for subject in subjects:
        print(f"DRY-RUN MODE -  {subject}  {action}", file=sys.stderr)
    return 0


def rehearse(context: Context, options: Mapping[str, Any]) -> int:
    """Show what would be done, in Docker Compose's form; nothing is."""
    from composer.cli.predict import predict

    for subject, action, because in predict(context, dict(options)):
        print(f"DRY-RUN MODE -  {subject}  {action}: {because}", file=sys.stderr)
    return 0


def report(answer: Mapping[str, Any]) -> int:
    for notice in answer.get("notices") or ():
        print(f"note: {notice}", file=sys.stderr)
    check(answer)
    return 0
