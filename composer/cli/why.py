"""`composer why [SERVICE...]`: why it is not up. The chain of conditions to its end, and what is known."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from composer.cli import common
from composer.cli.context import Context
from composer.cli.grammar import Flag, Verb
from composer.cli.render import words
from composer.record import ContainerRow

VERB = Verb(
    "why",
    "Say why a service is not up, and what to try",
    (Flag("lines", "int", "How many last lines of its output", "n", default=10, metavar="N"),),
    (common.SERVICES,),
    examples=(
        ("why", "all that is not up, each cause once"),
        ("why web", "down to the container that holds everything up"),
    ),
)
WAITS = {
    "service_started": "to be started",
    "service_healthy": "to be healthy",
    "service_completed_successfully": "to end with 0",
}
BOLD, DIM, RED, GREEN, YELLOW, PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"
MARKS = {"good": ("✔", GREEN), "waiting": ("…", YELLOW), "bad": ("✘", RED)}
ALIVE = ("running", "paused")


class Finding(NamedTuple):
    """What is the matter with a service: a sentence, what to look at, what to try."""

    state: str
    text: str
    details: tuple[str, ...] = ()
    tries: tuple[str, ...] = ()
    row: ContainerRow | None = None


class Link(NamedTuple):
    """A place in the chain: a service, by which condition the one before waits for it, what is found."""

    depth: int
    service: str
    condition: str
    finding: Finding


def run(context: Context, *, lines: int, service: list[str]) -> int:
    context.check_services(service)
    services, rows = context.project.stack_data["services"], context.record["containers"]
    chains = [list(chase(services, rows, name)) for name in service or context.project.services]
    if not service:
        chains = roots(chains)
        if not chains:
            print("all services are up")
    paint = painter(context.colour)
    return max((tell(context, chain, lines, paint) for chain in chains), default=0)


def roots(chains: Sequence[list[Link]]) -> list[list[Link]]:
    """Those that end badly, each end once, by its longest way. Pure."""
    found: dict[str, list[Link]] = {}
    for chain in sorted(chains, key=len):
        if chain[-1].finding.state != "good":
            found[chain[-1].service] = chain
    return list(found.values())


def tell(context: Context, chain: Sequence[Link], lines: int, paint: Any) -> int:
    """Print it, and what is known at its end; 1 when that is bad."""
    for link in chain:
        print(line(link, paint))
        for text in link.finding.details:
            print(f"{'   ' * link.depth}     {paint(DIM, text)}")
    culprit = chain[-1]
    if culprit.finding.state == "good":
        return 0
    sys.stdout.flush()
    output(context, culprit.finding.row, lines, paint)
    for text in culprit.finding.tries:
        print(f"{paint(BOLD, 'try:')} {text}")
    return 1


def painter(colour: bool) -> Any:
    return (lambda code, text: f"{code}{text}{PLAIN}") if colour else (lambda code, text: text)


def line(link: Link, paint: Any) -> str:
    mark, code = MARKS[link.finding.state]
    waits = f" waits for {paint(BOLD, link.service)} {WAITS[link.condition]}:" if link.condition else ""
    subject = f"└─{waits}" if link.depth else paint(BOLD, link.service)
    indent = "   " * (link.depth - 1) + " " if link.depth else ""
    return f"{indent}{subject} {paint(code, mark)} {link.finding.text}"


def chase(services: Mapping[str, Any], rows: Sequence[ContainerRow], service: str) -> Iterator[Link]:
    """From a service to the first thing that holds it up, dependency by dependency. Pure."""
    condition, depth, seen = "", 0, set()
    while service not in seen:
        seen.add(service)
        finding = examine(services.get(service, {}), service, rows)
        blocked = next(blockers(services, rows, service), None) if idle(finding) else None
        if blocked:
            finding = finding._replace(text=f"{finding.text}, as it waits", state="waiting", tries=())
        yield Link(depth, service, condition, finding)
        if not blocked:
            return
        service, condition = blocked
        depth += 1


def idle(finding: Finding) -> bool:
    """Whether it never ran, so that its dependencies may be the reason."""
    return finding.state == "bad" and (finding.row is None or finding.row["state"] == "created")


def blockers(
    services: Mapping[str, Any], rows: Sequence[ContainerRow], service: str
) -> Iterator[tuple[str, str]]:
    """Dependencies whose condition does not hold."""
    for name, dependency in services.get(service, {}).get("depends_on", {}).items():
        condition = dependency.get("condition", "service_started")
        mine = own(rows, name)
        if name in services and not (mine and all(holds(condition, row) for row in mine)):
            yield name, condition


def own(rows: Sequence[ContainerRow], service: str) -> list[ContainerRow]:
    return [row for row in rows if row["service"] == service and not row["oneoff"]]


def holds(condition: str, row: ContainerRow) -> bool:
    if condition == "service_healthy":
        return row["health"] == "healthy" and row["state"] in ALIVE
    if condition == "service_completed_successfully":
        return row["state"] == "exited" and row["exit_code"] == 0
    return row["state"] in ALIVE or row["started_at"] > 0


def examine(data: Mapping[str, Any], service: str, rows: Sequence[ContainerRow]) -> Finding:
    """The worst of a service's containers."""
    mine = own(rows, service)
    if not mine:
        profiles = data.get("profiles")
        hint = f"`composer --profile {profiles[0]} up -d`" if profiles else f"`composer up -d {service}`"
        return Finding("bad", "has no container", tries=(hint,))
    order = {"bad": 0, "waiting": 1, "good": 2}
    return min((inspect(row) for row in mine), key=lambda finding: order[finding.state])


def inspect(row: ContainerRow) -> Finding:
    """What there is to say of one container. Pure but for the time."""
    name, state = row["name"], row["state"]
    if state == "paused" and row["plan"].get("gated"):
        return Finding("good", f"{name} is frozen, as nobody uses it: the next connection thaws it", row=row)
    if state == "paused":
        tries = (f"`composer unpause {row['service']}`",)
        return Finding("bad", f"{name} is paused", tries=tries, row=row)
    if state == "running":
        return running(row)
    if row["plan"].get("gated"):
        return Finding("good", f"{name} waits for a connection, which starts it", row=row)
    if state == "created":
        details = (row["reason"],) if row["reason"] else ()
        code = row["exit_code"]
        text = f"{name} could not be started ({code})" if code else f"{name} was never started"
        advised = () if details else (f"`composer up {row['service']}` says what is wrong",)
        return Finding("bad", text, details, advised, row)
    ended = f"{name}: {words.status(row).lower()}"
    if row["plan"]["stopped"] and not row["reason"].startswith("killed"):
        return Finding(
            "bad", f"{ended}, as it was asked to", tries=(f"`composer start {row['service']}`",), row=row
        )
    if row["exit_code"] == 0 and row["plan"]["restart"]["condition"] in ("no", "on-failure"):
        return Finding("good", f"{ended}: it has done its work", row=row)
    restarts = (f"restarted {row['restarts']} times by its policy",) if row["restarts"] else ()
    details = tuple(filter(None, (row["reason"], *restarts)))
    return Finding("bad", ended, details, advice(row), row)


def running(row: ContainerRow) -> Finding:
    up = f"{row['name']} is {words.status(row)[0].lower()}{words.status(row)[1:]}"
    if row["reason"]:
        return Finding("bad", up, (row["reason"],), row=row)
    health = row["plan"]["health"] or {}
    results = health.get("results") or []
    if row["health"] not in ("unhealthy", "starting") or (row["health"] == "starting" and not results):
        return Finding("waiting" if row["health"] == "starting" else "good", up, row=row)
    details = [f"last check ended with {results[-1].get('exit_code', '?')}"] if results else []
    details += (results[-1].get("output", "").strip().splitlines() if results else [])[-3:]
    tries = (
        f"`composer exec {row['service']} sh`, and run the check by hand",
        "a longer `start_period` or `timeout`, if it is only slow",
    )
    state = "bad" if row["health"] == "unhealthy" else "waiting"
    return Finding(state, up, tuple(details), tries, row)


def advice(row: ContainerRow) -> tuple[str, ...]:
    """What usually helps, by how it ended."""
    service, code = row["service"], row["exit_code"]
    common = f"`composer run --rm --entrypoint sh {service}` for a look around"
    if row["reason"].startswith("killed: it did not end"):
        return (f"`stop_signal`, `stop_grace_period` or `init: true` for {service}",)
    if row["plan"]["oom"]:
        return ("a higher `mem_limit`", f"`composer stats {service}` while it runs")
    by_code = {
        125: "`composer doctor`, as the container could not be made",
        126: "is the program executable, and made for this machine's architecture?",
        127: "is the program in the image, and in its PATH?",
        137: "somebody killed it: the kernel, for memory, or a person",
        139: "it crashed (segmentation fault)",
        143: "somebody asked it to end: SIGTERM",
    }
    return tuple(
        filter(None, (by_code.get(code, ""), common, f"`composer logs {service}` for all of its output"))
    )


def output(context: Context, row: ContainerRow | None, count: int, paint: Any) -> None:
    """The last lines that the container printed."""
    if row is None or count <= 0:
        return
    from composer.logs import Source, read

    source = Source(str(context.stack_paths.log(row["name"])), b"  | ")
    chunks = list(read([source], tail=count, since_ns=row["created_at"]))  # before: its predecessors'
    if any(chunks):
        print(paint(DIM, f"last lines of {row['name']}:"), flush=True)
        for chunk in chunks:
            os.write(1, chunk)
