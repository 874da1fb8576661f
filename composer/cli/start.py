"""`composer start`."""

from __future__ import annotations

from composer.cli import common, wish
from composer.cli.context import Context
from composer.cli.grammar import Flag, Verb

VERB = Verb(
    "start",
    "Start stopped containers",
    (
        Flag("boot", "bool", "Only what its restart policy brings back after a reboot", hidden=True),
        Flag("wait", "bool", "Wait until they are running and healthy"),
        Flag("wait-timeout", "int", "Seconds to wait at most", metavar="SECONDS"),
    ),
    (common.SERVICES,),
)


def run(context: Context, *, boot: bool, wait: bool, wait_timeout: int | None, service: list[str]) -> int:
    if boot:
        # The machine has just started: as the stack was when it went down, whatever the files say now.
        return wish.carry_out(context, {"goal": "boot"}, files=False)
    context.check_services(service)
    options = {"goal": "start", "services": service}
    return wish.carry_out(context, options, wait=wait, wait_timeout=wait_timeout, dry_run=context.dry_run)
