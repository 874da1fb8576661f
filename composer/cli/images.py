"""`composer images`: the images that a stack's containers were made of."""

from __future__ import annotations

from typing import Any

from composer.cli import common
from composer.cli.context import Context
from composer.cli.grammar import Flag, Verb
from composer.cli.render import words
from composer.cli.render.listing import Columns, listing, show
from composer.cli.render.sizes import decimal
from composer.images.image import Summary
from composer.images.store import Store
from composer.record import ContainerRow

VERB = Verb(
    "images",
    "List images of containers",
    (
        common.FORMAT,
        Flag("quiet", "bool", "Only ids", "q"),
    ),
    (common.SERVICES,),
)
COLUMNS: Columns = {
    "CONTAINER": "ContainerName",
    "REPOSITORY": "Repository",
    "TAG": "Tag",
    "PLATFORM": "Platform",
    "IMAGE ID": lambda row: row["ID"].removeprefix("sha256:")[:12],
    "SIZE": lambda row: decimal(row["Size"]),
    "CREATED": lambda row: words.since(row["Created"]),
}


def run(context: Context, *, format: str, quiet: bool, service: list[str]) -> int:
    rows = [
        row
        for row in sorted(context.record["containers"], key=lambda r: r["name"])
        if not service or row["service"] in service
    ]
    if quiet:
        show("\n".join(dict.fromkeys(row["image_id"].removeprefix("sha256:") for row in rows)))
        return 0
    known = {summary.id: summary for summary in Store(context.paths).summaries()}
    show(listing([as_json(row, known.get(row["image_id"])) for row in rows], COLUMNS, format, array=True))
    return 0


def as_json(row: ContainerRow, summary: Summary | None) -> dict[str, Any]:
    """The keys of Docker Compose's `images --format json`."""
    name, tag = split(row["image"])
    return {
        "ID": row["image_id"],
        "ContainerName": row["name"],
        "Repository": name,
        "Tag": tag,
        "Platform": summary.platform if summary else "",
        "Size": summary.size if summary else 0,
        "Created": summary.created if summary else "",
        "LastTagTime": "",
    }


def split(reference: str) -> tuple[str, str]:
    """`alpine:3.20` is (alpine, 3.20); a digest is no tag."""
    name = reference.partition("@")[0]
    head, colon, tag = name.rpartition(":")
    return (head, tag) if colon and "/" not in tag else (name, "latest" if "@" not in reference else "<none>")
