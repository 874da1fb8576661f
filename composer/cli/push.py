"""`composer push`: the images of services, to their registries."""

from __future__ import annotations

from functools import partial
from typing import Any

from composer.cli import common, wish
from composer.cli.context import Context
from composer.cli.grammar import Flag, Verb
from composer.cli.remote import Job, carry_out, check_online
from composer.cli.services import selected
from composer.images.store import Store

VERB = Verb(
    "push",
    "Push images of services",
    (
        Flag("ignore-push-failures", "bool", "Go on, and end well, when an image cannot be pushed"),
        Flag("include-deps", "bool", "Also images of services that these depend on"),
        Flag("quiet", "bool", "Show no progress", "q"),
    ),
    (common.SERVICES,),
)


def run(
    context: Context, *, ignore_push_failures: bool, include_deps: bool, quiet: bool, service: list[str]
) -> int:
    context.check_services(service)
    store = Store(context.paths)
    services = context.project.stack_data["services"]
    references = {
        reference: None
        for name in selected(services, service, include_deps)
        if services[name].get("build") and (reference := services[name].get("image", ""))
    }
    jobs = [
        Job(f"Image {reference}", "Pushing", "Pushed", partial(send, store, reference), ignore_push_failures)
        for reference in references
    ]
    check_online(context)
    if context.dry_run:
        return wish.announce([job.subject for job in jobs], "Pushing")
    carry_out(context, jobs, title="Pushing", quiet=quiet)
    return 0


async def send(store: Store, reference: str, report: Any) -> None:
    await store.push(reference, progress=report)
