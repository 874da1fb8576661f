"""`composer create`: everything but the start."""

from __future__ import annotations

from typing import Any

from composer.cli import common, up
from composer.cli.context import Context
from composer.cli.grammar import Verb

NAMES = (
    "build", "force-recreate", "locked", "no-build", "no-recreate", "pull", "quiet-build", "quiet-pull",
    "remove-orphans", "scale", "yes",
)  # fmt: skip

VERB = Verb(
    "create",
    "Create containers without starting them",
    tuple(flag for flag in up.VERB.flags if flag.name in NAMES),
    (common.SERVICES,),
)


def run(context: Context, *, service: list[str], **flags: Any) -> int:
    every = {flag.key: flag.initial for flag in up.VERB.flags}
    return up.run(context, service=service, **{**every, **flags, "no_start": True})
