"""Errors and warnings as people read them: place, the line itself with a caret, cause, remedy."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable

from composer.cli.context import wants_colour
from composer.errors import Complaint, ComposerError, StackFileError, dotted

RED, YELLOW, BLUE, BOLD, DIM, PLAIN = "\x1b[31m", "\x1b[33m", "\x1b[34m", "\x1b[1m", "\x1b[2m", "\x1b[0m"
WIDEST = 160


def show_error(error: ComposerError) -> None:
    """Print `error` on standard error, in colour when that is a terminal."""
    paint = painter(wants_colour("auto", dict(os.environ), sys.stderr.isatty()))
    if isinstance(error, StackFileError):
        text = complaints(error.complaints, paint, source_line)
    else:
        text = f"{paint(RED, 'error:')} {error.message}"
        if error.hint:
            text += f"\n{paint(BLUE, 'hint:')} {error.hint}"
        for note in getattr(error, "__notes__", ()):
            text += f"\n{paint(DIM, 'note:')} {note}"
    print(text, file=sys.stderr)


def show_warnings(warnings: Iterable[Complaint]) -> None:
    """Print warnings on standard error."""
    paint = painter(wants_colour("auto", dict(os.environ), sys.stderr.isatty()))
    text = complaints(warnings, paint, source_line)
    if text:
        print(text, file=sys.stderr)


def painter(colour: bool) -> Callable[[str, str], str]:
    return (lambda code, text: f"{code}{text}{PLAIN}") if colour else (lambda code, text: text)


def complaints(
    items: Iterable[Complaint], paint: Callable[[str, str], str], line_of: Callable[[str, int], str | None]
) -> str:
    """All complaints, each with its line and a caret when the file can still be read."""
    return "\n".join(one(item, paint, line_of) for item in items)


def one(item: Complaint, paint: Callable[[str, str], str], line_of: Callable[[str, int], str | None]) -> str:
    kind = paint(YELLOW, "warning:") if item.warning else paint(RED, "error:")
    where = f"{paint(BOLD, str(item.place))}: " if item.place else ""
    path = f"{dotted(item.path)}: " if item.path else ""
    lines = [f"{where}{kind} {path}{item.message}"]
    if item.place and item.place.line and not item.warning:
        line = line_of(item.place.file, item.place.line)
        if line is not None and len(line) <= WIDEST:
            number = str(item.place.line)
            lines.append(f"{paint(DIM, f'  {number} |')} {line}")
            pad = "".join("\t" if c == "\t" else " " for c in line[: max(item.place.column - 1, 0)])
            lines.append(f"{paint(DIM, '  ' + ' ' * len(number) + ' |')} {pad}{paint(RED, '^')}")
    if item.hint:
        lines.append(f"  {paint(BLUE, 'hint:')} {item.hint}")
    return "\n".join(lines)


def source_line(file: str, line: int) -> str | None:
    """Line `line` (from 1) of `file`; None when it cannot be read any more."""
    try:
        with open(file, encoding="utf-8", errors="replace") as text:
            for number, content in enumerate(text, start=1):
                if number == line:
                    return content.rstrip("\r\n")
    except OSError:
        return None
    return None
