"""`composer rm`: remove containers that have ended."""

from __future__ import annotations

import sys

from composer.cli import common, wish
from composer.cli.context import Context
from composer.cli.grammar import Flag, Verb

VERB = Verb(
    "rm",
    "Remove stopped containers",
    (
        Flag("force", "bool", "Do not ask", "f"),
        Flag("stop", "bool", "Stop them first", "s"),
        Flag("volumes", "bool", "Also their anonymous volumes", "v"),
    ),
    (common.SERVICES,),
    examples=(("rm -fsv web", "stop and remove it, with its anonymous volumes"),),
)
ALIVE = ("running", "paused")


def run(context: Context, *, force: bool, stop: bool, volumes: bool, service: list[str]) -> int:
    context.check_services(service)
    if stop:
        wish.carry_out(
            context,
            {"goal": "stop", "services": service},
            title="Stopping",
            start=False,
            dry_run=context.dry_run,
        )
        context.again()
    going = [
        row["name"]
        for row in context.record["containers"]
        if (not service or row["service"] in service)
        and not row["oneoff"]
        and (row["state"] not in ALIVE or (stop and context.dry_run))
    ]
    if not going:
        print("No stopped containers", file=sys.stderr)
        return 0
    if not (force or context.dry_run or agreed(going)):
        return 1
    options = {"goal": "rm", "services": service, "volumes": volumes}
    return wish.carry_out(context, options, title="Removing", dry_run=context.dry_run)


def agreed(names: list[str]) -> bool:
    """Ask on the terminal; without one, the answer is yes, as for Docker Compose."""
    print(f"Going to remove {', '.join(names)}", file=sys.stderr)
    if not sys.stdin.isatty():
        return True
    print("Are you sure? [yN] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
