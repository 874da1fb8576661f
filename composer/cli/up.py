"""`composer up`: make the stack what its files say."""

from __future__ import annotations

from typing import Any

from composer.api.times import nanoseconds
from composer.cli import common, wish
from composer.cli.context import Context
from composer.cli.grammar import Flag, Verb
from composer.errors import NotFoundError, UsageError

VERB = Verb(
    "up",
    "Create and start containers",
    (
        Flag("abort-on-container-exit", "bool", "Stop everything when one container ends"),
        Flag("abort-on-container-failure", "bool", "Stop everything when one container fails"),
        Flag("always-recreate-deps", "bool", "Recreate dependencies too"),
        Flag("attach", "list", "Show the output of only these services", metavar="SERVICE"),
        Flag("attach-dependencies", "bool", "Show the output of dependencies too"),
        Flag("build", "bool", "Build images before starting"),
        Flag("detach", "bool", "Return when all is started", "d"),
        Flag("exit-code-from", "str", "End with the exit code of this service", metavar="SERVICE"),
        Flag("explain", "bool", "Say why each thing is done"),
        Flag("force-recreate", "bool", "Recreate containers though nothing changed"),
        Flag("from-snapshot", "str", "Begin with the data of this snapshot", metavar="[STACK/]SNAPSHOT"),
        common.LOCKED,
        Flag("menu", "bool", "Keys while attached to a terminal; COMPOSE_MENU=false, too", default=True),
        Flag("no-attach", "list", "Do not show the output of these services", metavar="SERVICE"),
        Flag("no-build", "bool", "Never build an image"),
        Flag("no-color", "bool", "No colours in the output"),
        Flag("no-deps", "bool", "Leave the services that these depend on alone"),
        Flag("no-log-prefix", "bool", "No names before the lines"),
        Flag("no-recreate", "bool", "Keep containers though something changed"),
        Flag("no-start", "bool", "Create, and do not start"),
        Flag(
            "pull",
            "str",
            "When to pull images",
            choices=("always", "missing", "never", "policy", "build", ""),
        ),
        Flag("quiet-build", "bool", "Do not show the build"),
        Flag("quiet-pull", "bool", "Do not show the pull"),
        Flag("remove-orphans", "bool", "Remove containers of services that are no longer in the file"),
        Flag(
            "renew-anon-volumes", "bool", "New anonymous volumes instead of those of the old container", "V"
        ),
        Flag("scale", "list", "SERVICE=N containers instead of what the file says", metavar="SERVICE=N"),
        common.TIMEOUT,
        Flag("timestamps", "bool", "Times before the lines"),
        Flag("wait", "bool", "Return when all is running and healthy; implies -d"),
        Flag("wait-timeout", "int", "Seconds to wait at most", metavar="SECONDS"),
        Flag("watch", "bool", "Bring what is saved here into containers, as `develop.watch` says", "w"),
        Flag("yes", "bool", "Make volumes anew, without their data, that the file describes otherwise", "y"),
    ),
    (common.SERVICES,),
    examples=(
        ("up --watch", "attached, and what is saved here reaches containers"),
        ("up -d --wait", "in the background, back when it is healthy"),
        ("up -d --locked", "with the images of compose.lock.yaml and no others"),
        ("up --explain", "and say which field made each change necessary"),
    ),
)
ABORTS = ("abort_on_container_exit", "abort_on_container_failure", "exit_code_from")


def run(context: Context, *, service: list[str], **flags: Any) -> int:
    detached = flags["detach"] or flags["wait"] or flags["no_start"] or context.dry_run
    check_flags(flags, detached)
    if not context.dry_run:
        start_early(context)
    context.check_identity()
    context.check_services(service)
    check_any(context)
    warn(context)
    if flags["locked"]:
        from composer.cli.lock import hold_for_up

        hold_for_up(context, service, flags["pull"], dependencies=not flags["no_deps"])
        flags["pull"] = "missing"
    if flags["yes"]:
        from composer.cli.renew import renew_volumes

        renew_volumes(context)
    flags["remove_orphans"] = context.removes_orphans(flags["remove_orphans"])
    if not flags["remove_orphans"]:
        context.tell_orphans()
    flags["build"] = flags["build"] or (flags["watch"] and not flags["no_build"])
    options = options_of(flags, service)
    context.check_services(options["scale"])
    if flags["from_snapshot"]:
        options = begin_from(context, options, flags)
    if not detached:
        from composer.cli.foreground import run_attached

        return run_attached(context, options, service, flags)
    return wish.carry_out(
        context,
        options,
        explain=flags["explain"] or context.dry_run,
        wait=flags["wait"],
        wait_timeout=flags["wait_timeout"],
        untold=wish.untold(flags),
        dry_run=context.dry_run,
    )


def begin_from(context: Context, options: dict[str, Any], flags: dict[str, Any]) -> dict[str, Any]:
    """Containers are made, with the data of a snapshot; the options of starting them."""
    from composer.api import trials

    subject = f"Snapshot {flags['from_snapshot']}"
    if context.dry_run:
        wish.announce([subject], "Restore")
        return options
    with wish.progress(context, untold=wish.untold(flags)) as heard:
        options, answer = trials.begin_from(context, options, flags["from_snapshot"], heard)
        heard(wish.done(subject, "Restored"))
    wish.report(answer)
    return options


def check_any(context: Context) -> None:
    """Raises NotFoundError when there is nothing to bring up, as when all services have profiles."""
    if not context.project.services and not context.options.get("all_resources"):
        inactive = context.project.stack_data.get("inactive", ())
        hint = f"{', '.join(inactive)}: name one, or its `--profile`" if inactive else None
        raise NotFoundError("no service selected", hint=hint)


def start_early(context: Context) -> None:
    """Start the supervisor before the files are read: it is ready when they are.

    If they turn out to be wrong, it finds nothing to do and leaves again.
    """
    from composer.api.client import start_keeper
    from composer.api.project import likely_name

    name = likely_name(context.options, context.environment)
    if name:
        try:
            start_keeper(context.paths.stack(name))
        except OSError:
            return  # told when it is started for good


def check_flags(flags: dict[str, Any], detached: bool) -> None:
    """Raises UsageError for values that cannot be, and flags that exclude each other as in Docker Compose."""
    options_of(flags, [])
    pairs = (("build", "no_build"), ("force_recreate", "no_recreate"), ("no_start", "wait"))
    for one, other in pairs:
        if flags[one] and flags[other]:
            raise UsageError(f"--{one} and --{other} exclude each other".replace("_", "-"))
    for name in (*ABORTS, "watch"):
        if flags[name] and detached:
            raise UsageError(f"--{name} and --detach exclude each other".replace("_", "-"))


def options_of(flags: dict[str, Any], services: list[str]) -> dict[str, Any]:
    same = (
        "no_deps", "no_start", "force_recreate", "no_recreate", "always_recreate_deps", "renew_anon_volumes",
        "remove_orphans", "build", "no_build",
    )  # fmt: skip
    return {
        "goal": "up",
        "services": services,
        "scale": scales(flags["scale"]),
        "pull": "" if flags["pull"] == "policy" else flags["pull"],
        "timeout": nanoseconds(flags["timeout"], "--timeout"),
        **{name: flags[name] for name in same},
    }


def scales(texts: list[str], flag: str = "--scale") -> dict[str, int]:
    """`web=3`. Raises UsageError."""
    found = {}
    for text in texts:
        name, _, count = text.partition("=")
        if not name or not count.isdigit():
            raise UsageError(f"{flag}: {text!r} is not SERVICE=NUMBER")
        found[name] = int(count)
    return found


def warn(context: Context) -> None:
    if context.project.warnings:
        from composer.cli.render.complaint import show_warnings

        show_warnings(context.project.warnings)
