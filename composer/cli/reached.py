"""`composer reached`: what containers reached for outside of their stack."""

from __future__ import annotations

import json

from composer.api.client import Supervisor
from composer.cli.context import Context
from composer.cli.grammar import Flag, Verb
from composer.cli.render.table import table
from composer.errors import ComposerError

VERB = Verb(
    "reached",
    "Show names and addresses outside of the stack that containers reached for",
    (Flag("format", "str", "table, or json", default="table", choices=("table", "json")),),
    examples=(("reached", "since the stack is up: what a test without a network would miss"),),
)


def run(context: Context, *, format: str) -> int:
    supervisor = Supervisor.connect(context.stack_paths)
    if supervisor is None:
        raise ComposerError(
            f"nothing of stack {context.stack_name} runs", hint="`composer up -d` brings it up"
        )
    with supervisor:
        told = supervisor.call("reached")
    if format == "json":
        print(json.dumps({kind: told[kind] for kind in ("names", "addresses")}))
        return 0
    rows = [(one[0], one[1], one[2] if len(one) > 2 else "") for one in (*told["names"], *told["addresses"])]
    print(table(("CONTAINER", "REACHED FOR", "PORT"), rows))
    return 0
