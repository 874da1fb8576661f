"""What a verb's command line looks like, as values, and a reader for those that are plainly right.

One table of flags per verb drives everything: this reader (microseconds), and the typer application of
`cli.screens` (help, completion, usage errors), which takes over whenever this reader is not sure. Importing
and running typer costs 120 ms, twice the budget of `ps`; a command line without a mistake never needs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from keyword import iskeyword
from typing import Any, Literal

from composer.errors import UsageError
from composer.value import Value

Kind = Literal["bool", "str", "int", "list"]
EMPTY: Mapping[Kind, Any] = {"bool": False, "str": "", "int": None, "list": []}


class Flag(Value):
    """One option. `default` None means the kind's own: False, "", None, []."""

    name: str
    kind: Kind
    help: str
    short: str = ""
    default: Any = None
    metavar: str = ""
    choices: tuple[str, ...] = ()
    hidden: bool = False

    @property
    def key(self) -> str:
        """What Python can call it."""
        key = self.name.replace("-", "_")
        return f"{key}_" if iskeyword(key) else key

    @property
    def initial(self) -> Any:
        if self.default is not None:
            return self.default
        return list(EMPTY[self.kind]) if self.kind == "list" else EMPTY[self.kind]


class Positional(Value):
    """One argument. `many` takes all that is left; `complete` says what shell completion offers."""

    name: str
    help: str = ""
    many: bool = False
    required: bool = True
    complete: str = ""

    @property
    def key(self) -> str:
        """`REPOSITORY[:TAG]` and `SERVICE=N` are known by their first word."""
        return self.name.lower().replace("-", "_").partition("=")[0].partition("[")[0]


class Verb(Value):
    """A command. With `passthrough` options end at the first argument: the rest belongs to someone else."""

    name: str
    summary: str
    flags: tuple[Flag, ...] = ()
    positionals: tuple[Positional, ...] = ()
    passthrough: bool = False
    examples: tuple[tuple[str, str], ...] = ()


class Unsure(Exception):
    """This reader will not decide; typer shall."""


def refused(flag: str, text: str, what: str, hint: str | None = None) -> UsageError:
    """The words for a value that a flag cannot have: `text` is `what`."""
    return UsageError(f"{flag}: {text!r} is {what}", hint=hint)


def read(verb: Verb, argv: Sequence[str]) -> dict[str, Any]:
    """The values of every flag and positional.

    Raises Unsure for help, missing and unknown words, and anything unusual; UsageError for a value that its
    flag cannot have.
    """
    values, rest = read_flags(verb.flags, argv, stop_at_first=verb.passthrough)
    return values | assign(verb.positionals, rest)


def read_flags(
    flags: Sequence[Flag], argv: Sequence[str], *, stop_at_first: bool
) -> tuple[dict[str, Any], list[str]]:
    """Flags anywhere among the arguments (with `stop_at_first` only before the first), and the rest."""
    by_name = {f"--{flag.name}": flag for flag in flags}
    by_name |= {f"-{flag.short}": flag for flag in flags if flag.short}
    values = {flag.key: flag.initial for flag in flags}
    rest: list[str] = []
    words = list(argv)
    while words:
        word = words.pop(0)
        if word == "--":
            return values, rest + words
        if not word.startswith("-") or word == "-":
            rest.append(word)
            if stop_at_first:
                return values, rest + words
        elif word.startswith("--"):
            name, equals, text = word.partition("=")
            put(values, by_name.get(name), text if equals else None, words)
        else:
            short_flags(values, by_name, word, words)
    return values, rest


def short_flags(values: dict[str, Any], by_name: Mapping[str, Flag], word: str, words: list[str]) -> None:
    """`-dit`, `-f file`, `-ffile`, `-t=5`."""
    for index, letter in enumerate(word[1:], start=1):
        flag = by_name.get(f"-{letter}")
        tail = word[index + 1 :]
        if flag is not None and flag.kind == "bool" and not tail.startswith("="):
            values[flag.key] = True
            continue
        put(values, flag, tail.removeprefix("=") if tail else None, words)
        return


def put(values: dict[str, Any], flag: Flag | None, text: str | None, words: list[str]) -> None:
    if flag is None:
        raise Unsure
    if flag.kind == "bool":
        if text not in (None, "true", "false"):
            raise Unsure
        values[flag.key] = text != "false"
        return
    if text is None:
        if not words:
            raise Unsure
        text = words.pop(0)
    if flag.choices and text not in flag.choices:
        from composer.model.kinds import nearest  # only for mistakes

        words = [word for word in flag.choices if word]
        raise refused(f"--{flag.name}", text, f"none of {', '.join(words)}", nearest(text, words))
    if flag.kind == "list":
        values[flag.key].append(text)
    elif flag.kind == "int":
        try:
            values[flag.key] = int(text)
        except ValueError:
            raise refused(f"--{flag.name}", text, "no whole number", "as in 4") from None
    else:
        values[flag.key] = text


def assign(positionals: Sequence[Positional], words: list[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    words = list(words)
    for positional in positionals:
        if positional.many:
            if positional.required and not words:
                raise Unsure
            values[positional.key], words = words, []
        elif words:
            values[positional.key] = words.pop(0)
        elif positional.required:
            raise Unsure
        else:
            values[positional.key] = ""
    if words:
        raise Unsure
    return values
