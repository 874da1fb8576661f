"""What shell completion offers, from the tables of the grammar alone: typer stays out of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

from composer.cli.app import ROOT_FLAGS, table
from composer.cli.grammar import Flag, Positional, Unsure, Verb, read_flags
from composer.cli.verbs import GROUPS, VERBS

FILES = ":files"
"""Offered instead of words: the shell completes names of files."""


def offers(words: Sequence[str]) -> list[tuple[str, str]]:
    """(word, help) for the last of `words`, which is incomplete; the others come before it."""
    *before, last = words or [""]
    path, rest = split(before)
    verb = table(VERBS[path]) if path in VERBS else None
    flags = verb.flags if verb else () if path else ROOT_FLAGS
    waiting = expects(flags, rest)
    if waiting is not None:
        return starting(last, of_flag(waiting))
    if last.startswith("-"):
        return starting(last, ((f"--{flag.name}", flag.help) for flag in flags if not flag.hidden))
    if verb is None:
        return starting(last, of_group(path))
    return starting(last, of_positional(verb, rest, before))


def split(words: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """The verb that is being written (or the group, or nothing), and the words after it."""
    at = 0
    while at < len(words) and words[at].startswith("-"):
        at += 2 if expects(ROOT_FLAGS, [words[at]]) else 1
    if at > len(words):
        return (), list(words)  # the value of a global option is still to come
    for length in (2, 1):
        path = tuple(words[at : at + length])
        if len(path) == length and (path in VERBS or (length == 1 and path[0] in GROUPS)):
            return path, list(words[at + length :])
    return (), list(words[at:])


def expects(flags: Sequence[Flag], words: Sequence[str]) -> Flag | None:
    """The flag whose value comes next."""
    if not words or not words[-1].startswith("-") or "=" in words[-1]:
        return None
    for flag in flags:
        named = words[-1] == f"--{flag.name}" or (flag.short and words[-1] == f"-{flag.short}")
        if named and flag.kind != "bool":
            return flag
    return None


def of_flag(flag: Flag) -> Iterator[tuple[str, str]]:
    if flag.choices:
        yield from ((text, "") for text in flag.choices if text)
    elif flag.metavar == "SERVICE" or flag.metavar.startswith("SERVICE="):
        yield from NAMES["service" if flag.metavar == "SERVICE" else "service="]({})
    elif flag.metavar in ("FILE", "DIR"):
        yield FILES, ""
    elif flag.name == "project-name":
        yield from NAMES["stack"]({})


def of_group(path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if path:
        yield from (
            (key[1], entry.summary) for key, entry in VERBS.items() if key[0] == path[0] and len(key) == 2
        )
        return
    yield from ((key[0], entry.summary) for key, entry in VERBS.items() if len(key) == 1 and not entry.hidden)
    yield from GROUPS.items()


def of_positional(verb: Verb, rest: Sequence[str], before: Sequence[str]) -> Iterator[tuple[str, str]]:
    try:
        _, given = read_flags(verb.flags, rest, stop_at_first=verb.passthrough)
    except Unsure:
        return
    wanted = position(verb.positionals, len(given))
    if wanted is None or not wanted.complete:
        if wanted is not None and wanted.name not in ("COMMAND",):
            yield FILES, ""
        return
    taken = set(given) if wanted.many else set()
    for name, text in NAMES[wanted.complete](options(before)):
        if name not in taken:
            yield name, text


def position(positionals: Sequence[Positional], number: int) -> Positional | None:
    if number < len(positionals):
        return positionals[number]
    return positionals[-1] if positionals and positionals[-1].many else None


def options(words: Sequence[str]) -> dict[str, Any]:
    """The global options at the front, as far as they are right."""
    try:
        return read_flags(ROOT_FLAGS, words, stop_at_first=True)[0]
    except Unsure:
        return {}


def starting(last: str, found: Any) -> list[tuple[str, str]]:
    return [(word, text) for word, text in found if word.startswith(last) or word == FILES]


# Names of things.


def services(given: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Services of the stack at hand; none when its files cannot be read."""
    from composer.cli.context import Context
    from composer.errors import ComposerError

    try:
        yield from ((name, "") for name in Context(given).project.services)
    except (ComposerError, OSError):
        return


def stack_names(given: dict[str, Any]) -> Iterator[tuple[str, str]]:
    from composer.paths import Paths
    from composer.record import stacks

    yield from ((record["stack"], record["working_dir"]) for record in stacks(Paths.here()))


def container_names(given: dict[str, Any]) -> Iterator[tuple[str, str]]:
    from composer.paths import Paths
    from composer.record import stacks

    yield from (
        (row["name"], row["image"]) for record in stacks(Paths.here()) for row in record["containers"]
    )


def stored(
    room: str, names: Callable[[Any, Any], Iterator[str]]
) -> Callable[[dict[str, Any]], Iterator[Any]]:
    def found(given: dict[str, Any]) -> Iterator[tuple[str, str]]:
        from composer.paths import Paths

        yield from ((name, "") for name in names(import_module(room), Paths.here()))

    return found


NAMES: Mapping[str, Callable[[dict[str, Any]], Iterable[tuple[str, str]]]] = {
    "service": services,
    "service=": lambda given: ((f"{name}=", text) for name, text in services(given)),
    "service:": lambda given: (*((f"{name}:", text) for name, text in services(given)), (FILES, "")),
    "stack": stack_names,
    "container": container_names,
    "volume": stored(
        "composer.volumes.store", lambda m, paths: (r.name for r in m.VolumeStore(paths).list())
    ),
    "network": stored("composer.network.registry", lambda m, paths: (r.name for r in m.networks(paths))),
    "image": stored(
        "composer.images.store", lambda m, paths: (n for s in m.Store(paths).summaries() for n in s.names)
    ),
    "snapshot": stored(
        "composer.volumes.snapshots", lambda m, paths: (s["name"] for s in m.SnapshotStore(paths).list())
    ),
    "shell": lambda given: ((name, "") for name in ("bash", "zsh", "fish")),
}
