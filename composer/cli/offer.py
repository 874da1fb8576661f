"""`composer __complete -- WORDS`: asked by the shell; a line per offer, its help after a tab."""

from __future__ import annotations

from composer.cli.complete import offers
from composer.cli.context import Context
from composer.cli.grammar import Positional, Verb

VERB = Verb(
    "__complete",
    "Offer words to a shell",
    (),
    (Positional("WORD", "The words after `composer`; the last is incomplete", many=True, required=False),),
    passthrough=True,
)


def run(context: Context, *, word: list[str]) -> int:
    for name, text in offers(word):
        print(f"{name}\t{text.replace('`', '')}")
    return 0
