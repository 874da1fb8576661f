"""`composer run`: a command in a new container of a service."""

from __future__ import annotations

import os
import sys
from typing import Any

from composer.api.client import Supervisor
from composer.api.wish import with_stack
from composer.cli import common, terminal, wish
from composer.cli.context import Context
from composer.cli.exec import plainly
from composer.cli.grammar import Flag, Positional, Verb

VERB = Verb(
    "run",
    "Run a command in a new container of a service",
    (
        Flag("build", "bool", "Build the image first"),
        Flag("cap-add", "list", "Add a capability (repeatable)", metavar="CAP"),
        Flag("cap-drop", "list", "Take a capability away (repeatable)", metavar="CAP"),
        Flag("detach", "bool", "Do not wait for the command; print the container's name", "d"),
        Flag("entrypoint", "str", "Instead of the image's entrypoint", default=None),
        Flag("env", "list", "Set a variable (repeatable)", "e", metavar="NAME=VALUE"),
        Flag("env-from-file", "list", "Set variables from a file (repeatable)", metavar="FILE"),
        Flag("interactive", "bool", "Pass standard input on", "i", default=True),
        Flag("label", "list", "Add a label (repeatable)", "l", metavar="KEY=VALUE"),
        common.LOCKED,
        Flag("name", "str", "The container's name"),
        Flag("no-deps", "bool", "Do not start what the service depends on"),
        Flag("no-tty", "bool", "No terminal, also when this is one", "T"),
        Flag("publish", "list", "Publish a port (repeatable)", "p", metavar="[HOST:]PORT"),
        Flag("pull", "str", "When to pull images", choices=("always", "missing", "never", "policy", "")),
        Flag("quiet", "bool", "Show no progress", "q"),
        Flag("quiet-build", "bool", "Do not show the build"),
        Flag("quiet-pull", "bool", "Do not show the pull"),
        Flag("remove-orphans", "bool", "Remove containers of services that are no longer in the file"),
        Flag("rm", "bool", "Remove the container when it has ended"),
        Flag("service-ports", "bool", "Publish the ports of the service", "P"),
        Flag("tty", "bool", "Accepted: a terminal is used when this is one", "t", hidden=True),
        Flag("use-aliases", "bool", "Answer to the service's names on its networks"),
        Flag("user", "str", "Run as this user", "u"),
        Flag("volume", "list", "Mount a folder or volume (repeatable)", "v", metavar="SOURCE:TARGET"),
        Flag("workdir", "str", "Run in this folder", "w", metavar="DIR"),
    ),
    (common.SERVICE, Positional("COMMAND", "What to run, with its arguments", many=True, required=False)),
    passthrough=True,
    examples=(
        ("run --rm web python manage.py migrate", "and leave nothing behind"),
        ("run --rm -v ./dump:/dump db pg_restore /dump/all", "with a folder of this host"),
    ),
)


def run(context: Context, *, service: str, command: list[str], **flags: Any) -> int:
    context.check_identity()
    context.check_services([service])
    overrides = {"fields": overridden(context, service, command, flags), "name": flags["name"]}
    if context.dry_run:
        return wish.announce([f"Container {context.stack_name}-{service}-run"], "Starting")
    if flags["locked"]:
        from composer.cli.lock import hold_for_up

        hold_for_up(context, [service], flags["pull"], dependencies=not flags["no_deps"])
        flags["pull"] = "missing"
    if not flags["no_deps"]:
        start_dependencies(context, service, flags)
    with Supervisor.start(context.stack_paths) as supervisor:
        made = make(context, supervisor, service, flags, overrides)
        return begin(context, supervisor, made, flags, tty=bool(overrides["fields"]["tty"]))


def overridden(context: Context, service: str, command: list[str], flags: dict[str, Any]) -> dict[str, Any]:
    """What this container has instead of what its service says."""
    from composer.cli import overrides

    data = context.project.stack_data
    own = data["services"][service]
    given = {**flags, "env_from_file": file_variables(context, flags["env_from_file"])}
    given["entrypoint"] = flags["entrypoint"] or None
    fields = overrides.fields(own, given, command, context.environment)
    fields["tty"] = not flags["no_tty"] and not flags["detach"] and terminal.is_terminal()
    fields["stdin_open"] = flags["interactive"] and not flags["detach"]
    return fields


def file_variables(context: Context, files: list[str]) -> dict[str, str | None]:
    """Raises ComposerError for a file that cannot be read."""
    if not files:
        return {}
    from pathlib import Path

    from composer.errors import ComposerError
    from composer.model.dotenv import parse

    found: dict[str, str | None] = {}
    for file in files:
        try:
            text = Path(file).read_text()
        except OSError as error:
            raise ComposerError(f"--env-from-file: {file}: {error.strerror}") from error
        found |= parse(text, context.environment.get, file)
    return found


def start_dependencies(context: Context, service: str, flags: dict[str, Any]) -> None:
    wanted = list(context.project.stack_data["services"][service].get("depends_on", {}))
    wanted = [name for name in wanted if name in context.project.services]
    orphans = context.removes_orphans(flags["remove_orphans"])
    if not wanted and not orphans:
        return
    options = {"goal": "up", "services": wanted, "remove_orphans": orphans}
    options["pull"] = "" if flags["pull"] == "policy" else flags["pull"]
    wish.carry_out(context, options, quiet=flags["quiet"], untold=wish.untold(flags))


def make(
    context: Context, supervisor: Supervisor, service: str, flags: dict[str, Any], overrides: dict[str, Any]
) -> str:
    """Create the container; its name."""
    with wish.progress(context, quiet=flags["quiet"], untold=wish.untold(flags)) as heard:
        made = with_stack(
            context,
            supervisor,
            "run",
            heard,
            service=service,
            overrides=overrides,
            pull="" if flags["pull"] == "policy" else flags["pull"],
            build=flags["build"],
            no_deps=flags["no_deps"],
            remove=flags["rm"],
        )
    return str(made["container"])


def begin(context: Context, supervisor: Supervisor, name: str, flags: dict[str, Any], *, tty: bool) -> int:
    """Start it; its exit code."""
    if flags["detach"]:
        supervisor.call("begin", container=name, detach=True)
        print(name)
        return 0
    if not tty:
        sys.stdout.flush()
        stdin = 0 if flags["interactive"] else os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        streams = {"stdin": stdin, "stdout": 1, "stderr": 2}
        return plainly(supervisor, supervisor.send("begin", streams, container=name))
    from composer.cli.attach import on_terminal
    from composer.cli.joined import RawLog

    log = RawLog(context.stack_paths.log(name), tty=True)
    return on_terminal(supervisor, supervisor.send("begin", container=name), log)
