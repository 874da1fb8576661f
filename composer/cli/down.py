"""`composer down`: stop and remove everything of a stack."""

from __future__ import annotations

import sys

from composer.api.times import nanoseconds
from composer.api.wish import keeps_volumes, leave
from composer.cli import common, wish
from composer.cli.context import Context
from composer.cli.grammar import Flag, Verb
from composer.record import read_record

VERB = Verb(
    "down",
    "Stop and remove containers and networks",
    (
        Flag("remove-orphans", "bool", "Also containers of services that are no longer in the file"),
        Flag(
            "rmi",
            "str",
            "Also images; local are those built here without a name of their own",
            choices=("local", "all", ""),
        ),
        common.TIMEOUT,
        Flag("volumes", "bool", "Also named volumes of the file and anonymous volumes", "v"),
    ),
    (common.SERVICES,),
    examples=(("down", "volumes stay"), ("down -v", "everything goes")),
)


def run(
    context: Context, *, remove_orphans: bool, rmi: str, timeout: str, volumes: bool, service: list[str]
) -> int:
    if not context.exists() and not (volumes and keeps_volumes(context)):
        if not context.dry_run:
            leave(context)  # an earlier `down` may have been cut short
        print(f"nothing of stack {context.stack_name} is here", file=sys.stderr)
        return 0
    files = readable(context)
    if files:
        context.check_identity()
        context.check_services(service)
    options = {
        "goal": "down",
        "services": service,
        "remove_orphans": context.removes_orphans(remove_orphans) or not files,
        "images": rmi,
        "timeout": nanoseconds(timeout, "--timeout"),
        "volumes": volumes,
    }
    code = wish.carry_out(context, options, files=files, dry_run=context.dry_run)
    if files and not service and not context.dry_run:
        tell_left(context)
    if not service and not context.dry_run and not read_record(context.stack_paths)["containers"]:
        leave(context)
    return code


def tell_left(context: Context) -> None:
    """Which containers stay though everything was to go, and what takes them, too."""
    from composer.cli.render.complaint import show_remedy

    project, rows = context.project, context.again()["containers"]
    inactive = set(project.stack_data.get("inactive", ()))
    waiting = [row["name"] for row in rows if row["service"] in inactive]
    orphans = [row["name"] for row in rows if row["service"] not in {*inactive, *project.services}]
    if waiting:
        print(f"note: {', '.join(waiting)}: left, as no active profile has it", file=sys.stderr)
        show_remedy("`composer --profile '*' down` takes all profiles")
    if orphans and not context.says_yes("COMPOSE_IGNORE_ORPHANS"):
        print(f"note: {', '.join(orphans)}: left, as no file has its service", file=sys.stderr)
        show_remedy("`composer down --remove-orphans` takes it, too")


def readable(context: Context) -> bool:
    """Whether this command speaks about the files at hand, or (with -p elsewhere) about what is recorded."""
    from composer.errors import StackFileError

    if not context.options.get("project_name"):
        return bool(context.project)
    try:
        return bool(context.project)
    except StackFileError:
        return False
