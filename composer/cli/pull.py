"""`composer pull`: the images of services, from their registries."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from composer.cli import common, wish
from composer.cli.context import Context
from composer.cli.grammar import Flag, Verb
from composer.cli.remote import Job, carry_out, check_online
from composer.cli.services import selected
from composer.images.builtin import NAMES
from composer.images.store import Store

VERB = Verb(
    "pull",
    "Pull images of services",
    (
        Flag("ignore-buildable", "bool", "Leave out images that can be built"),
        Flag("ignore-pull-failures", "bool", "Go on, and end well, when an image cannot be pulled"),
        Flag("include-deps", "bool", "Also images of services that these depend on"),
        Flag("locked", "bool", "What the lock file says, whatever a tag means by now"),
        Flag("policy", "str", "Pull only what is missing, or always", choices=("missing", "always", "")),
        Flag("quiet", "bool", "Show no progress", "q"),
    ),
    (common.SERVICES,),
    examples=(
        ("pull --policy missing", "what is not here"),
        ("pull --locked", "what the lock file holds to"),
    ),
)


def run(
    context: Context,
    *,
    ignore_buildable: bool,
    ignore_pull_failures: bool,
    include_deps: bool,
    locked: bool,
    policy: str,
    quiet: bool,
    service: list[str],
) -> int:
    context.check_services(service)
    if locked:
        from composer.cli.lock import hold

        hold(context, selected(context.project.stack_data["services"], service, include_deps), quiet=quiet)
        return 0
    store = Store(context.paths)
    services = context.project.stack_data["services"]
    jobs: dict[str, Job] = {}
    for name in selected(services, service, include_deps):
        data = services[name]
        reference = data.get("image", "")
        buildable = bool(data.get("build"))
        if not reference or reference in NAMES or (buildable and ignore_buildable):
            continue
        if policy == "missing" and store.entry(reference) is not None:
            continue
        work = partial(fetch, store, reference, data.get("platform", ""))
        optional = ignore_pull_failures or buildable
        jobs.setdefault(reference, Job(f"Image {reference}", "Pulling", "Pulled", work, optional))
    check_online(context)
    if context.dry_run:
        return wish.announce([job.subject for job in jobs.values()], "Pulling")
    carry_out(context, list(jobs.values()), title="Pulling", quiet=quiet)
    if not jobs and not quiet:
        print("nothing to pull", file=sys.stderr)
    return 0


async def fetch(store: Store, reference: str, platform: str, report: Any) -> None:
    await store.pull(reference, platform=platform or None, progress=report)
