"""`composer events`: what happened to containers, from the events file, and what happens, as it does."""

from __future__ import annotations

import time

from composer.api.client import Supervisor
from composer.api.events import SECOND, Event, chosen, coming, kept, listen
from composer.api.times import moment
from composer.cli import common
from composer.cli.context import Context
from composer.cli.grammar import Flag, Verb
from composer.cli.render.listing import compact

VERB = Verb(
    "events",
    "Show what happens to containers",
    (
        Flag("json", "bool", "A JSON object a line"),
        Flag(
            "since", "str", "Also what happened since this time: 10m, or 2026-01-31T13:00:00Z", metavar="TIME"
        ),
        Flag("until", "str", "Up to this time, which may be to come", metavar="TIME"),
    ),
    (common.SERVICES,),
    examples=(
        ("events --json | jq .action", "for programs"),
        ("events --since 1h --until 0s", "the last hour, and no more"),
    ),
)


def run(context: Context, *, json: bool, since: str, until: str, service: list[str]) -> int:
    if service:
        context.check_services(service)
    begin, end = moment(since, "--since"), moment(until, "--until")
    seen = 0
    supervisor = Supervisor.connect(context.stack_paths) if end is None or end > time.time_ns() else None
    number = listen(supervisor) if supervisor else 0
    if begin is not None:
        for event in chosen(kept(context.stack_paths.events), service, begin, end):
            seen = event["time"]
            show(event, json)
    if supervisor:
        with supervisor:
            for event in chosen(coming(supervisor, number, end), service, seen + 1, end):
                show(event, json)
    return 0


def show(event: Event, as_json: bool) -> None:
    print(compact(told(event)) if as_json else line(event), flush=True)


def told(event: Event) -> Event:
    """The keys of Docker Compose's `events --json`."""
    return {
        "action": event["action"],
        "attributes": {"name": event["container"], **event["attributes"]},
        "id": event["id"],
        "service": event["service"],
        "time": rfc3339(event["time"]),
        "type": event["type"],
    }


def line(event: Event) -> str:
    """`2026-01-31 13:00:00.123456 container start 0123… (image=…, name=…)`."""
    whole, rest = divmod(event["time"], SECOND)
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(whole))
    more = ", ".join(f"{key}={value}" for key, value in sorted(told(event)["attributes"].items()))
    return f"{when}.{rest // 1000:06} {event['type']} {event['action']} {event['id']} ({more})"


def rfc3339(ns: int) -> str:
    whole, rest = divmod(ns, SECOND)
    zone = time.strftime("%z", time.localtime(whole))
    offset = "Z" if zone in ("+0000", "") else f"{zone[:3]}:{zone[3:]}"
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.localtime(whole))}.{rest:09}{offset}"
