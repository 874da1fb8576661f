"""`composer export`: everything in a container's root as a tar archive."""

from __future__ import annotations

import os
import sys

from composer.cli import common
from composer.cli.context import Context
from composer.cli.grammar import Flag, Verb
from composer.cli.roots import own_files
from composer.cli.select import container
from composer.cli.tarstream import pack
from composer.errors import ComposerError, UsageError

VERB = Verb(
    "export",
    "Write a container's files to an archive",
    (common.INDEX, Flag("output", "str", "To a file instead of standard output", "o", metavar="FILE")),
    (common.SERVICE,),
    examples=(
        ("export web -o web.tar", "to a file"),
        ("export web | ssh host tar x -C /srv/web", "elsewhere"),
    ),
)


def run(context: Context, *, index: int | None, output: str, service: str) -> int:
    row = container(context, service, index, running=False)
    if not output and sys.stdout.isatty():
        raise UsageError("an archive is nothing for a terminal", hint="say `-o FILE`, or pipe it on")
    with own_files(context, row) as (roots, elsewhere):
        parts = {f".{target}": root for target, root in roots.items()}
        without = {f".{path}" for path in elsewhere}
        if not output:
            pack(parts, sys.stdout.buffer, without=without)
            return 0
        partial = f"{output}.partial"
        try:
            with open(partial, "xb") as file:
                pack(parts, file, without=without)
            os.replace(partial, output)
        except OSError as error:
            raise ComposerError(f"{output}: {error.strerror}") from error
        finally:
            if os.path.exists(partial):
                os.unlink(partial)
    return 0
