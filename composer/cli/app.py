"""The front door: global options, the verb, its module, and the one place where errors become words."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import MutableMapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from composer.cli.grammar import Flag, Unsure, read, read_flags
from composer.cli.verbs import GROUPS, NO_DRY_RUN, VERBS, Entry
from composer.errors import ComposerError, UsageError

if TYPE_CHECKING:
    from composer.cli.context import Context
    from composer.cli.grammar import Verb

DRY_RUN = Flag("dry-run", "bool", "Show what would be done, and do nothing; also after the command")
ROOT_FLAGS = (
    Flag("file", "list", "Stack file (repeatable; - reads standard input)", "f", metavar="FILE"),
    Flag("project-name", "str", "Name of the stack", "p", metavar="NAME"),
    Flag("project-directory", "str", "Folder that relative paths start from", metavar="DIR"),
    Flag("profile", "list", "Profile to activate (repeatable)", metavar="NAME"),
    Flag("env-file", "list", "Environment file instead of .env (repeatable)", metavar="FILE"),
    Flag("parallel", "int", "How many actions at once at most; -1 is no limit", default=-1, metavar="N"),
    Flag(
        "progress",
        "str",
        "How progress is shown",
        default="auto",
        choices=("auto", "tty", "plain", "json", "quiet"),
    ),
    Flag("ansi", "str", "When to use colours", default="auto", choices=("never", "always", "auto")),
    Flag("compatibility", "bool", "Accepted for old scripts; names are as in current versions"),
    Flag("all-resources", "bool", "Keep networks, volumes, secrets and configs that no service uses"),
    DRY_RUN,
    Flag("offline", "bool", "Fetch nothing: no registry, and no network for builds"),
    Flag("verbose", "bool", "Accepted for old scripts; nothing more is said", hidden=True),
    Flag("version", "bool", "Show the version", "v"),
)


VARIABLES = {
    "ansi": "COMPOSE_ANSI",
    "dry-run": "COMPOSE_DRY_RUN",
    "offline": "COMPOSER_OFFLINE",
    "parallel": "COMPOSE_PARALLEL_LIMIT",
    "progress": "COMPOSE_PROGRESS",
}
SWITCHES = {"1": "true", "0": "false"}


def main(argv: Sequence[str]) -> int:
    """Run one command line; the exit code."""
    try:
        code = run(list(argv))
        sys.stdout.flush()
        return code
    except ComposerError as error:
        from composer.cli.render.complaint import show_error

        show_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        if sys.stderr.isatty():
            print(file=sys.stderr)  # after the ^C that the terminal shows
        return 130
    except BrokenPipeError:
        # The reader left (`| head`): nothing more to say, and Python must not complain while closing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO) or error.filename is not None:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        print(f"error: standard output cannot be written: {error.strerror}", file=sys.stderr)
        return 1


def run(argv: list[str]) -> int:
    try:
        options, rest = read_flags(ROOT_FLAGS, argv, stop_at_first=True)
        if options["version"] and not rest:
            rest = ["version"]
        path, words = find_verb(rest)
        values = read(table(VERBS[path]), words)
    except Unsure:
        return screens(argv)
    return invoke(path, options, values)


def find_verb(rest: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """The longest known verb at the start of `rest`, and the words after it."""
    for length in (2, 1):
        path = tuple(rest[:length])
        if len(path) == length and path in VERBS:
            return path, list(rest[length:])
    raise Unsure


def table(entry: Entry) -> Verb:
    """What a verb's command line looks like. As in Docker Compose `--dry-run` may stand here, too."""
    module = import_module(entry.module)
    verb: Verb = module.VERBS[entry.part] if entry.part else module.VERB
    return verb.replace(flags=(*verb.flags, DRY_RUN.replace(hidden=True)))


def invoke(path: tuple[str, ...], options: dict[str, Any], values: dict[str, Any]) -> int:
    entry = VERBS[path]
    if values.pop(DRY_RUN.key):
        options = {**options, DRY_RUN.key: True}
    if options.get("ansi", "auto") != "auto":  # errors are told where nobody knows the command line any more
        os.environ[VARIABLES["ansi"]] = options["ansi"]
    run = getattr(import_module(entry.module), f"run_{entry.part.replace('-', '_')}" if entry.part else "run")
    context = make_context(options, values.get("service") or [])
    if context.dry_run and path in NO_DRY_RUN:
        raise UsageError(f"`{' '.join(path)}` has no dry run, and was not done", hint="leave out --dry-run")
    code: int = run(context, **values)
    return code


def make_context(options: dict[str, Any], service: str | list[str]) -> Context:
    from composer.cli.context import Context

    named = [service] if isinstance(service, str) else service
    return Context(with_environment(options, os.environ), named)


def with_environment(options: dict[str, Any], environment: MutableMapping[str, str]) -> dict[str, Any]:
    """What was not said takes Docker Compose's variables. Raises UsageError for values that make no sense."""
    found = dict(options)
    for flag in ROOT_FLAGS:
        text = environment.get(VARIABLES.get(flag.name, ""), "")
        if not text or found.get(flag.key) != flag.initial:
            continue
        try:
            told = SWITCHES.get(text, text) if flag.kind == "bool" else text
            values, _ = read_flags((flag,), [f"--{flag.name}={told}"], stop_at_first=False)
        except (Unsure, UsageError):
            raise UsageError(f"{VARIABLES[flag.name]}: {text!r} makes no sense", hint=flag.help) from None
        found |= values
    if found.get("ansi") == "never":
        environment["NO_COLOR"] = "1"  # for errors, help, and whatever else asks
    if found.get("offline"):
        environment["COMPOSER_OFFLINE"] = "1"  # for whatever fetches
    return found


def screens(argv: list[str]) -> int:
    """Let typer show help or say what is wrong, and run the verb when it finds nothing wrong after all."""
    from composer.cli import screens as typer_screens
    from composer.cli.grammar import Verb

    options: dict[str, Any] = {}

    def keep(values: dict[str, Any]) -> None:
        options.update(values)

    def runner(path: tuple[str, ...]) -> typer_screens.Run:
        return lambda values: invoke(path, options, values)

    wanted = {word for word in argv if not word.startswith("-")}
    verbs: dict[tuple[str, ...], typer_screens.Shown] = {}
    for path, entry in VERBS.items():
        named = path[-1] in wanted and (len(path) == 1 or path[0] in wanted)
        verb = table(entry) if named else Verb(path[-1], entry.summary)
        verbs[path] = typer_screens.Shown(verb, runner(path), entry.panel, entry.hidden)
    app = typer_screens.build(ROOT_FLAGS, keep, verbs, GROUPS)
    try:
        app(argv or ["--help"], prog_name="composer")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0
