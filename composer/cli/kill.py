"""`composer kill`."""

from __future__ import annotations

from composer.api.client import Supervisor
from composer.api.signals import number
from composer.cli import common
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
    supervisor = Supervisor.connect(context.stack_paths)
    if supervisor is None:
        return 0
    services = service or context.project.services
    names = [
        row["name"]
        for row in context.record["containers"]
        if row["state"] in ("running", "paused")
        and (
            row["service"] in services or (remove_orphans and row["service"] not in context.project.services)
        )
    ]
    with supervisor:
        supervisor.call("signal", containers=names, signo=wanted)
    return 0
