"""`composer ui`: the stack on the whole screen."""

from __future__ import annotations

from composer.cli.context import Context
from composer.cli.grammar import Verb
from composer.cli.terminal import is_terminal
from composer.errors import UsageError

VERB = Verb("ui", "Show the stack on the whole screen, live, with keys", examples=(("ui", "q ends it"),))


def run(context: Context) -> int:
    if not is_terminal():
        raise UsageError("`ui` needs a terminal", hint="`ps`, `stats`, `logs` and `events` do without")
    context.stack_name  # noqa: B018 - what is wrong with the files is told before the screen is taken
    from composer.cli.board.app import Board

    app = Board(context)
    app.run()
    return app.return_code or 0
