"""Logical lines as instructions: flags, arguments in either form, and what is wrong with them. Pure.

Variables are not replaced here: what they are worth depends on the stage and the step.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from composer.build.faults import DockerfileError, fault
from composer.build.lex import Heredoc, Line, Source, split
from composer.errors import Complaint, Place
from composer.value import Value


class Instruction(Value):
    """One instruction. `text` is all of it on one line, for people and for the image's history.

    `args` are words as written; of the shell form there is one, the command. `json` says that they came as a
    list. `pairs` are the names and values of ENV, LABEL and ARG (None: no value), `inner` what ONBUILD keeps
    for later; `comments` and `gap` are those of its `lex.Line`.
    """

    word: str
    place: Place
    text: str
    flags: tuple[tuple[str, str], ...] = ()
    args: tuple[str, ...] = ()
    json: bool = False
    pairs: tuple[tuple[str, str | None], ...] = ()
    heredocs: tuple[Heredoc, ...] = ()
    inner: Instruction | None = None
    comments: tuple[str, ...] = ()
    gap: bool = False

    def flag(self, name: str, default: str = "") -> str:
        """The last value of a flag, as written."""
        return next((value for key, value in reversed(self.flags) if key == name), default)

    def every(self, name: str) -> tuple[str, ...]:
        return tuple(value for key, value in self.flags if key == name)


class Wrong(ValueError):
    """What is wrong with one instruction: a sentence and a hint."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.message, self.hint = message, hint


Fields = dict[str, Any]


def parse(source: Source) -> tuple[Instruction, ...]:
    """All instructions. Raises DockerfileError with everything that is wrong."""
    found: list[Instruction] = []
    complaints: list[Complaint] = []
    for line in source.lines:
        try:
            found.append(instruction(line, source.place(line.number), source.escape))
        except Wrong as error:
            complaints.append(Complaint(error.message, source.place(line.number), hint=error.hint))
    first = next((one for one in found if one.word != "ARG"), None)
    if not complaints and (first is None or first.word != "FROM"):
        place = first.place if first else Place(source.file)
        raise fault(place, "no build stage has begun here", "only ARG may stand before the first FROM")
    if complaints:
        raise DockerfileError(complaints)
    return tuple(found)


def instruction(line: Line, place: Place, escape: str = "\\") -> Instruction:
    """Raises Wrong."""
    text = line.text.strip()
    word, rest = _first(text)
    word = word.upper()
    row = _ROWS.get(word)
    if row is None:
        close = get_close_matches(word, _ROWS, 1)
        raise Wrong(f"there is no instruction {word}", f"did you mean {close[0]}?" if close else None)
    flags, rest = _flags(word, rest, row.flags, escape)
    fields = row.read(rest, escape)
    count = len(fields["pairs"] if "pairs" in fields else fields["args"])
    if not row.least <= count <= row.most:
        raise Wrong(f"{word} {_wanted(row)}, not {count}", f"as in `{word} {row.form}`")
    if line.heredocs and fields.get("json"):
        raise Wrong(f"{word} in the form of a list has no heredocs")
    shown = text.replace("\n", " ") + "".join(f"\n{h.text}{h.name}" for h in line.heredocs)
    return Instruction(
        word=word,
        place=place,
        text=shown,
        flags=flags,
        heredocs=line.heredocs,
        comments=line.comments,
        gap=line.gap,
        **_checked(word, fields, place, line.heredocs),
    )


def _checked(word: str, fields: Fields, place: Place, heredocs: tuple[Heredoc, ...]) -> Fields:
    args: tuple[str, ...] = fields.get("args", ())
    if word == "SHELL" and not fields.get("json"):
        raise Wrong("SHELL needs a list", 'as in `SHELL ["/bin/bash", "-c"]`')
    if word == "FROM" and len(args) != 1 and (len(args) != 3 or args[1].upper() != "AS"):
        raise Wrong("FROM has one argument, or three", "as in `FROM image AS name`")
    if word == "ONBUILD":
        inner = instruction(Line(args[0], place.line, heredocs), place)
        if inner.word in ("ONBUILD", "FROM", "MAINTAINER"):
            raise Wrong(f"{inner.word} cannot be kept for later by ONBUILD")
        return {**fields, "inner": inner}
    return fields


def _wanted(row: _Row) -> str:
    if row.most == row.least:
        return f"takes {row.least} argument{'s' if row.least != 1 else ''}"
    return f"needs at least {row.least} argument{'s' if row.least != 1 else ''}"


def _first(text: str) -> tuple[str, str]:
    parts = text.split(None, 1)
    return parts[0], parts[1] if len(parts) > 1 else ""


def _flags(
    word: str, rest: str, known: tuple[str, ...], escape: str
) -> tuple[tuple[tuple[str, str], ...], str]:
    """The leading --name=value words, and what follows them."""
    found = []
    rest = rest.lstrip()
    while rest.startswith("--"):
        flag = split(rest, escape)[0]
        rest = rest[len(flag) :].lstrip()
        if flag == "--":
            break
        name, equals, value = flag[2:].partition("=")
        if name not in known:
            close = get_close_matches(name, known, 1)
            hint = f"did you mean --{close[0]}?" if close else f"it has {', '.join(known) or 'no flags'}"
            raise Wrong(f"{word} has no flag --{name}", hint)
        if not equals and name not in _SWITCHES:
            raise Wrong(f"{word} --{name} needs a value", f"--{name}=…")
        if name in _SWITCHES:
            value = value.lower() or "true"
            if value not in ("true", "false"):
                raise Wrong(f"{word} --{name}={value} is neither true nor false")
        found.append((name, value))
    return tuple(found), rest


# Readers: from the text after the flags to fields of an Instruction.


def _list(rest: str) -> tuple[str, ...] | None:
    """The strings of a JSON list; None for text that is no such list, which is then meant for the shell."""
    if not rest.lstrip().startswith("["):
        return None
    try:
        value = json.loads(rest)
    except ValueError:
        return None
    if not isinstance(value, list):
        return None
    if not all(isinstance(item, str) for item in value):
        raise Wrong("a list of arguments holds strings only", "put each into double quotes")
    return tuple(value)


def _command(rest: str, _: str) -> Fields:
    found = _list(rest)
    if found is not None:
        return {"args": found, "json": True}
    return {"args": (rest.strip(),) if rest.strip() else ()}


def _paths(rest: str, _: str) -> Fields:
    found = _list(rest)
    return {"args": tuple(rest.split()), "json": False} if found is None else {"args": found, "json": True}


def _words(rest: str, _: str) -> Fields:
    return {"args": tuple(rest.split())}


def _text(rest: str, _: str) -> Fields:
    return {"args": (rest.strip(),) if rest.strip() else ()}


def _pairs(rest: str, escape: str) -> Fields:
    """`a=b c="d e"`, or the old form `a b c`: one name, and all the rest is its value."""
    words = split(rest, escape)
    if words and "=" not in words[0]:
        name, value = _first(rest)
        if not value:
            raise Wrong(f"{name} has no value", f"as in `{name}=value`")
        return {"pairs": ((name, value.rstrip()),)}
    for word in words:
        if "=" not in word or word.startswith("="):
            raise Wrong(f"{word} is not of the form NAME=value")
    return {"pairs": tuple((word.partition("=")[0], word.partition("=")[2]) for word in words)}


def _arguments(rest: str, escape: str) -> Fields:
    pairs = []
    for word in split(rest, escape):
        name, equals, value = word.partition("=")
        if not name:
            raise Wrong("ARG without a name", "as in `ARG NAME=default`")
        pairs.append((name, value if equals else None))
    return {"pairs": tuple(pairs)}


def _health(rest: str, escape: str) -> Fields:
    kind, command = _first(rest) if rest.strip() else ("", "")
    if kind.upper() == "NONE":
        if command.strip():
            raise Wrong("HEALTHCHECK NONE has no arguments")
        return {"args": ("NONE",)}
    if kind.upper() != "CMD":
        raise Wrong(f"HEALTHCHECK {kind} is not known", "it is CMD with a command, or NONE")
    fields = _command(command, escape)
    if not fields["args"]:
        raise Wrong("HEALTHCHECK CMD lacks its command")
    return {**fields, "args": ("CMD", *fields["args"])}


class _Row(Value):
    read: Callable[[str, str], Fields]
    form: str
    least: int = 1
    most: int = 1 << 30
    flags: tuple[str, ...] = ()


_SWITCHES = ("link", "parents", "keep-git-dir", "unpack")
_ROWS = {
    "ADD": _Row(
        _paths,
        "<source> <target>",
        2,
        flags=("chown", "chmod", "link", "exclude", "checksum", "keep-git-dir", "unpack"),
    ),
    "ARG": _Row(_arguments, "NAME=default"),
    "CMD": _Row(_command, '["program", "argument"]', 0),
    "COPY": _Row(
        _paths, "<source> <target>", 2, flags=("from", "chown", "chmod", "link", "parents", "exclude")
    ),
    "ENTRYPOINT": _Row(_command, '["program", "argument"]', 0),
    "ENV": _Row(_pairs, "NAME=value"),
    "EXPOSE": _Row(_words, "8080/tcp"),
    "FROM": _Row(_words, "<image> AS <name>", flags=("platform",)),
    "HEALTHCHECK": _Row(
        _health,
        "CMD <command>",
        flags=("interval", "timeout", "start-period", "start-interval", "retries"),
    ),
    "LABEL": _Row(_pairs, "name=value"),
    "MAINTAINER": _Row(_text, "<name>", 1, 1),
    "ONBUILD": _Row(_text, "<instruction>", 1, 1),
    "RUN": _Row(_command, "<command>", flags=("mount", "network", "security")),
    "SHELL": _Row(_command, '["/bin/sh", "-c"]'),
    "STOPSIGNAL": _Row(_text, "SIGTERM", 1, 1),
    "USER": _Row(_text, "<name>", 1, 1),
    "VOLUME": _Row(_paths, "<path>"),
    "WORKDIR": _Row(_text, "<path>", 1, 1),
}
