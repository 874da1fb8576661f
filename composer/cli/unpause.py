"""`composer unpause`."""

from __future__ import annotations

from composer.cli import common
from composer.cli.context import Context
from composer.cli.grammar import Verb
from composer.cli.pause import freeze

VERB = Verb("unpause", "Let frozen containers go on", (), (common.SERVICES,))


def run(context: Context, *, service: list[str]) -> int:
    return freeze(context, service, thaw=True)
