"""`composer pause`: freeze containers, processes and all, now or once nobody uses them."""

from __future__ import annotations

from composer.api.client import Supervisor
from composer.api.times import nanoseconds
from composer.cli import common, wish
from composer.cli.context import Context
from composer.cli.grammar import Flag, Verb
from composer.errors import ComposerError, UsageError
from composer.record import ContainerRow

VERB = Verb(
    "pause",
    "Freeze containers",
    (
        Flag("after", "str", "With --idle: how long nobody must have used them (5m)", metavar="TIME"),
        Flag("idle", "bool", "Only while nobody uses them: the next connection thaws them"),
    ),
    (common.SERVICES,),
    examples=(("pause --idle --after 10m", "whatever nobody uses for ten minutes rests until it is needed"),),
)
AFTER = "5m"


def run(context: Context, *, after: str | None, idle: bool, service: list[str]) -> int:
    if after and not idle:
        raise UsageError("--after says when to freeze what idles", hint="`composer pause --idle --after 10m`")
    return freeze(context, service, thaw=False, after=patience(after or AFTER) if idle else 0)


def patience(text: str) -> int:
    """In nanoseconds. Raises UsageError."""
    found = nanoseconds(text, "--after")
    if not found:
        raise UsageError("--after must be more than nothing", hint="`composer pause` freezes at once")
    return found


def freeze(context: Context, services: list[str], *, thaw: bool, after: int = 0) -> int:
    """Freeze what runs, at once or when it idles for `after` ns, or let what is frozen go on.

    Raises ComposerError when there is no such container.
    """
    context.check_services(services)
    state = "paused" if thaw else "running"
    names = [
        row["name"]
        for row in context.record["containers"]
        if (row["state"] == state or rests(row) or (thaw and row["plan"].get("idle_after")))
        and (not services or row["service"] in services)
        and not row["oneoff"]
    ]
    supervisor = Supervisor.connect(context.stack_paths) if names else None
    if supervisor is None:
        for row in context.record["containers"]:
            if services and row["service"] in services and row["state"] in ("running", "paused"):
                raise ComposerError(f"container {row['name']} is {'not' if thaw else 'already'} paused")
        raise ComposerError(f"no container is {state}", hint="`composer ps -a` shows what there is")
    subjects = [f"Container {name}" for name in names]
    text = "Unpaused" if thaw else "Freezes when idle" if after else "Paused"
    if context.dry_run:
        return wish.announce(subjects, text)
    with supervisor, wish.progress(context) as heard:
        supervisor.call("pause", containers=names, thaw=thaw, after=after)
        for subject in subjects:
            heard(wish.done(subject, text))
    return 0


def rests(row: ContainerRow) -> bool:
    """Frozen only until somebody uses it."""
    return bool(row["state"] == "paused" and row["plan"].get("gated"))
