"""A wish for the stack: sent to its supervisor, its progress shown, its failures told."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from composer.cli.client import Supervisor
from composer.cli.context import Context
from composer.cli.render.progress import Display, Update, display
from composer.disk import is_locked
from composer.errors import ComposerError, ConflictError, NotFoundError, UsageError
from composer.record import Record, stored_record

SECOND = 1_000_000_000
DURATION = re.compile(r"(\d+)(ms|s|m|h)?")


class Failed(ComposerError):
    """The wish could not be fulfilled: one line per instance, with its cause."""


def check_identity(context: Context) -> None:
    """Refuse to change a stack of another project directory whose name is only the folder's.

    Raises ConflictError. A name that was given on purpose is taken at its word.
    """
    project = context.project
    record = stored_record(context.paths.stack(project.name))
    if record is None or not record["working_dir"] or project.stack_data.get("name_given"):
        return
    mine = project.stack_data.get("working_dir", "")
    if record["containers"] and os.path.realpath(record["working_dir"]) != os.path.realpath(mine):
        raise ConflictError(
            f"a stack named {project.name} is already here, from {record['working_dir']}",
            hint="choose a name for one of them: `-p NAME`, COMPOSE_PROJECT_NAME, or `name:` in the file",
        )


def check_services(context: Context, services: list[str]) -> None:
    """Raises NotFoundError for a service that the files do not have."""
    for name in services:
        if name not in context.project.services:
            import difflib

            close = difflib.get_close_matches(name, context.project.services, 1)
            raise NotFoundError(
                f"no such service: {name}",
                hint=f"did you mean {close[0]}?"
                if close
                else f"there are {', '.join(context.project.services)}",
            )


def stack_descriptor(context: Context) -> int:
    """The stack as JSON in an anonymous file: the other side may be slow, and it may be large."""
    descriptor = os.memfd_create("stack")
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(json.dumps(context.project.stack_data).encode())
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def origin(context: Context) -> dict[str, Any]:
    data = context.project.stack_data
    return {key: data.get(key) for key in ("working_dir", "files", "name_given")}


def with_stack(
    context: Context,
    supervisor: Supervisor,
    verb: str,
    heard: Callable[[dict[str, Any]], None] | None,
    **fields: Any,
) -> dict[str, Any]:
    """One request that carries the stack of the files."""
    descriptor = stack_descriptor(context)
    try:
        return supervisor.call(
            verb,
            {"stack": descriptor},
            heard,
            digest=context.project.digest,
            origin=origin(context),
            **fields,
        )
    finally:
        os.close(descriptor)


def shower(shown: Display, *, explain: bool = False) -> Callable[[dict[str, Any]], None]:
    """Turns progress frames into updates of a display."""

    def heard(frame: dict[str, Any]) -> None:
        progress = frame.get("progress")
        if progress:
            detail = progress.get("detail") or (progress.get("because", "") if explain else "")
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
    dry_run: bool = False,
    **more: Any,
) -> int:
    """Send the wish and show it until it is fulfilled. Raises Failed with every cause.

    `start`: make a supervisor when nothing runs. `files`: the wish is about the stack of the files; otherwise
    about the stack as it was last brought up.
    """
    if dry_run:
        return rehearse(context, options)
    paths = context.stack_paths
    supervisor = Supervisor.start(paths) if start else Supervisor.connect(paths)
    if supervisor is None:
        return 0
    wish = {"options": dict(options), "parallel": context.options.get("parallel", -1), **more}
    with supervisor, progress(context, title, explain=explain, quiet=quiet) as heard:
        answer = (
            with_stack(context, supervisor, "apply", heard, **wish)
            if files
            else supervisor.call("apply", None, heard, **wish)
        )
    return report(answer)


@contextmanager
def progress(
    context: Context, title: str = "Running", *, explain: bool = False, quiet: bool = False
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A display that hears a request's frames, until it is over, however it ends."""
    ways = context.options
    mode = "quiet" if quiet else ways.get("progress", "auto")
    shown = display(mode, title=title, ansi=ways.get("ansi", "auto"))
    try:
        yield shower(shown, explain=explain)
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
    failures = answer.get("failures") or []
    if failures:
        raise Failed("\n".join(said(name, reason) for name, reason in failures))
    return 0


def said(name: str, reason: str) -> str:
    """One line; a reason that begins with its subject needs no other."""
    return reason if reason.startswith(name) else f"{name}: {reason}"


def nanoseconds(text: str, flag: str) -> int | None:
    """`10`, `10s`, `1m`, `500ms` in nanoseconds; None for nothing said. Raises UsageError."""
    if text == "":
        return None
    match = DURATION.fullmatch(text)
    if not match:
        raise UsageError(f"{flag}: {text!r} is no time", hint="seconds, as in 10, or 500ms, 10s, 2m")
    unit = {"ms": SECOND // 1000, "s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND}[match[2] or "s"]
    return int(match[1]) * unit


def exists(context: Context) -> Record | None:
    """The record of the stack if it has anything on this host."""
    paths = context.stack_paths
    record = stored_record(paths)
    if record is None and not is_locked(paths.life):
        return None
    return context.record
