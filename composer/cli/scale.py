"""`composer scale`."""

from __future__ import annotations

from composer.cli import up, wish
from composer.cli.context import Context
from composer.cli.grammar import Flag, Positional, Verb

VERB = Verb(
    "scale",
    "Set the number of containers of services",
    (Flag("no-deps", "bool", "Leave the services that these depend on alone"),),
    (Positional("SERVICE=N", "How many containers of which service", many=True, complete="service="),),
    examples=(("scale web=3 worker=5", "three and five containers"),),
)


def run(context: Context, *, no_deps: bool, service: list[str]) -> int:
    wanted = up.scales(service, "scale")
    context.check_identity()
    context.check_services(list(wanted))
    options = {
        "goal": "up",
        "services": list(wanted),
        "scale": wanted,
        "no_deps": no_deps,
        "no_recreate": True,
    }
    return wish.carry_out(context, options, dry_run=context.dry_run)
