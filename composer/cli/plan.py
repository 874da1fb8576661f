"""`composer plan`: what `up` would do, each action with the field that made it so. Nothing is done."""

from __future__ import annotations

import json

from composer.cli import common
from composer.cli.context import Context
from composer.cli.grammar import Flag, Verb
from composer.cli.predict import predict
from composer.cli.up import options_of

VERB = Verb(
    "plan",
    "Show what `up` would do, and which field made it so",
    (
        Flag("force-recreate", "bool", "As for up"),
        Flag("format", "str", "text or json", default="text", choices=("text", "json")),
        Flag("no-deps", "bool", "As for up"),
        Flag("remove-orphans", "bool", "As for up"),
        Flag("scale", "list", "As for up", metavar="SERVICE=N"),
        Flag("detailed-exitcode", "bool", "End with 2 when there is something to do"),
    ),
    (common.SERVICES,),
    examples=(("plan", "before an up"), ("plan --detailed-exitcode", "in a script: 0 is nothing to do")),
)
OTHERS = (
    "no_start", "no_recreate", "always_recreate_deps", "renew_anon_volumes", "build", "no_build",
)  # fmt: skip


def run(
    context: Context,
    *,
    force_recreate: bool,
    format: str,
    no_deps: bool,
    remove_orphans: bool,
    scale: list[str],
    detailed_exitcode: bool,
    service: list[str],
) -> int:
    context.check_services(service)
    flags = {
        **dict.fromkeys(OTHERS, False),
        "force_recreate": force_recreate,
        "no_deps": no_deps,
        "remove_orphans": remove_orphans,
        "scale": scale,
        "pull": "",
        "timeout": "",
    }
    actions = predict(context, options_of(flags, service))
    if format == "json":
        print(json.dumps([{"subject": s, "action": a, "because": b} for s, a, b in actions], indent=2))
    elif actions:
        for subject, action, because in actions:
            print(f" {subject}  {action}: {because}")
        print(f"{len(actions)} thing{'s' if len(actions) != 1 else ''} to do")
    else:
        print("nothing to do")
    return 2 if detailed_exitcode and actions else 0
