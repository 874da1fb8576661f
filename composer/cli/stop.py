"""`composer stop`."""

from __future__ import annotations

from composer.api.times import nanoseconds
from composer.cli import common, wish
from composer.cli.context import Context
from composer.cli.grammar import Verb

VERB = Verb("stop", "Stop containers; they can be started again", (common.TIMEOUT,), (common.SERVICES,))


def run(context: Context, *, timeout: str, service: list[str]) -> int:
    context.check_services(service)
    options = {"goal": "stop", "services": service, "timeout": nanoseconds(timeout, "--timeout")}
    return wish.carry_out(context, options, title="Stopping", start=False, dry_run=context.dry_run)
