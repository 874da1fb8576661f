"""`composer pause`: freeze containers, processes and all."""

from __future__ import annotations

from composer.api.client import Supervisor
from composer.cli import common, wish
from composer.cli.context import Context
from composer.cli.grammar import Verb
from composer.errors import ComposerError

VERB = Verb("pause", "Freeze containers", (), (common.SERVICES,))


def run(context: Context, *, service: list[str]) -> int:
    return freeze(context, service, thaw=False)


def freeze(context: Context, services: list[str], *, thaw: bool) -> int:
    """Freeze what runs, or let what is frozen go on. Raises ComposerError when there is no such container."""
    context.check_services(services)
    state = "paused" if thaw else "running"
    names = [
        row["name"]
        for row in context.record["containers"]
        if row["state"] == state and (not services or row["service"] in services) and not row["oneoff"]
    ]
    supervisor = Supervisor.connect(context.stack_paths) if names else None
    if supervisor is None:
        for row in context.record["containers"]:
            if services and row["service"] in services and row["state"] in ("running", "paused"):
                raise ComposerError(f"container {row['name']} is {'not' if thaw else 'already'} paused")
        raise ComposerError(f"no container is {state}", hint="`composer ps -a` shows what there is")
    subjects = [f"Container {name}" for name in names]
    if context.dry_run:
        return wish.announce(subjects, "Unpaused" if thaw else "Paused")
    with supervisor, wish.progress(context) as heard:
        supervisor.call("pause", containers=names, thaw=thaw)
        for subject in subjects:
            heard(wish.done(subject, "Unpaused" if thaw else "Paused"))
    return 0
