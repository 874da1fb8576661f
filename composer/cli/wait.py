"""`composer wait`: until the first container has ended; its exit code is this command's."""

from __future__ import annotations

from composer.api.client import Supervisor
from composer.cli import down
from composer.cli.context import Context
from composer.cli.grammar import Flag, Positional, Verb
from composer.errors import ComposerError

VERB = Verb(
    "wait",
    "Wait until the first of these containers has ended, and end with its exit code",
    (Flag("down-project", "bool", "Take the stack down then"),),
    (Positional("SERVICE", "The services", many=True, complete="service"),),
    examples=(("wait migrate", "its exit code"), ("wait --down-project tests", "and then all goes")),
)


def run(context: Context, *, down_project: bool, service: list[str]) -> int:
    context.check_services(service)
    names = [row["name"] for row in context.record["containers"] if row["service"] in service]
    if not names:
        raise ComposerError(f"no containers for {', '.join(service)}", hint="`composer up -d` makes them")
    name, code = first_exit(context, names)
    print(f'container "{name}" exited with status code {code}')
    if down_project:
        options = {flag.key: flag.initial for flag in down.VERB.flags}
        down.run(context, service=[], **{**options, "remove_orphans": True})
    return code


def first_exit(context: Context, names: list[str]) -> tuple[str, int]:
    """Of the first that ends; when nothing of the stack runs, from the record."""
    supervisor = Supervisor.connect(context.stack_paths)
    if supervisor is not None:
        with supervisor:
            answer = supervisor.call("wait", containers=names)
            return answer["container"], answer["exit"]
    rows = context.record["containers"]
    return next((row["name"], row["exit_code"]) for row in rows if row["name"] in names)
