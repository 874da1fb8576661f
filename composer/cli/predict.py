"""What a wish would do, worked out from the files and the record by the very function that acts.

A running supervisor is asked; without one the plan is made here, and nothing is started for it.
"""

from __future__ import annotations

from typing import Any

from composer.api.client import Supervisor
from composer.api.wish import with_stack
from composer.cli.context import Context

Prediction = tuple[str, str, str]
"""Subject, what would be done, and why."""


def predict(context: Context, options: dict[str, Any]) -> list[Prediction]:
    """The actions, in an order in which they could be done."""
    supervisor = Supervisor.connect(context.stack_paths)
    if supervisor is None:
        return offline(context, options)
    with supervisor:
        answer = with_stack(context, supervisor, "predict", None, options=options)
    return [(subject, action, because) for subject, action, because in answer["actions"]]


def offline(context: Context, options: dict[str, Any]) -> list[Prediction]:
    from composer.supervisor.forecast import forecast

    return forecast(context.paths, context.project.stack, context.record, options)
