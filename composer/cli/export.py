"""`composer export`: everything in a container's root as a tar archive."""

from __future__ import annotations

from composer.api.roots import ids_of, own_files
from composer.api.select import container
from composer.cli import common
from composer.cli.archives import written
from composer.cli.context import Context
from composer.cli.grammar import Flag, Verb
from composer.cli.tarstream import pack

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
    with own_files(context, row) as (roots, elsewhere):
        ids = ids_of(row)
        parts = {f".{target}": root for target, root in roots.items()}
        without = {f".{path}" for path in elsewhere}
        with written(output) as file:
            pack(parts, file, without=without, ids=ids)
    return 0
