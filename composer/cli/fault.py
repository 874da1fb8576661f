"""`composer fault …`: disturb a stack on purpose, for a time, and undo it."""

from __future__ import annotations

import re
import signal
import sys
import time
from typing import Any

from composer.api.client import Supervisor
from composer.api.times import nanoseconds
from composer.api.trials import connected
from composer.cli import common, wish
from composer.cli.context import Context
from composer.cli.grammar import Flag, Positional, Verb, refused
from composer.cli.render.listing import listing, show
from composer.disk import is_locked, read_json
from composer.errors import UsageError

SECOND = 1_000_000_000
FOR = Flag("for", "str", "Undo it after this time", metavar="TIME")
DETACH = Flag("detach", "bool", "Return at once; it lasts until --for is over, or `fault clear`", "d")
WHILE = (FOR, DETACH)
SERVICES = Positional("SERVICE", "Which services", many=True, complete="service")
TARGETS = Positional("TARGET", "Services, on all their networks, or networks", many=True, complete="service")
PERCENT = re.compile(r"(\d+(?:\.\d+)?)%?")

VERBS = {
    "partition": Verb(
        "partition",
        "Keep the first service and the others from reaching each other",
        WHILE,
        (SERVICES,),
        examples=(
            ("partition web db", "until Ctrl-C"),
            ("partition --for 10s web db cache", "web reaches neither"),
        ),
    ),
    "drop": Verb(
        "drop",
        "Pull the network cable of services, or of all on a network",
        WHILE,
        (TARGETS,),
    ),
    "delay": Verb(
        "delay",
        "Have what services send arrive later, or not at all",
        (
            Flag("by", "str", "How much later", default="0ms", metavar="TIME"),
            Flag("jitter", "str", "More or less by up to this much", default="0ms", metavar="TIME"),
            Flag("loss", "str", "What share of packets gets lost", default="0%", metavar="PERCENT"),
            *WHILE,
        ),
        (TARGETS,),
        examples=(("delay --by 200ms --jitter 50ms --loss 1% db", "a bad line"),),
    ),
    "kill": Verb("kill", "Kill containers, and start them again afterwards", WHILE, (SERVICES,)),
    "pause": Verb("pause", "Freeze containers, and thaw them afterwards", WHILE, (SERVICES,)),
    "clock": Verb(
        "clock",
        "Restart services with clocks that are ahead or behind (not the time of day)",
        (Flag("by", "str", "By how much, as in 1h or -10m", metavar="TIME"), *WHILE),
        (SERVICES,),
    ),
    "freeze-dns": Verb(
        "freeze-dns",
        "Have services get no answers from their resolver",
        (
            Flag(
                "answer",
                "str",
                "What it says: nothing, or an error",
                default="silent",
                choices=("silent", "servfail", "nxdomain"),
            ),
            *WHILE,
        ),
        (SERVICES,),
    ),
    "fill-disk": Verb(
        "fill-disk",
        "Fill a bounded file system of a service: a tmpfs, or a volume with a size",
        (
            Flag("path", "str", "A directory in the container", metavar="DIR"),
            Flag("size", "str", "Take this much instead of all that is free", metavar="BYTES"),
            *WHILE,
        ),
        (common.SERVICE,),
        examples=(("fill-disk --path /dev/shm db", "no shared memory left"),),
    ),
    "ls": Verb(
        "ls",
        "List the faults of now",
        (common.FORMAT,),
    ),
    "clear": Verb(
        "clear",
        "Undo faults",
        (),
        (Positional("NUMBER", "Which; all when absent", many=True, required=False),),
    ),
}
COLUMNS = {"FAULT": "Number", "KIND": "Kind", "OF": "Targets", "SETTINGS": "Settings", "ENDS": "Ends"}


def run_partition(context: Context, *, service: list[str], **ways: Any) -> int:
    return inject(context, "partition", service, {}, ways)


def run_drop(context: Context, *, target: list[str], **ways: Any) -> int:
    return inject(context, "drop", target, {}, ways)


def run_delay(context: Context, *, target: list[str], by: str, jitter: str, loss: str, **ways: Any) -> int:
    settings = {"delay": seconds(by, "--by"), "jitter": seconds(jitter, "--jitter"), "loss": share(loss)}
    if not settings["delay"] and not settings["loss"]:
        raise UsageError("nothing would be different", hint="say --by TIME, --loss PERCENT, or both")
    return inject(context, "delay", target, settings, ways)


def run_kill(context: Context, *, service: list[str], **ways: Any) -> int:
    return inject(context, "kill", service, {}, ways)


def run_pause(context: Context, *, service: list[str], **ways: Any) -> int:
    return inject(context, "pause", service, {}, ways)


def run_clock(context: Context, *, service: list[str], by: str, **ways: Any) -> int:
    if not by:
        raise UsageError("clock: say by how much", hint="--by 1h, --by -10m")
    sign = -1 if by.startswith("-") else 1
    settings = {"seconds": sign * int(seconds(by.lstrip("+-"), "--by"))}
    return inject(context, "clock", service, settings, ways)


def run_freeze_dns(context: Context, *, service: list[str], answer: str, **ways: Any) -> int:
    return inject(context, "freeze-dns", service, {"answer": answer}, ways)


def run_fill_disk(context: Context, *, service: str, path: str, size: str, **ways: Any) -> int:
    if not path:
        raise UsageError("fill-disk: say where", hint="--path DIR, as in --path /dev/shm")
    return inject(context, "fill-disk", [service], {"path": path, "size": common.size(size, "--size")}, ways)


def inject(
    context: Context, kind: str, targets: list[str], settings: dict[str, Any], ways: dict[str, Any]
) -> int:
    """Begin a fault; stay with it until it is over, or until Ctrl-C, which undoes it."""
    if context.dry_run:
        return wish.announce([", ".join(targets)], kind)
    fields = {"kind": kind, "targets": targets, "settings": settings, "detach": ways["detach"]}
    lasts = nanoseconds(ways["for_"], "--for")
    number = 0

    def began(frame: dict[str, Any]) -> None:
        nonlocal number
        number = frame["event"]["fault"]["number"]
        wish.report(frame["event"])
        print(f"{kind} {number} acts" + ("" if lasts else "; Ctrl-C undoes it"), file=sys.stderr, flush=True)

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    with connected(context) as supervisor:
        request = supervisor.send("fault", None, lasts=lasts, **fields)
        try:
            answer = supervisor.result(request, began)
        except KeyboardInterrupt:
            if not number:
                raise
            supervisor.call("clear", numbers=[number])
            answer = supervisor.result(request)
        finally:
            signal.signal(signal.SIGTERM, before)
    if ways["detach"]:
        print(answer["fault"]["number"])
    else:
        print(f"{kind} {number} is undone", file=sys.stderr)
    return wish.report(answer)


def seconds(text: str, flag: str) -> float:
    return (nanoseconds(text, flag) or 0) / SECOND


def share(text: str) -> float:
    """`1%` is 0.01. Raises UsageError."""
    match = PERCENT.fullmatch(text)
    if not match or float(match[1]) > 100:
        raise refused("--loss", text, "no share", "as in 10%")
    return float(match[1]) / 100


def run_ls(context: Context, *, format: str) -> int:
    paths = context.stack_paths
    faults = (read_json(paths.faults) or []) if is_locked(paths.life) else []
    show(listing([as_json(fault) for fault in faults], COLUMNS, format))
    return 0


def as_json(fault: dict[str, Any]) -> dict[str, Any]:
    left = max(fault["until"] - time.time_ns(), 0) / SECOND
    ends = f"in {left:.0f} s" if fault["until"] else "with its command" if fault["tied"] else "by fault clear"
    return {
        "Ends": ends,
        "Kind": fault["kind"],
        "Number": fault["number"],
        "Settings": " ".join(f"{key}={value}" for key, value in fault["settings"].items() if value),
        "Targets": ",".join(fault["targets"]),
    }


def run_clear(context: Context, *, number: list[str]) -> int:
    """Raises UsageError for what is no number."""
    if wrong := [text for text in number if not text.isdecimal()]:
        raise UsageError(f"{wrong[0]!r} is not the number of a fault", hint="`composer fault ls` shows them")
    supervisor = Supervisor.connect(context.stack_paths)
    if supervisor is None:
        return 0  # with what ran all its faults are gone
    with supervisor:
        answer = supervisor.call("clear", numbers=[int(text) for text in number])
    for cleared in answer["cleared"]:
        print(cleared)
    return wish.report(answer)
