"""`composer doctor`: whether this host has what containers need, and what to do where it has not."""

from __future__ import annotations

import json

from composer.cli.checks import CHECKS, Check
from composer.cli.context import Context
from composer.cli.grammar import Flag, Verb
from composer.cli.render.table import pad, width

VERB = Verb(
    "doctor",
    "Check that this host has what containers need",
    (Flag("format", "str", "text or json", default="text", choices=("text", "json")),),
    examples=(("doctor", "ends with 1 when something is missing"),),
)
MARKS = {"good": ("✔", "\x1b[32m"), "warning": ("!", "\x1b[33m"), "bad": ("✘", "\x1b[31m")}


def run(context: Context, *, format: str) -> int:
    from composer.cli.reach import reach

    found = [result for check in (*CHECKS, reach) for result in check(context.paths)]
    if format == "json":
        print(json.dumps([result._asdict() for result in found], indent=2))
    else:
        size = max(width(result.title) for result in found)
        for result in found:
            print(line(result, size, context.colour))
    return 1 if any(result.state == "bad" for result in found) else 0


def line(result: Check, size: int, colour: bool) -> str:
    mark, code = MARKS[result.state]
    mark = f"{code}{mark}\x1b[0m" if colour else mark
    remedy = f"\n   {' ' * size}  → {result.remedy}" if result.remedy else ""
    return f" {mark} {pad(result.title, size)}  {result.text}{remedy}"
