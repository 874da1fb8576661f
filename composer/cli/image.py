"""`composer image …`: the images of this host."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from composer.cli import common
from composer.cli.context import Context
from composer.cli.grammar import Flag, Positional, Verb
from composer.cli.images import split
from composer.cli.render import words
from composer.cli.render.listing import Columns, listing, show
from composer.cli.render.sizes import decimal
from composer.cli.render.table import shorten
from composer.errors import ComposerError
from composer.images.image import Summary
from composer.images.store import Store
from composer.record import stacks

IMAGE = Positional("IMAGE", "A name or an id", complete="image")
IMAGES = Positional("IMAGE", "Names or ids", many=True, complete="image")
QUIET = Flag("quiet", "bool", "Only ids", "q")
FORCE = Flag("force", "bool", "Do not ask", "f")

VERBS = {
    "ls": Verb(
        "ls",
        "List images",
        (
            Flag("digests", "bool", "Also the digests by which registries know them"),
            Flag("filter", "list", "dangling=true|false, reference=…", "f", metavar="KEY=VALUE"),
            common.FORMAT,
            Flag("no-trunc", "bool", "Whole ids"),
            QUIET,
        ),
        (Positional("REPOSITORY[:TAG]", "Only this one", required=False, complete="image"),),
        examples=(("ls --format '{{.Repository}}:{{.Tag}}'", "names, a line each"),),
    ),
    "pull": Verb(
        "pull",
        "Pull images",
        (
            Flag("platform", "str", "For another platform, as linux/arm64"),
            Flag("quiet", "bool", "Show no progress", "q"),
        ),
        (Positional("IMAGE", "What to pull", many=True),),
    ),
    "push": Verb("push", "Push images", (Flag("quiet", "bool", "Show no progress", "q"),), (IMAGES,)),
    "tag": Verb("tag", "Give an image one more name", (), (IMAGE, Positional("NAME", "The new name"))),
    "rm": Verb(
        "rm",
        "Remove images",
        (Flag("force", "bool", "Also an id with several names; no error for one that is gone", "f"),),
        (IMAGES,),
    ),
    "inspect": Verb(
        "inspect", "Show everything about images", (Flag("format", "str", "A Go template", "f"),), (IMAGES,)
    ),
    "history": Verb(
        "history",
        "Show how an image was made",
        (Flag("no-trunc", "bool", "Whole lines"), common.FORMAT),
        (IMAGE,),
    ),
    "prune": Verb(
        "prune",
        "Remove images without a name",
        (
            Flag("all", "bool", "All images that no container uses", "a"),
            FORCE,
            Flag(
                "keep-size",
                "str",
                "Remove the longest unused until no more than this is left",
                metavar="SIZE",
            ),
        ),
    ),
}
COLUMNS: Columns = {
    "REPOSITORY": "Repository",
    "TAG": "Tag",
    "IMAGE ID": "ID",
    "CREATED": "CreatedSince",
    "SIZE": "Size",
}
DIGESTS: Columns = {
    "REPOSITORY": "Repository",
    "TAG": "Tag",
    "DIGEST": "Digest",
    **dict(list(COLUMNS.items())[2:]),
}


def used_images(context: Context) -> set[str]:
    """Ids of the images that containers are made of."""
    return {row["image_id"] for record in stacks(context.paths) for row in record["containers"]}


def run_ls(
    context: Context,
    *,
    digests: bool,
    filter: list[str],
    format: str,
    no_trunc: bool,
    quiet: bool,
    repository: str,
) -> int:
    chosen = common.filters(filter, {"dangling": common.TRUTHS, "reference": ()})
    rows = [
        row
        for summary in Store(context.paths).summaries()
        for row in as_json(summary, whole=no_trunc)
        if named(row, repository) and all(matches(row, *one) for one in chosen)
    ]
    if quiet:
        show("\n".join(dict.fromkeys(row["ID"] for row in rows)))
    else:
        show(listing(rows, DIGESTS if digests else COLUMNS, format))
    return 0


def as_json(summary: Summary, *, whole: bool) -> list[dict[str, Any]]:
    """A row per name, with the keys of Docker's `image ls --format json`."""
    digest = summary.digests[0].partition("@")[2] if summary.digests else "<none>"
    return [
        {
            "Containers": "N/A",
            "CreatedAt": summary.created,
            "CreatedSince": words.since(summary.created),
            "Digest": digest,
            "ID": summary.id if whole else summary.id.removeprefix("sha256:")[:12],
            "Platform": summary.platform,
            "Repository": name,
            "SharedSize": "N/A",
            "Size": decimal(summary.size),
            "Tag": tag,
            "UniqueSize": "N/A",
            "VirtualSize": decimal(summary.size),
        }
        for name, tag in (map(split, summary.names) if summary.names else [("<none>", "<none>")])
    ]


def named(row: dict[str, Any], wanted: str) -> bool:
    return not wanted or wanted in (row["Repository"], f"{row['Repository']}:{row['Tag']}")


def matches(row: dict[str, Any], key: str, value: str) -> bool:
    from fnmatch import fnmatchcase

    if key == "dangling":
        return bool(row["Repository"] == "<none>") == common.true(value)
    return any(fnmatchcase(name, value) for name in (row["Repository"], f"{row['Repository']}:{row['Tag']}"))


def run_pull(context: Context, *, platform: str, quiet: bool, image: list[str]) -> int:
    from composer.cli.pull import fetch
    from composer.cli.remote import Job, carry_out, check_online

    check_online(context)
    store = Store(context.paths)
    jobs = [
        Job(f"Image {name}", "Pulling", "Pulled", partial(fetch, store, name, platform)) for name in image
    ]
    carry_out(context, jobs, title="Pulling", quiet=quiet)
    return 0


def run_push(context: Context, *, quiet: bool, image: list[str]) -> int:
    from composer.cli.push import send
    from composer.cli.remote import Job, carry_out, check_online

    check_online(context)
    store = Store(context.paths)
    jobs = [Job(f"Image {name}", "Pushing", "Pushed", partial(send, store, name)) for name in image]
    carry_out(context, jobs, title="Pushing", quiet=quiet)
    return 0


def run_tag(context: Context, *, image: str, name: str) -> int:
    Store(context.paths).tag(image, name)
    return 0


def run_rm(context: Context, *, force: bool, image: list[str]) -> int:
    from composer.cli.volume import complain
    from composer.errors import NotFoundError

    store, used = Store(context.paths), used_images(context)
    failed: list[ComposerError] = []
    for name in image:
        try:
            show("\n".join(store.remove(name, force=force, in_use=used)))
        except ComposerError as error:
            if not (force and isinstance(error, NotFoundError)):
                failed.append(error)
    return complain(failed)


def run_inspect(context: Context, *, format: str, image: list[str]) -> int:
    store = Store(context.paths)
    rows = [store.inspect(name) for name in image]
    print(listing(rows, {}, format) if format else json.dumps(rows, indent=4))
    return 0


def run_history(context: Context, *, no_trunc: bool, format: str, image: str) -> int:
    store = Store(context.paths)
    steps = store.history(image)
    rows = [
        {
            "Comment": step.get("comment", ""),
            "CreatedAt": step.get("created", ""),
            "CreatedBy": (by := step.get("created_by", "")) and (by if no_trunc else shorten(by, 45)),
            "CreatedSince": words.since(step.get("created", "")),
            "ID": "<missing>" if number else store.get(image).id.removeprefix("sha256:")[:12],
            "Size": decimal(step["size"]),
        }
        for number, step in enumerate(steps)
    ]
    columns: Columns = {
        "IMAGE": "ID",
        "CREATED": "CreatedSince",
        "CREATED BY": "CreatedBy",
        "SIZE": "Size",
        "COMMENT": "Comment",
    }
    show(listing(rows, columns, format))
    return 0


def run_prune(context: Context, *, all: bool, force: bool, keep_size: str) -> int:
    from composer.cli.ask import sure

    keep = common.size(keep_size, "--keep-size") if keep_size else None
    what = "all images that no container uses" if all else "all images without a name"
    if not sure(f"This removes {what}.", force):
        return 1
    swept = Store(context.paths).prune(all_=all, keep_size=keep, in_use=used_images(context))
    if swept.deleted:
        print("Deleted Images:", *(f"deleted: {digest}" for digest in swept.deleted), "", sep="\n")
    print(f"Total reclaimed space: {decimal(swept.freed)}")
    return 0
