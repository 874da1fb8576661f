"""`composer restart`."""

from __future__ import annotations

from composer.api.times import nanoseconds
from composer.cli import common, wish
from composer.cli.context import Context
from composer.cli.grammar import Flag, Verb

VERB = Verb(
    "restart",
    "Restart containers",
    (Flag("no-deps", "bool", "Leave services that depend on these alone"), common.TIMEOUT),
    (common.SERVICES,),
)


def run(context: Context, *, no_deps: bool, timeout: str, service: list[str]) -> int:
    context.check_services(service)
    options = {
        "goal": "restart",
        "services": service,
        "no_deps": no_deps,
        "timeout": nanoseconds(timeout, "--timeout"),
    }
    return wish.carry_out(context, options, title="Restarting", dry_run=context.dry_run)
