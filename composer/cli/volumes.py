"""`composer volumes`: the named volumes of a stack."""

from __future__ import annotations

from composer.cli import common
from composer.cli.context import Context
from composer.cli.grammar import Flag, Verb
from composer.cli.render.listing import listing, show
from composer.cli.volume import COLUMNS, as_json, volumes_of
from composer.volumes.store import VolumeStore

VERB = Verb(
    "volumes",
    "List volumes of the stack",
    (
        common.FORMAT,
        Flag("quiet", "bool", "Only names", "q"),
    ),
    (common.SERVICES,),
)


def run(context: Context, *, format: str, quiet: bool, service: list[str]) -> int:
    used = {
        name
        for row in context.record["containers"]
        if not service or row["service"] in service
        for name in volumes_of(context, row)
    }
    store = VolumeStore(context.paths)
    records = [
        record
        for record in store.list()
        if not record.anonymous
        and (record.name in used or (not service and record.owner == context.stack_name))
    ]
    if quiet:
        show("\n".join(record.name for record in records))
    else:
        show(listing([as_json(store, record) for record in records], COLUMNS, format))
    return 0
