"""`composer pull`: the images of services, from their registries."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import partial
from typing import Any

from composer.cli import common, wish
from composer.cli.context import Context
from composer.cli.grammar import Flag, Verb
from composer.cli.remote import Job, carry_out
from composer.errors import UsageError
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


def check_online(context: Context) -> None:
    """Raises UsageError with --offline."""
    if context.options.get("offline"):
        raise UsageError("--offline and a registry exclude each other")


def selected(services: dict[str, Any], wanted: Iterable[str], dependencies: bool) -> list[str]:
    """The named services, or all; with what they depend on if asked for. In the order of the files."""
    chosen = set(wanted) or set(services)
    more = list(chosen) if dependencies else []
    while more:
        for name in services[more.pop()].get("depends_on", {}):
            if name in services and name not in chosen:
                chosen.add(name)
                more.append(name)
    return [name for name in services if name in chosen]
