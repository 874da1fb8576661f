"""Errors and warnings as people read them: place, the line itself with a caret, cause, remedy.

What comes from files is shown as text: control characters of a hostile file never reach the terminal.
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from collections.abc import Callable, Iterable
from functools import lru_cache

from composer.cli.context import wants_colour
from composer.cli.render.table import width
from composer.errors import Complaint, ComposerError, Place, StackFileError, dotted

RED, YELLOW, BLUE, BOLD, DIM, PLAIN = "\x1b[31m", "\x1b[33m", "\x1b[34m", "\x1b[1m", "\x1b[2m", "\x1b[0m"
WIDEST = 120
LARGEST = 16 << 20  # bytes of a file whose lines are shown; the loader takes no larger ones
_WORD = re.compile(r"[\"']?[\w.$/-]+[\"']?")

Paint = Callable[[str, str], str]
LineOf = Callable[[str, int], str | None]


def show_error(error: ComposerError) -> None:
    """Print `error` on standard error, in colour when that is a terminal."""
    paint = to_stderr()
    if isinstance(error, StackFileError):
        text = complaints(error.complaints, paint, source_line)
    else:
        text = f"{paint(RED, 'error:')} {plain(error.message)}".replace("\n", "\n       ")
        if error.hint:
            text += f"\n{remedy(error.hint, paint)}"
        for note in getattr(error, "__notes__", ()):
            text += f"\n  {paint(DIM, 'note:')} {plain(note)}"
    print(text, file=sys.stderr)


def remedy(hint: str, paint: Paint) -> str:
    """What to do about what stands above it."""
    return f"  {paint(BLUE, 'hint:')} {plain(hint)}"


def show_remedy(hint: str) -> None:
    """Print it on standard error."""
    print(remedy(hint, to_stderr()), file=sys.stderr)


def show_warnings(warnings: Iterable[Complaint]) -> None:
    """Print warnings on standard error."""
    paint = to_stderr()
    text = complaints(warnings, paint, source_line)
    if text:
        print(text, file=sys.stderr)


def to_stderr() -> Paint:
    ansi = os.environ.get("COMPOSE_ANSI", "auto")
    return painter(wants_colour(ansi, dict(os.environ), sys.stderr.isatty()))


def painter(colour: bool) -> Paint:
    return (lambda code, text: f"{code}{text}{PLAIN}") if colour else (lambda code, text: text)


def complaints(items: Iterable[Complaint], paint: Paint, line_of: LineOf) -> str:
    """All complaints, each with its line and a caret when the file can still be read."""
    return "\n".join(one(item, paint, line_of) for item in items)


def as_json(items: Iterable[Complaint]) -> str:
    """For editors and CI: a list of objects; `line` and `column` count from 1, or are null."""
    return json.dumps(
        [
            {
                "severity": "warning" if item.warning else "error",
                "file": item.place.file if item.place else None,
                "line": (item.place.line or None) if item.place else None,
                "column": (item.place.column or None) if item.place else None,
                "path": list(item.path),
                "message": item.message,
                "hint": item.hint,
            }
            for item in items
        ],
        indent=2,
        ensure_ascii=False,
    )


def one(item: Complaint, paint: Paint, line_of: LineOf) -> str:
    kind = paint(YELLOW, "warning:") if item.warning else paint(RED, "error:")
    where = f"{paint(BOLD, plain(str(near(item.place))))}: " if item.place else ""
    path = f"{plain(dotted(item.path))}: " if item.path else ""
    lines = [f"{where}{kind} {path}{plain(item.message)}"]
    if item.place and item.place.line and not item.warning:
        text = line_of(item.place.file, item.place.line)
        if text is not None:
            lines += excerpt(text, item.place.line, item.place.column, paint)
    if item.hint:
        lines.append(remedy(item.hint, paint))
    return "\n".join(lines)


def excerpt(text: str, line: int, column: int, paint: Paint) -> list[str]:
    """The line and a caret below `column` (from 1); of a long line the part around it."""
    start = max(column - 1, 0)
    left = max(start - WIDEST // 2, 0) if len(text) > WIDEST else 0
    shown = plain(text[left : left + WIDEST])
    word = _WORD.match(text, start)
    length = min(len(word[0]) if word else 1, max(left + WIDEST - start, 1))
    pad = "".join("\t" if char == "\t" else " " * width(char) for char in shown[: start - left])
    number = str(line)
    return [
        f"{paint(DIM, f'  {number} |')} {shown}",
        f"{paint(DIM, '  ' + ' ' * len(number) + ' |')} {pad}{paint(RED, '^' * length)}",
    ]


def near(place: Place) -> Place:
    """The place with its file as seen from the working directory, when it is below that."""
    try:
        below = os.path.relpath(place.file)
    except (OSError, ValueError):
        return place
    return place if below.startswith("..") or not os.path.isabs(place.file) else place.replace(file=below)


def plain(text: str) -> str:
    """`text` with a replacement for every character that could steer a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\t\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def source_line(file: str, line: int) -> str | None:
    """Line `line` (from 1) of `file`; None when it cannot be read (again)."""
    lines = _lines(file)
    return lines[line - 1] if line <= len(lines) else None


@lru_cache(maxsize=4)
def _lines(file: str) -> list[str]:
    try:
        status = os.stat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
            return []  # a pipe has been read already, and would block
        with open(file, encoding="utf-8", errors="replace") as text:
            return text.read().split("\n")
    except (OSError, ValueError):
        return []
