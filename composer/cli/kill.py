"""`composer kill`."""

from __future__ import annotations

import sys

from composer.api.client import Supervisor
from composer.api.signals import number
from composer.cli import common, wish
from composer.cli.context import Context
from composer.cli.grammar import Flag, Verb

VERB = Verb(
    "kill",
    "Send a signal to containers at once",
    (
        Flag("signal", "str", "The signal", "s", default="SIGKILL"),
        Flag("remove-orphans", "bool", "Also containers of services that are no longer in the file"),
    ),
    (common.SERVICES,),
)


def run(context: Context, *, signal: str, remove_orphans: bool, service: list[str]) -> int:
    wanted = number(signal, "--signal")
    context.check_services(service)
    services = service or context.project.services
    names = [
        row["name"]
        for row in context.record["containers"]
        if row["state"] in ("running", "paused")
        and (
            row["service"] in services or (remove_orphans and row["service"] not in context.project.services)
        )
    ]
    supervisor = Supervisor.connect(context.stack_paths) if names else None
    if supervisor is None:
        print("no container to kill", file=sys.stderr)
        return 0
    with supervisor, wish.progress(context, "Killing") as heard:
        for name in names:
            heard(wish.done(f"Container {name}", "Killing", "working"))
        supervisor.call("signal", containers=names, signo=wanted)
        for name in names:
            heard(wish.done(f"Container {name}", "Killed"))
    return 0
