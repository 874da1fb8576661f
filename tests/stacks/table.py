"""Behaviour in rows: a stack file, and commands with what is expected of each. Data, and the two that run it.

The same rows run with composer and with Docker Compose, where an engine can be run. A row that is meant to
differ says so by `theirs`, and its reason stands in docs/differences.md.
"""

from __future__ import annotations

import json
import re
import subprocess
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

IMAGE = "localhost/benchbox:1"


class Row(NamedTuple):
    """`out`: the whole standard output; `err`: a part of what goes to standard error; None: whatever it is.

    `ps`: what is there afterwards, as `web-1` to `running`, `exited 0`. In texts {s} is the stack's name.
    A `$` at the start of `command` is the shell in the stack's folder.
    """

    command: str
    code: int = 0
    out: str | None = None
    err: str | None = None
    ps: Mapping[str, str] | None = None
    theirs: Mapping[str, Any] | None = None
    """Fields in which Docker Compose differs."""


class Found(NamedTuple):
    code: int
    out: str
    err: str
    ps: dict[str, str]


Run = Callable[[list[str]], "subprocess.CompletedProcess[str]"]


def carry_out(row: Row, folder: Path, run: Run, *, look: bool = True) -> Found:
    """Do it, and look what is there."""
    if row.command.startswith("$"):
        done = subprocess.run(
            row.command[1:], shell=True, cwd=folder, capture_output=True, text=True, check=False
        )
    else:
        done = run(words(row.command))
    return Found(done.returncode, done.stdout, done.stderr, state(folder, run) if look else {})


def words(command: str) -> list[str]:
    import shlex

    return shlex.split(command)


def state(folder: Path, run: Run) -> dict[str, str]:
    """`ps -a` in short; one-off containers do not count, as their names are random."""
    found = {}
    for line in run(["ps", "-a", "--format", "json"]).stdout.splitlines():
        entry = json.loads(line)
        name = entry["Name"].removeprefix(f"{folder.name}-")
        if "-run-" not in name:
            text = entry["State"]
            found[name] = f"exited {entry['ExitCode']}" if text == "exited" else text
    return found


def complaints(row: Row, found: Found, name: str) -> list[str]:
    """In what way it is not as expected."""
    told = []
    if found.code != row.code:
        told.append(f"exit code {found.code}, not {row.code}")
    if row.out is not None and plain(found.out, name) != textwrap.dedent(row.out).strip():
        told.append(f"printed {plain(found.out, name)!r}, not {textwrap.dedent(row.out).strip()!r}")
    if row.err is not None and row.err.replace("{s}", name) not in found.err:
        told.append(f"{row.err!r} is not in its complaints")
    if row.ps is not None and found.ps != row.ps:
        told.append(f"there is {found.ps}, not {dict(row.ps)}")
    if "Traceback" in found.err:
        told.append("a traceback")
    return [*told, found.err[-800:]] if told else []


def plain(text: str, name: str) -> str:
    """Without the stack's name and what is another one each time."""
    text = re.sub(r"[0-9a-f]{64}", "{id}", text.replace(name, "{s}"))
    return "\n".join(line.rstrip() for line in text.splitlines()).strip()
